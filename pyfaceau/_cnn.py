"""Kernels of :mod:`pyfaceau.cnn`. A network is a table of operations over flat arrays; maps lie as described there."""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_taps import tap_tile

GROUP = 5 * WIDE // LANES  # maps that are summed together: twice as many sums fit the registers of AVX-512
GROUPED = 10  # maps that are divided into groups: an even number, so that what is left still comes in pairs
PLACES = 2 * WIDE  # where they are summed together
PAIR_PLACES = 4 * WIDE  # and where the last maps are, which come in pairs
STEP = 32  # runs are rounded up to this, so that the compiler's scalar remainder loop never runs

CONV, DENSE, POST = 0, 1, 2
IDENTITY, RELU, PRELU, SIGMOID = 0, 1, 2, 3

# Columns of the operation table: size of the input, of the maps before pooling, and of the output; where the
# operation's weights, biases, slopes and tap offsets start; number of taps, padded.
KIND, IN_MAPS, IN_H, IN_W, MAPS, H, W, ACT, POOL_X, POOL_Y, STRIDE_X, STRIDE_Y = range(12)
OUT_H, OUT_W, WEIGHTS, BIAS, SLOPE, OFFSETS, N_TAPS, FIELDS = range(12, 20)

_tile, _pair = tap_tile(GROUP, PLACES // LANES), tap_tile(2, PAIR_PLACES // LANES)


@kernel
def activate(values, n, kind, slope):
    """Apply an activation to ``values[:n]`` in place."""
    zero = np.float32(0)
    if kind == RELU:
        for i in range(n):
            values[i] = max(values[i], zero)
    elif kind == PRELU:
        for i in range(n):
            values[i] = max(values[i], zero) + slope * min(values[i], zero)
    elif kind == SIGMOID:
        one = np.float32(1)
        for i in range(n):
            values[i] = one / (one + np.exp(-values[i]))


@kernel
def pool(raw, pitch, rows, op, n_images, work, out):
    """Max-pool one map of all images, rows ``pitch`` and images ``rows`` rows apart, into the compact ``out``."""
    height, width = op[H], op[W]
    kx, ky, sx, sy = op[POOL_X], op[POOL_Y], op[STRIDE_X], op[STRIDE_Y]
    out_h, out_w = op[OUT_H], op[OUT_W]
    whole_h, whole_w = (height - ky) // sy + 1, (width - kx) // sx + 1
    if kx == 2 and ky == 2 and sx == 2 and sy == 2:
        for image in range(n_images):
            for y in range(whole_h):
                upper = raw[(image * rows + 2 * y) * pitch :]
                lower, line = upper[pitch:], out[(image * out_h + y) * out_w :]
                for x in range(whole_w):
                    line[x] = max(max(upper[2 * x], upper[2 * x + 1]), max(lower[2 * x], lower[2 * x + 1]))
    else:
        _pool_by_spreading(raw, pitch, rows, op, n_images, work, out)
    for image in range(n_images):
        for y in range(out_h):
            for x in range(whole_w if y < whole_h else 0, out_w):
                out[(image * out_h + y) * out_w + x] = clipped_maximum(
                    raw, (image * rows + y * sy) * pitch + x * sx, pitch,
                    min(ky, height - y * sy), min(kx, width - x * sx),
                )  # fmt: skip


@kernel
def _pool_by_spreading(raw, pitch, rows, op, n_images, work, out):
    """`pool` for windows of any size, those over the edge left out.

    The flat maps in ``work`` gather the maximum of the window that starts at every element: neighbour by
    neighbour along the row, then row by row, always from one array to another so that the loops vectorise.
    """
    height, width = op[H], op[W]
    kx, ky, sx, sy = op[POOL_X], op[POOL_Y], op[STRIDE_X], op[STRIDE_Y]
    out_h, out_w = op[OUT_H], op[OUT_W]
    n = (((n_images - 1) * rows + height - 1) * pitch + width + STEP - 1) // STEP * STEP
    source, spread, spare = raw, work[0], work[1]
    for step in range(max(kx + ky - 2, 1)):
        beside = source[(1 if step < kx - 1 else pitch) if kx + ky > 2 else 0 :]
        for i in range(n):
            spread[i] = max(source[i], beside[i])
        source, spread, spare = spread, spare, spread
    for image in range(n_images):
        for y in range(out_h):
            row = source[(image * rows + y * sy) * pitch :]
            line = out[(image * out_h + y) * out_w :]
            for x in range(out_w):
                line[x] = row[x * sx]


@kernel
def clipped_maximum(raw, start, pitch, height, width):
    best = raw[start]
    for y in range(height):
        for x in range(width):
            best = max(best, raw[start + y * pitch + x])
    return best


@kernel
def finish(raw, pitch, rows, op, weights, map_index, n_images, work, target):
    """Activation and pooling of one map of all images: from ``raw`` (rows ``pitch`` apart) to ``target``."""
    kind = op[ACT]
    slope = weights[op[SLOPE] + map_index] if kind == PRELU else np.float32(0)
    # Functions that never fall may follow the maximum, where there are fewer values.
    falling = kind == PRELU and slope < np.float32(0)
    if falling:
        activate(raw, ((n_images - 1) * rows + op[H] - 1) * pitch + op[W], kind, slope)
    size = op[OUT_H] * op[OUT_W]
    if op[POOL_X] * op[POOL_Y] * op[STRIDE_X] * op[STRIDE_Y] > 1:
        pool(raw, pitch, rows, op, n_images, work, target)
    else:
        # Rows in whole steps: what hangs over is overwritten by the next row, image or map.
        n = (op[W] + STEP - 1) // STEP * STEP
        for image in range(n_images):
            for y in range(op[H]):
                row, line = raw[(image * rows + y) * pitch :], target[image * size + y * op[W] :]
                for x in range(n):
                    line[x] = row[x]
    if not falling:
        activate(target, (n_images * size + STEP - 1) // STEP * STEP, kind, slope)


@kernel
def convolve(op, weights, offsets, source, target, raw, capacity, n_images):
    """Valid convolution, activation and pooling, a group or a pair of output maps at a time."""
    pitch = op[IN_W]
    # From the first image's first output to the last image's last one.
    length = ((n_images - 1) * op[IN_H] + op[H] - 1) * pitch + op[W]
    n_taps, at = op[N_TAPS], op[OFFSETS]
    size = capacity * op[OUT_H] * op[OUT_W]
    grouped = op[MAPS] // GROUPED * GROUPED
    flat, pitch_of_raw = raw.reshape(-1), raw.shape[1]
    first = 0
    while first < op[MAPS]:
        w, bias = op[WEIGHTS] + first * n_taps, op[BIAS] + first
        if first < grouped:
            count = GROUP
            for start in range(0, length, PLACES):
                _tile(source, start, offsets, at, n_taps, weights, w, n_taps, bias, flat, start, pitch_of_raw)
        else:
            count = min(2, op[MAPS] - first)
            for start in range(0, length, PAIR_PLACES):
                _pair(source, start, offsets, at, n_taps, weights, w, n_taps, bias, flat, start, pitch_of_raw)
        for k in range(count):
            to = target[(first + k) * size :]
            finish(raw[k], pitch, op[IN_H], op, weights, first + k, n_images, raw[GROUP:], to)
        first += count


@kernel(fastmath={"contract", "reassoc", "nsz"})
def dot(a, b, n):
    total = np.float32(0)
    for i in range(n):
        total += a[i] * b[i]
    return total


@kernel
def connect(op, weights, source, target, features, capacity, n_images):
    """Fully connected layer and activation."""
    pixels = op[IN_H] * op[IN_W]
    n_in = op[IN_MAPS] * pixels
    for image in range(n_images):
        for m in range(op[IN_MAPS]):
            for i in range(pixels):
                features[m * pixels + i] = source[(m * capacity + image) * pixels + i]
        for k in range(op[MAPS]):
            value = dot(features, weights[op[WEIGHTS] + k * n_in :], n_in) + weights[op[BIAS] + k]
            target[k * capacity + image] = value
    for k in range(op[MAPS]):
        slope = weights[op[SLOPE] + k] if op[ACT] == PRELU else np.float32(0)
        activate(target[k * capacity :], n_images, op[ACT], slope)


@kernel
def run_network(operations, weights, offsets, work, raw, features, capacity, n_images):
    """Evaluate a prepared network on ``n_images`` of at most ``capacity`` images; see :class:`pyfaceau.cnn.Network`."""
    for index in range(len(operations)):
        op = operations[index]
        source = work[index % 2]
        target = work[(index + 1) % 2]
        if op[KIND] == CONV:
            convolve(op, weights, offsets, source, target, raw, capacity, n_images)
        elif op[KIND] == DENSE:
            connect(op, weights, source, target, features, capacity, n_images)
        else:
            rows, pitch = op[IN_H], op[IN_W]
            plane = capacity * rows * pitch
            for m in range(op[MAPS]):
                size = capacity * op[OUT_H] * op[OUT_W]
                finish(source[m * plane :], pitch, rows, op, weights, m, n_images, raw[GROUP:], target[m * size :])
