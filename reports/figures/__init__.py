"""Every figure of the report. A figure is a function of a record; what it cannot draw it says why (``NotDrawn``)."""

from __future__ import annotations

from reports.figures import intensity, landmarks, presence, speed
from reports.figures.base import Drawing, Spec

FIGURES: tuple[Spec, ...] = (
    Spec("traces", intensity.SECTION, "AU intensity over time", intensity.traces),
    Spec("scatter", intensity.SECTION, "AU intensity, frame by frame", intensity.scatter),
    Spec("bland-altman", intensity.SECTION, "Bland–Altman", intensity.bland_altman),
    Spec("biases", intensity.SECTION, "Bias of every AU in every clip", intensity.biases),
    Spec("presence", presence.SECTION, "AU presence agreement", presence.matrix),
    Spec("ced", landmarks.SECTION, "Cumulative error distribution", landmarks.ced),
    Spec("mean-face", landmarks.SECTION, "Error of each landmark on the mean face", landmarks.mean_face),
    Spec("landmarks", landmarks.SECTION, "Error of each landmark in every clip", landmarks.every_landmark),
    Spec("latency", speed.SECTION, "Time per stage, beside the C++ program", speed.latency),
    Spec("rounds", speed.SECTION, "Working tree against base", speed.rounds),
)

__all__ = ["FIGURES", "Drawing", "Spec", "speed"]
