"""From 68 landmarks and a picture to action units."""

from pyfaceau.au.analyser import Analysis, Calibration, FaceAnalyser

__all__ = ["Analysis", "Calibration", "FaceAnalyser"]
