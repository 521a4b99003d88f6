"""Fixed-point text of float32 numbers, as C's ``%.kf`` writes them, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel

#: Most bytes that one number and its separator can take in `_format_values`.
WIDEST = 28

_POWERS = np.array([10.0**k for k in range(7)])
_INTEGER_POWERS = np.array([10**k for k in range(7)], np.int64)
_MOST = 9.0e18  # Above it a scaled value does not fit 64 bits.
_ZERO, _POINT, _MINUS = 48, 46, 45


@kernel
def _format_values(values, decimals, separator, out):
    """Write values (W,) f32 with decimals (W,) u8 into out u8; returns the bytes used, -1 for a value beyond it.

    A float32 times 10^k is exact in float64 for k <= 6 (24 + 14 bits), so rounding it half to even gives the
    correctly rounded decimal, ties decided on the exact binary value as the C library does.
    """
    position = 0
    for i in range(values.shape[0]):
        if i > 0:
            for b in range(separator.shape[0]):
                out[position] = separator[b]
                position += 1
        value = np.float64(values[i])
        places = np.int64(decimals[i])
        scaled = abs(value) * _POWERS[places]
        if not scaled < _MOST:  # also true for NaN
            return -1
        if np.signbit(value):  # a negative zero keeps its sign
            out[position] = _MINUS
            position += 1
        number = np.int64(np.rint(scaled))
        whole = number // _INTEGER_POWERS[places]
        fraction = number - whole * _INTEGER_POWERS[places]
        digits = 1
        rest = whole // 10
        while rest > 0:
            digits += 1
            rest //= 10
        for d in range(position + digits - 1, position - 1, -1):
            out[d] = _ZERO + whole % 10
            whole //= 10
        position += digits
        if places > 0:
            out[position] = _POINT
            for d in range(position + places, position, -1):
                out[d] = _ZERO + fraction % 10
                fraction //= 10
            position += places + 1
    return position


def _format_in_python(values: NDArray[np.float32], decimals: NDArray[np.uint8], separator: bytes) -> bytes:
    return separator.join(b"%.*f" % (k, v) for v, k in zip(values.tolist(), decimals.tolist(), strict=True))


class RowFormatter:
    """Formats rows of float32 numbers with fixed decimals per column.

    Parameters
    ----------
    decimals : uint8 (W,), each at most 6.
    separator : bytes between two numbers.
    """

    def __init__(self, decimals: NDArray[np.uint8], separator: bytes) -> None:
        if decimals.size and int(decimals.max()) > 6:
            raise ValueError("at most 6 decimals keep a float32 exact")
        self._decimals = np.ascontiguousarray(decimals, np.uint8)
        self._separator = separator
        self._separator_bytes = np.frombuffer(separator, np.uint8).copy()
        self._buffer = np.empty(max(1, decimals.size) * (WIDEST + len(separator)), np.uint8)

    def __call__(self, values: NDArray[np.float32]) -> memoryview | bytes:
        """Text of float32 ``values`` (W,); a view that the next call overwrites. NaN is "nan", as in Python."""
        used = _format_values(values, self._decimals, self._separator_bytes, self._buffer)
        if used < 0:
            return _format_in_python(values, self._decimals, self._separator)
        return self._buffer.data[:used]
