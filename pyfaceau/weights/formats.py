"""Primitives of OpenFace's model files: a cursor over binary files, one over text files.

Binary files are plain little-endian dumps without magic or checksum, so every read checks the length
that is left and every matrix header is compared with the type the layout prescribes. All errors
are ModelError and name the file, what was being read, and the remedy.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import NoReturn

import numpy as np

from pyfaceau.errors import ModelError

REMEDY = "replace it: `pyfaceau models fetch`, or `pyfaceau models import DIR` from an OpenFace folder"
SUPPORT = 11  # every patch expert looks at 11 x 11 pixels (part 1 §0)

I32, F32, F64 = np.dtype("<i4"), np.dtype("<f4"), np.dtype("<f8")
_TYPE_OF_CODE: dict[int, np.dtype] = {0: np.dtype("u1"), 4: I32, 5: F32, 6: F64}
_CODE_OF_TYPE = {dtype: code for code, dtype in _TYPE_OF_CODE.items()}
_MAP_FROM = 1 << 22  # larger files are mapped, so that processes share their pages
_MAX_SIDE = 1 << 24  # a row, column or layer count beyond it is a misread header


def frozen(array: np.ndarray, dtype: np.dtype | type | None = None) -> np.ndarray:
    """``array`` as a read-only C-contiguous array; copied only where it has to be."""
    result = np.ascontiguousarray(array, dtype=dtype)
    if result.flags.writeable:
        if result is array or result.base is not None:
            result = result.copy()
        result.flags.writeable = False
    return result


def radians(degrees: np.ndarray) -> np.ndarray:
    """View angles (nv, 3): files hold degrees, the dataclasses radians."""
    return frozen(np.asarray(degrees, dtype=np.float64).reshape(-1, 3) * (np.pi / 180.0))


class MappedFile(mmap.mmap):
    """A read-only mapping that knows its file."""

    path: Path


def map_file(path: Path) -> MappedFile:
    """Map a whole file read-only."""
    return _open(path, map_from=0)  # type: ignore[return-value]


def mapped_place(array: np.ndarray) -> tuple[Path, int] | None:
    """File and byte offset of an array that is a contiguous view of a mapped model file, else None."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, MappedFile):
        return None
    start = np.frombuffer(base, np.uint8).ctypes.data
    return base.path, array.ctypes.data - start


def _open(path: Path, map_from: int) -> bytes | MappedFile:
    """The content of a file; mapped if it has ``map_from`` bytes or more."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size < map_from:
                return file.read()
            mapped = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.path = path
            return mapped
    except FileNotFoundError:
        raise ModelError(f"{path}: model file is missing; {REMEDY}") from None
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(f"{path}: cannot read the model file ({error}); {REMEDY}") from None


class BinaryFile:
    """Cursor over a binary model file. Arrays it returns are read-only views of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._buffer = _open(path, _MAP_FROM)
        self._offset = 0

    def fail(self, problem: str) -> NoReturn:
        """Raise ModelError about this file at the present offset."""
        raise ModelError(f"{self.path}: {problem} (at byte {self._offset}); {REMEDY}")

    def array(self, dtype: np.dtype, count: int, what: str) -> np.ndarray:
        """The next ``count`` items as a read-only (count,) view."""
        end = self._offset + dtype.itemsize * count
        if end > len(self._buffer):
            raise ModelError(
                f"{self.path}: the file is cut off: {len(self._buffer)} bytes found, "
                f"at least {end} expected ({what} at byte {self._offset}); {REMEDY}"
            )
        view = np.frombuffer(self._buffer, dtype, count, self._offset)
        self._offset = end
        return view

    def int32(self, what: str) -> int:
        """The next i32."""
        return int(self.array(I32, 1, what)[0])

    def float64(self, what: str) -> float:
        """The next f64."""
        return float(self.array(F64, 1, what)[0])

    def count(self, what: str, least: int = 0, most: int = 1 << 16) -> int:
        """The next i32, which counts something: fails outside ``least..most``."""
        value = self.int32(what)
        if not least <= value <= most:
            self.fail(f"{what} is {value}, expected {least} to {most}: not a file of this kind")
        return value

    def expect(self, value: int, what: str) -> None:
        """The next i32 must be ``value``."""
        found = self.int32(what)
        if found != value:
            self.fail(f"{what} is {found}, expected {value}: not a file of this kind")

    def matrix(
        self, what: str, *dtypes: np.dtype, rows: int | None = None, cols: int | None = None, items: int | None = None
    ) -> np.ndarray:
        """The next binary matrix as a (rows, cols) view.

        Fails unless its type is one of ``dtypes`` and its rows, columns and number of items are as given.
        """
        found_rows, found_cols, code = (int(v) for v in self.array(I32, 3, f"header of {what}"))
        wrong_size = (
            not (0 <= found_rows <= _MAX_SIDE and 0 <= found_cols <= _MAX_SIDE)
            or (rows is not None and found_rows != rows)
            or (cols is not None and found_cols != cols)
            or (items is not None and found_rows * found_cols != items)
        )
        if wrong_size:
            wanted = f"{items} items" if items is not None else f"{_any(rows)} x {_any(cols)}"
            self.fail(f"{what} is {found_rows} x {found_cols}, expected {wanted}: not a file of this kind")
        if code not in _TYPE_OF_CODE or _TYPE_OF_CODE[code] not in dtypes:
            codes = " or ".join(str(_CODE_OF_TYPE[dtype]) for dtype in dtypes)
            self.fail(f"{what} has matrix type {code}, expected {codes}: not a file of this kind")
        return self.array(_TYPE_OF_CODE[code], found_rows * found_cols, what).reshape(found_rows, found_cols)

    def close(self) -> None:
        """Fail if anything is left: the length must be exactly what the layout says."""
        if self._offset != len(self._buffer):
            raise ModelError(
                f"{self.path}: {len(self._buffer)} bytes found, {self._offset} expected: "
                f"{len(self._buffer) - self._offset} extra bytes at the end; {REMEDY}"
            )


class TextFile:
    """Cursor over the numbers of a text model file; lines that start with # are dropped if ``comments``."""

    def __init__(self, path: Path, comments: bool = True) -> None:
        self.path = path
        text = bytes(_open(path, _MAP_FROM)).decode("latin-1")
        if comments:
            text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        self._tokens = text.split()
        try:
            self._values = np.array(self._tokens, dtype=np.float64)
        except ValueError:
            raise ModelError(f"{path}: holds {self._first_word()!r} where a number is expected; {REMEDY}") from None
        self._offset = 0

    def _first_word(self) -> str:
        return next((token[:40] for token in self._tokens if not _is_number(token)), "")

    def fail(self, problem: str) -> NoReturn:
        """Raise ModelError about this file at the present number."""
        raise ModelError(f"{self.path}: {problem} (at number {self._offset + 1}); {REMEDY}")

    def numbers(self, count: int, what: str) -> np.ndarray:
        """The next ``count`` numbers, f64 (count,)."""
        end = self._offset + count
        if end > len(self._values):
            raise ModelError(
                f"{self.path}: the file is cut off: {len(self._values)} numbers found, "
                f"at least {end} expected ({what} at number {self._offset + 1}); {REMEDY}"
            )
        view = self._values[self._offset : end]
        self._offset = end
        return view

    def count(self, what: str, least: int = 0, most: int = 1 << 16) -> int:
        """The next number, which counts something: fails unless it is an integer in ``least..most``."""
        value = float(self.numbers(1, what)[0])
        if not (value.is_integer() and least <= value <= most):
            self.fail(f"{what} is {value:g}, expected an integer from {least} to {most}: not a file of this kind")
        return int(value)

    def matrix(
        self, what: str, dtype: np.dtype, rows: int | None = None, cols: int | None = None, items: int | None = None
    ) -> np.ndarray:
        """The next text matrix (rows, cols), f64 as read; its type code must be that of ``dtype``."""
        found_rows, found_cols = (
            self.count(f"rows of {what}", 0, _MAX_SIDE),
            self.count(f"columns of {what}", 0, _MAX_SIDE),
        )
        if (
            (rows is not None and found_rows != rows)
            or (cols is not None and found_cols != cols)
            or (items is not None and found_rows * found_cols != items)
        ):
            wanted = f"{items} items" if items is not None else f"{_any(rows)} x {_any(cols)}"
            self.fail(f"{what} is {found_rows} x {found_cols}, expected {wanted}: not a file of this kind")
        code = self.count(f"type of {what}")
        if code != _CODE_OF_TYPE[dtype]:
            self.fail(f"{what} has matrix type {code}, expected {_CODE_OF_TYPE[dtype]}: not a file of this kind")
        return self.numbers(found_rows * found_cols, what).reshape(found_rows, found_cols)

    def close(self) -> None:
        """Fail if anything is left."""
        if self._offset != len(self._values):
            raise ModelError(
                f"{self.path}: {len(self._values)} numbers found, {self._offset} expected: "
                f"extra numbers at the end; {REMEDY}"
            )


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _any(size: int | None) -> str:
    return "any" if size is None else str(size)
