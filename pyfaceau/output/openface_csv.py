"""OpenFace's CSV file, to the byte (OpenFace 2.2 specification, part 3 §12.1-12.3).

Rows are written as they come, without the action units, which OpenFace corrects at the end of a video. They are
joined when the video has ended, and only then the file gets its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfaceau.face import Face
from pyfaceau.output.columns import Layout
from pyfaceau.output.decimal import RowFormatter
from pyfaceau.output.files import PartFile, part_of, writing


class Dialect(NamedTuple):
    """Separators of one variant of the file."""

    header: bytes
    value: bytes  #: between values of a file that has action units (OpenFace writes those files twice)
    value_without_aus: bytes
    au: bytes
    line_end: bytes


#: "source": the published source code. "release": the older released Windows programs, which keep the blank after
#: a comma when they write the file a second time.
DIALECTS = {
    "source": Dialect(b",", b",", b",", b",", b"\n"),
    "release": Dialect(b", ", b",  ", b", ", b", ", b"\r\n"),
}


class CsvWriter:
    """Writes one CSV: `write` a face per frame, `close` with the final action units, `publish`.

    Parameters
    ----------
    path : final name of the file. Until `publish` only ``.part`` files exist; `discard` removes them.
    layout : the columns.
    dialect : "source" or "release".
    """

    def __init__(self, path: Path, layout: Layout, dialect: str = "source") -> None:
        self.path = path
        self._layout = layout
        self._dialect = DIALECTS[dialect]
        self._separator = self._dialect.value if layout.au_names else self._dialect.value_without_aus
        self._head = self._separator.join((b"%d", b"%d", b"%.3f", b""))
        self._format = RowFormatter(layout.decimals, self._separator)
        self._row_end = b"\n" if layout.au_names else self._dialect.line_end
        self._values = np.empty(len(layout.values), np.float32)
        self._final = PartFile(path)
        self._rows = PartFile(_rows_of(path)) if layout.au_names else self._final
        self._count = 0
        header = self._dialect.header.join(name.encode() for name in layout.names)
        with writing(path):
            self._final.file.write(header + self._dialect.line_end)

    @staticmethod
    def rows_part_of(path: Path) -> Path:
        """Where the rows lie until the action units join them."""
        return part_of(_rows_of(path))

    def write(self, face: Face) -> None:
        """Append the row of ``face``."""
        self._layout.fill(face, self._values)
        head = self._head % (face.frame, face.face_id, face.timestamp)
        with writing(self.path):
            self._rows.file.write(b"".join((head, self._format(self._values), self._row_end)))
        self._count += 1

    def close(self, intensity: NDArray[np.float64] | None, presence: NDArray[np.float64] | None) -> None:
        """Complete the file with action units: float64 (rows, 17) and (rows, 18); ignored if it has none."""
        if self._layout.au_names:
            if intensity is None or presence is None:
                raise ValueError("the action units of the video are missing")
            self._join(np.hstack([intensity, presence]))
        self._final.close()

    def _join(self, aus: NDArray[np.float64]) -> None:
        expected = (self._count, len(self._layout.au_names))
        if aus.shape != expected:
            raise ValueError(f"action units of shape {aus.shape}, expected {expected}")
        template = b"".join([self._dialect.au + b"%.2f"] * aus.shape[1]) + self._dialect.line_end
        self._rows.close()
        with writing(self.path), open(self._rows.part, "rb", buffering=1 << 20) as rows:
            for line, values in zip(rows, aus, strict=True):
                self._final.file.write(line[:-1])
                self._final.file.write(template % tuple(values.tolist()))
        self._rows.discard()

    def publish(self) -> None:
        """Give the file its name."""
        self._final.publish()

    def discard(self) -> None:
        """Remove what was written."""
        self._rows.discard()
        self._final.discard()


def _rows_of(path: Path) -> Path:
    return path.with_name(path.name + ".rows")
