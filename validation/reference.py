"""Reads OpenFace 2.2 CSVs of either dialect (OpenFace 2.2 specification, part 3 §12) into one table of numbers.

Dialects: the source's (``,`` and ``\n``) and that of the released binaries (``, `` with further blanks and CRLF).
Column groups may be missing. A last line that was cut off is left out and counted; a wrong line elsewhere is an error.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from validation.errors import HarnessError

_NOT_A_NUMBER = re.compile(r"^[+-]?(nan(\([a-z0-9_]*\))?|1\.#(qnan|ind|snan)\w*)$", re.IGNORECASE)
_INFINITE = re.compile(r"^([+-]?)(inf(inity)?|1\.#inf\w*)$", re.IGNORECASE)
_REQUIRED = ("frame", "success")


@dataclass(frozen=True)
class Table:
    """One CSV: ``values`` f64 (rows, columns) in file order, ``nan`` where a cell is empty or not a number."""

    name: str
    columns: tuple[str, ...]
    values: np.ndarray
    truncated_lines: int
    dialect: str

    @cached_property
    def _at(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.columns)}

    def has(self, *names: str) -> bool:
        """True if all these columns are present."""
        return all(name in self._at for name in names)

    def column(self, name: str) -> np.ndarray:
        """One column, f64 (rows,); ``HarnessError`` if the file lacks it."""
        if name not in self._at:
            raise HarnessError(f"{self.name}: no column {name!r}; write the CSV with the group it belongs to")
        return self.values[:, self._at[name]]

    def matrix(self, names: list[str]) -> np.ndarray:
        """Several columns, f64 (rows, len(names))."""
        absent = next((name for name in names if name not in self._at), None)
        if absent is not None:
            self.column(absent)  # says what is missing
        return self.values[:, [self._at[name] for name in names]]

    @cached_property
    def frame(self) -> np.ndarray:
        """Frame numbers, i64 (rows,), from 1."""
        return self.column("frame").astype(np.int64)

    @cached_property
    def face_id(self) -> np.ndarray:
        """Face numbers, i64 (rows,); all 0 where the file has no such column."""
        return self.column("face_id").astype(np.int64) if self.has("face_id") else np.zeros(len(self.values), np.int64)

    @cached_property
    def success(self) -> np.ndarray:
        """bool (rows,): the tracker had a face in this frame."""
        return self.column("success") > 0.5

    def names(self, pattern: str) -> list[str]:
        """Columns whose whole name fits the regular expression, in file order."""
        return list(_fitting(self.columns, pattern))


@lru_cache(maxsize=256)
def _fitting(columns: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    return tuple(name for name in columns if re.fullmatch(pattern, name))


def read_csv(path: str | Path) -> Table:
    """Read an OpenFace CSV; ``HarnessError`` names the file, the line and what to do."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HarnessError(f"{path}: cannot be read ({error.strerror}); name an OpenFace CSV") from error
    return parse_csv(data, str(path))


def parse_csv(data: bytes, name: str) -> Table:
    """As ``read_csv``, from bytes already in memory."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HarnessError(f"{name}: not a text file (byte {error.start}); name an OpenFace CSV") from error
    if not text.strip():
        raise HarnessError(f"{name}: the file is empty; its program did not get as far as the first frame")
    lines = text.replace("\r\n", "\n").split("\n")
    columns = tuple(part.strip() for part in lines[0].split(","))
    _check_header(columns, name)
    ended = lines[-1] == ""
    rows = [(i, line) for i, line in enumerate(lines[1:], start=2) if line.strip()]
    rows, truncated = _without_cut_line(rows, len(columns), ended)
    for i, line in rows:
        if line.count(",") != len(columns) - 1:
            found = line.count(",") + 1
            raise HarnessError(f"{name}, line {i}: {found} values where the header names {len(columns)}; write it anew")
    values = _numbers([line for _, line in rows], len(columns), name)
    table = Table(name, columns, values, truncated, "release" if ", " in lines[0] else "source")
    _check_rows(table)
    return table


def _check_header(columns: tuple[str, ...], name: str) -> None:
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise HarnessError(f"{name}: column {twice!r} appears twice; this is not an OpenFace CSV")
    if "face" in columns and "frame" not in columns:
        raise HarnessError(f"{name}: written by OpenFace's image mode, which has no frames; compare CSVs of videos")
    missing = [c for c in _REQUIRED if c not in columns]
    if missing:
        raise HarnessError(f"{name}: no column {missing[0]!r} in the first line: not an OpenFace CSV of a video")


def _without_cut_line(rows: list[tuple[int, str]], width: int, ended: bool) -> tuple[list[tuple[int, str]], int]:
    """Leave out a last line that was not written to its end: too few values, or a shorter last value and no newline."""
    if ended or not rows:
        return rows, 0
    last = rows[-1][1].split(",")
    cut = len(last) < width
    if not cut and len(rows) > 1:
        before = rows[-2][1].rpartition(",")[2].strip()
        cut = len(last[-1].strip().partition(".")[2]) < len(before.partition(".")[2])
    return (rows[:-1], 1) if cut else (rows, 0)


def _numbers(lines: list[str], width: int, name: str) -> np.ndarray:
    if not lines:
        return np.empty((0, width))
    try:
        return np.loadtxt(io.StringIO("\n".join(lines)), delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        rows = [[_number(cell, name, i) for cell in line.split(",")] for i, line in enumerate(lines, start=1)]
        return np.array(rows, dtype=np.float64)


def _number(cell: str, name: str, row: int) -> float:
    cell = cell.strip()
    if not cell or _NOT_A_NUMBER.match(cell):
        return float("nan")
    infinite = _INFINITE.match(cell)
    if infinite:
        return float(f"{infinite[1]}inf")
    try:
        return float(cell)
    except ValueError:
        raise HarnessError(f"{name}, data row {row}: {cell!r} is not a number; write the CSV anew") from None


def _check_rows(table: Table) -> None:
    if not len(table.values):
        return
    for column in ("frame", "face_id"):
        numbers = table.column(column) if table.has(column) else np.zeros(1)
        if not np.all(np.isfinite(numbers)) or np.any(numbers != np.round(numbers)):
            raise HarnessError(f"{table.name}: column {column!r} holds other than whole numbers; write the CSV anew")
    keys = np.stack([table.frame, table.face_id], axis=1)
    unique, counts = np.unique(keys, axis=0, return_counts=True)
    if np.any(counts > 1):
        frame, face = unique[np.argmax(counts > 1)]
        raise HarnessError(f"{table.name}: frame {frame} has face {face} twice; was one run appended to another?")
