"""Readers of the text files: point distribution models, triangulations, early termination."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyfaceau.weights.formats import F64, I32, TextFile, frozen
from pyfaceau.weights.models import PDM


def read_pdm(path: Path) -> PDM:
    """Read a point distribution model (OpenFace 2.2 specification, part 1 §2)."""
    file = TextFile(path)
    mean = file.matrix("mean shape", F64, cols=1)
    if mean.shape[0] % 3 or not mean.shape[0]:
        file.fail(f"mean shape has {mean.shape[0]} rows, expected three per landmark")
    modes = file.matrix("modes", F64, rows=mean.shape[0])
    eigenvalues = file.matrix("eigenvalues", F64, rows=1, cols=modes.shape[1])
    file.close()
    return PDM(frozen(mean.ravel(), np.float32), frozen(modes, np.float32), frozen(eigenvalues.ravel(), np.float32))


def read_triangles(path: Path) -> np.ndarray:
    """Read one triangulation without comments (``tris_68_full.txt``, part 1 §8): i32 (T, 3)."""
    file = TextFile(path, comments=False)
    triangles = file.matrix("triangles", I32, cols=3)
    file.close()
    return frozen(triangles, np.int32)


def read_triangulations(path: Path) -> tuple[np.ndarray, ...]:
    """Read the triangulations of all views (``tris_68.txt``, part 1 §8): i32 (T, 3) each."""
    file = TextFile(path)
    views = file.count("number of views", 1)
    triangulations = tuple(
        frozen(file.matrix(f"triangles of view {view}", I32, cols=3), np.int32) for view in range(views)
    )
    file.close()
    return triangulations


def read_early_termination(path: Path, views: int) -> np.ndarray:
    """Read weights, biases and cutoffs per view (part 1 §5): f64 (3, views)."""
    file = TextFile(path, comments=False)
    values = file.numbers(3 * views, f"weights, biases and cutoffs of {views} views")
    file.close()
    return frozen(values.reshape(3, views))
