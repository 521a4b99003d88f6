"""Makes or renews goldens with a user's own FeatureExtraction binary."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from validation.errors import HarnessError
from validation.reference import Table, parse_csv, read_csv

TIMEOUT_S = 3600


def run_openface(binary: Path, video: Path, model: str, switches: str, environment: dict[str, str]) -> bytes:
    """The bytes of the CSV that ``binary`` writes for the video; ``HarnessError`` with its last words if it fails.

    The binary is called as ``FeatureExtraction -f VIDEO -mloc MODEL SWITCHES... -out_dir DIR``, in its own folder,
    where it finds ``model/`` and ``AU_predictors/``.
    """
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise HarnessError(f"{binary}: not a program; name OpenFace's FeatureExtraction")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(binary.resolve()), "-f", str(video.resolve()), "-mloc", model, *switches.split(), "-out_dir", folder,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=binary.resolve().parent, env={**os.environ, **environment},
                capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HarnessError(f"{binary}: does not run on {video.name} ({error})") from error
        csv = Path(folder) / f"{video.stem}.csv"
        if done.returncode != 0 or not csv.is_file():
            words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
            raise HarnessError(f"{binary}: exit code {done.returncode} on {video.name}, no usable CSV ({words})")
        text = csv.read_bytes()
        if read_csv(csv).truncated_lines:
            raise HarnessError(f"{binary}: the CSV of {video.name} is cut off; run it again")
        return text


@dataclass(frozen=True)
class ColumnDifference:
    """How a column changed: rows that differ and the largest difference."""

    column: str
    rows: int
    largest: float


def differences(old: bytes, new: bytes) -> list[str]:
    """What changed between two CSVs of one clip, one line each, columns with the largest change first."""
    a, b = parse_csv(old, "the present golden"), parse_csv(new, "the new CSV")
    lines = [f"column {c} is gone" for c in a.columns if not b.has(c)]
    lines += [f"column {c} is new" for c in b.columns if not a.has(c)]
    if len(a.values) != len(b.values):
        lines.append(f"{len(a.values)} rows before, {len(b.values)} now")
    found = column_differences(a, b)
    lines += [f"{d.column}: {d.rows} rows differ, by up to {d.largest:.6g}" for d in found]
    return lines or (["the numbers are equal, the text is not"] if old != new else [])


def column_differences(a: Table, b: Table) -> list[ColumnDifference]:
    """Columns that differ over the first common rows, the largest difference first."""
    rows = min(len(a.values), len(b.values))
    found = []
    for name in a.columns:
        if b.has(name):
            x, y = a.column(name)[:rows], b.column(name)[:rows]
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            if not same.all():
                gap = np.abs(x - y)[~same]
                found.append(ColumnDifference(name, int((~same).sum()), float(np.nan_to_num(gap, nan=np.inf).max())))
    return sorted(found, key=lambda d: -d.largest)
