"""OpenFace's ``.hog`` file (OpenFace 2.2 specification, part 3 §12.5).

No file header; per frame three int32 (12, 12, 31), a float32 flag (1 success, -1 failure) and 12*12*31 float32,
all little endian: row by row, column by column, 31 values a cell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyfaceau.errors import PyfaceauError
from pyfaceau.output.files import PartFile, writing

SHAPE = (12, 12, 31)
_RECORD = np.dtype([("shape", "<i4", 3), ("flag", "<f4"), ("values", "<f4", int(np.prod(SHAPE)))])


class HogWriter:
    """Writes descriptors frame by frame; the file gets its name by `publish`."""

    def __init__(self, path: Path) -> None:
        self._file = PartFile(path)
        self._record = np.zeros((), _RECORD)
        self._record["shape"] = SHAPE

    def write(self, success: bool, hog: NDArray[np.float32]) -> None:
        """Append one frame: OpenFace's ``success`` and the float32 descriptor (4464,)."""
        self._record["flag"] = 1.0 if success else -1.0
        self._record["values"] = hog
        with writing(self._file.path):
            self._file.file.write(self._record.tobytes())

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def publish(self) -> None:
        """Give the file its name."""
        self._file.publish()

    def discard(self) -> None:
        """Remove what was written."""
        self._file.discard()


def read_hog(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Success flags (n,) and descriptors float32 (n, 4464) of a file; `PyfaceauError` if it is none."""
    data = path.read_bytes()
    if len(data) % _RECORD.itemsize:
        raise PyfaceauError(f"{path}: its length is no multiple of {_RECORD.itemsize}: not a .hog file, or cut off")
    records = np.frombuffer(data, _RECORD)
    if not (records["shape"] == SHAPE).all():
        raise PyfaceauError(f"{path}: a record is not 12 x 12 x 31: not a .hog file of OpenFace 2.2")
    return records["flag"] > 0, records["values"].astype(np.float32)
