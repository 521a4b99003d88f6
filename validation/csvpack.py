"""Packs OpenFace CSVs to a few per cent of their size; unpacking gives the same bytes.

A reference CSV holds rounded decimals that change little from frame to frame, so every column is turned into
integers (the value times ten to its number of decimals), predicted, and the differences are compressed with LZMA.
The prediction is the previous frame's value or, for the CSV of another build, its own base CSV's value plus the
difference of the previous frame. Cells that this does not reproduce to the character (``-0.0``, ``nan``) are listed
as exceptions, so any rectangular text with ``,`` and ``\n`` survives; anything else is refused.

Layout of a packed file: magic ``OFCSV1\n``, then one LZMA stream (xz, with its own CRC-64) of: u32 length and JSON
header; the deltas, column by column, zig-zag coded as four planes of bytes, lowest first, all little-endian.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import struct
from functools import lru_cache

import numpy as np

from validation.errors import HarnessError

MAGIC = b"OFCSV1\n"


def pack(text: bytes, base: bytes | None = None) -> bytes:
    """Compress a CSV, given the CSV ``base`` that its reader will have too; ``HarnessError`` if not rectangular."""
    names, cells = _table(text)
    decimals, numbers, exceptions = _numbers(cells)
    prediction = _prediction(base, names, decimals, numbers.shape) if base is not None else np.zeros_like(numbers)
    header = {
        "columns": names,
        "rows": len(cells),
        "decimals": decimals,
        "exceptions": exceptions,
        "sha256": hashlib.sha256(text).hexdigest(),
        "base_sha256": hashlib.sha256(base).hexdigest() if base is not None else None,
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    deltas = np.diff(numbers - prediction, axis=0, prepend=0)
    zigzag = ((deltas << 1) ^ (deltas >> 63)).astype(np.uint64)
    if zigzag.size and int(zigzag.max()) >= 2**32:
        raise HarnessError("cannot pack this CSV: a value changes by more than 2^31 units of its last decimal")
    planes = zigzag.astype("<u4").T.ravel().view(np.uint8).reshape(-1, 4).T
    body = struct.pack("<I", len(encoded)) + encoded + planes.tobytes()
    packed = MAGIC + lzma.compress(body, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=_filters(len(body)))
    if unpack(packed, base) != text:
        raise HarnessError("cannot pack this CSV without loss; store it as it is")
    return packed


def unpack(packed: bytes, base: bytes | None = None) -> bytes:
    """The CSV's bytes, checked by SHA-256; ``HarnessError`` if the packed bytes or the base are not the right ones."""
    if not packed.startswith(MAGIC):
        raise HarnessError("not a packed CSV (wrong first bytes)")
    try:
        body = lzma.decompress(packed[len(MAGIC) :], format=lzma.FORMAT_XZ)
    except lzma.LZMAError as error:
        raise HarnessError(f"packed CSV is damaged ({error})") from error
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    names, rows, decimals = header["columns"], header["rows"], header["decimals"]
    if header["base_sha256"] is not None and (
        base is None or hashlib.sha256(base).hexdigest() != header["base_sha256"]
    ):
        raise HarnessError("packed CSV belongs to another base CSV than the one given")
    planes = np.frombuffer(body, np.uint8, offset=4 + length).reshape(4, -1)
    zigzag = np.ascontiguousarray(planes.T).view("<u4").reshape(len(names), rows).T.astype(np.int64)
    residual = np.cumsum((zigzag >> 1) ^ -(zigzag & 1), axis=0)
    if header["base_sha256"] is not None and base is not None:
        residual += _prediction(base, names, decimals, residual.shape)
    text = _text(names, decimals, residual, header["exceptions"])
    if hashlib.sha256(text).hexdigest() != header["sha256"]:
        raise HarnessError("packed CSV does not unpack to the bytes it was made from")
    return text


def _filters(size: int) -> list[dict[str, int]]:
    """The strongest LZMA2, with a dictionary no larger than the data: the default one costs 700 MB of memory."""
    dictionary = max(1 << 12, min(1 << 26, size))
    preset = 9 | lzma.PRESET_EXTREME
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary, "lc": 3, "lp": 0, "pb": 0}]


def _table(text: bytes) -> tuple[list[str], list[list[str]]]:
    try:
        lines = text.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise HarnessError(f"cannot pack this CSV: not plain ASCII ({error.reason})") from error
    if len(lines) < 2 or lines[-1] != "":
        raise HarnessError("cannot pack this CSV: its last line does not end")
    rows = [line.split(",") for line in lines[:-1]]
    if any(len(row) != len(rows[0]) for row in rows):
        raise HarnessError("cannot pack this CSV: its lines have different numbers of values")
    return rows[0], rows[1:]


def _numbers(cells: list[list[str]]) -> tuple[list[int], np.ndarray, list[list[object]]]:
    """Decimals per column, integers (rows, columns), and ``[row, column, text]`` of cells that these do not give."""
    columns = len(cells[0]) if cells else 0
    decimals, numbers, exceptions = [], np.zeros((len(cells), columns), np.int64), []
    for c in range(columns):
        places = len(cells[0][c].partition(".")[2])
        decimals.append(places)
        for r, row in enumerate(cells):
            cell = row[c]
            try:
                number = int(cell.replace(".", "", 1))
            except ValueError:
                number = int(numbers[r - 1, c]) if r else 0
            if abs(number) >= 2**31:
                number = 0
            numbers[r, c] = number
            if _format(number, places) != cell:
                exceptions.append([r, c, cell])
    return decimals, numbers, exceptions


def _format(number: int, places: int) -> str:
    if places == 0:
        return str(number)
    digits = str(abs(number)).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _text(names: list[str], decimals: list[int], numbers: np.ndarray, exceptions: list[list[object]]) -> bytes:
    # An integer of at most 31 bits over a power of ten prints as its own digits, so C's formatting of whole lines does.
    line = ",".join(f"%.{places}f" for places in decimals)
    lines = [line % tuple(row) for row in (numbers / 10.0 ** np.array(decimals)).tolist()]
    replaced: dict[int, list[str]] = {}
    for r, c, cell in exceptions:
        replaced.setdefault(r, lines[r].split(","))[c] = cell  # type: ignore[call-overload,arg-type]
    for r, cells in replaced.items():
        lines[r] = ",".join(cells)
    return "\n".join([",".join(names), *lines, ""]).encode("ascii")


def _prediction(base: bytes, names: list[str], decimals: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """The base CSV's integers where it has the same column and row, else 0. Any values would do, if always the same."""
    base_names, base_decimals, numbers = _base_numbers(base)
    at = {name: i for i, name in enumerate(base_names)}
    prediction = np.zeros(shape, np.int64)
    rows = min(shape[0], len(numbers))
    for c, name in enumerate(names):
        if name in at and base_decimals[at[name]] == decimals[c]:
            prediction[:rows, c] = numbers[:rows, at[name]]
    return prediction


@lru_cache(maxsize=1)
def _base_numbers(base: bytes) -> tuple[list[str], list[int], np.ndarray]:
    """Columns, decimals and integers of a base CSV; kept, as the repetitions of a clip share their base."""
    head, _, body = base.partition(b"\n")
    first = body.partition(b"\n")[0].decode("ascii").split(",")
    decimals = [len(cell.partition(".")[2]) for cell in first]
    if not body:
        return head.decode("ascii").split(","), decimals, np.empty((0, len(decimals)), np.int64)
    values = np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2, comments=None)
    scaled = np.rint(values * 10.0 ** np.array(decimals))
    scaled[~(np.abs(scaled) < 2**31)] = 0
    return head.decode("ascii").split(","), decimals, scaled.astype(np.int64)
