"""A small made-up OpenFace CSV, as text and as a table; nothing here needs weights, clips or the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from validation.reference import Table, parse_csv

AUS = ("01", "04", "12", "45")
FRAMES = 60


def make_csv(
    frames: int = FRAMES, seed: int = 1, noise: float = 0.0, lost: tuple[int, ...] = (), faces: int = 1
) -> str:
    """A moving face with four AUs in OpenFace's format; ``noise``: of another build; ``lost``: failed frames."""
    shape = np.random.default_rng(7).uniform(-60, 60, (68, 2))
    shape[36], shape[45] = (-45, -20), (45, -20)
    rng = np.random.default_rng(seed)
    header = ["frame", "face_id", "timestamp", "confidence", "success"]
    header += [f"gaze_{e}_{a}" for e in "01" for a in "xyz"] + ["gaze_angle_x", "gaze_angle_y"]
    header += [f"pose_{k}{a}" for k in "TR" for a in "xyz"]
    header += [f"x_{i}" for i in range(68)] + [f"y_{i}" for i in range(68)]
    header += [f"AU{au}_r" for au in AUS] + [f"AU{au}_c" for au in AUS]
    lines = [",".join(header)]
    for face in range(faces):
        for t in range(frames):
            ok = 0 if t + 1 in lost else 1
            phase = 2 * np.pi * t / 30 + face
            gaze = np.array([0.1 * np.sin(phase), 0.1, -0.99]) + noise * rng.normal(0, 0.001, 3)
            turn = np.array([0.1 * np.sin(phase), 0.2 * np.cos(phase), 0.05]) + noise * rng.normal(0, 0.001, 3)
            points = shape + [200 + 150 * face + 8 * np.sin(phase), 150] + noise * rng.normal(0, 0.1, (68, 2))
            amount = np.clip(1.5 + 1.5 * np.sin(phase + np.arange(4)) + noise * rng.normal(0, 0.05, 4), 0, 5)
            cells = [str(t + 1), str(face), f"{t / 30:.3f}", "0.98" if ok else "0.03", str(ok)]
            cells += [f"{v:.6f}" for v in [*gaze, *gaze]] + [f"{v:.3f}" for v in gaze[:2]]
            cells += [f"{v:.1f}" for v in (10.0, 20.0, 600.0)] + [f"{v:.3f}" for v in turn]
            cells += [f"{v:.1f}" for v in points[:, 0]] + [f"{v:.1f}" for v in points[:, 1]]
            cells += [f"{v:.2f}" for v in amount] + [f"{float(v > 1.5):.2f}" for v in amount]
            lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def table(text: str, name: str = "made-up.csv") -> Table:
    """The text, parsed."""
    return parse_csv(text.encode(), name)


@pytest.fixture
def reference() -> Table:
    """Sixty frames of one face."""
    return table(make_csv(), "reference.csv")


@pytest.fixture
def other() -> Table:
    """The same clip by another build."""
    return table(make_csv(seed=2, noise=0.2), "other.csv")


@pytest.fixture
def csv_files(tmp_path: Path) -> tuple[Path, Path]:
    """Both as files."""
    a, b = tmp_path / "reference.csv", tmp_path / "other.csv"
    a.write_text(make_csv())
    b.write_text(make_csv(seed=2, noise=0.2))
    return a, b
