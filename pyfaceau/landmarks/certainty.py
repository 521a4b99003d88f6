"""How sure the landmark detection validator is that 68 landmarks lie on a face.

The face inside the landmarks is warped, triangle by triangle, to the validator's reference shape,
normalised, and handed to a small network whose output units are bins of alignment error. The
certainty is the centre of the winning bin, from 1 (perfect) to 0: it takes as many values as the
network has outputs.

Source: OpenFace 2.2 specification, part 1 §7 and part 2 §11.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.cnn import Network
from pyfaceau.errors import ModelError
from pyfaceau.weights.models import Validator, ValidatorView


@dataclass(frozen=True)
class PreparedView:
    """One view of the validator as arrays for the kernel, with work buffers.

    Entries run over the reference shape's pixels inside the face, column by column.

    Attributes
    ----------
    orientation : (3,) float, rad
    pixels : i64 (k,), index row * width + column in the reference image
    triangle_of : i32 (k,), triangle of each pixel
    points : f32 (k, 2), reference coordinates (x, y) of each pixel
    triangles : i32 (t, 3), landmark indices
    weights : f32 (t, 6), alpha then beta of each triangle
    mean, deviation : f64 (k,), of the normalised training pixels
    network : the view's network
    sorted_ : as from `by_triangle`
    values : f64 (k,), work
    positions : i32 (2, k), work
    coefficients : f32 (t, 6), work
    """

    orientation: tuple[float, float, float]
    pixels: NDArray[np.int64]
    triangle_of: NDArray[np.int32]
    points: NDArray[np.float32]
    triangles: NDArray[np.int32]
    weights: NDArray[np.float32]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    network: Network
    sorted_: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
    values: NDArray[np.float64]
    positions: NDArray[np.int32]
    coefficients: NDArray[np.float32]

    @classmethod
    def prepare(cls, view: ValidatorView) -> PreparedView:
        """Flatten ``view``; raises :class:`~pyfaceau.errors.ModelError` if its parts do not fit each other."""
        height, width = view.triangle_id.shape
        columns, rows = np.nonzero(view.triangle_id.T >= 0)  # column by column
        if not len(rows) == view.mean.size == view.std.size:
            raise ModelError(
                f"detection validator: {len(rows)} face pixels, {view.mean.size} means, {view.std.size} deviations"
            )
        points = np.stack([columns, rows], axis=1).astype(np.float32) + np.array([view.min_x, view.min_y], np.float32)
        triangle_of = np.array(view.triangle_id[rows, columns], dtype=np.int32)
        network = Network.prepare(view.cnn, 1, height, width)
        pitch, yaw, roll = np.ravel(view.orientation)
        return cls(
            (float(pitch), float(yaw), float(roll)),
            rows * np.int64(width) + columns,
            triangle_of,
            points,
            np.array(view.triangles, dtype=np.int32),
            np.array(np.hstack([view.alpha, view.beta]), dtype=np.float32),
            np.array(view.mean, dtype=np.float64),
            np.array(view.std, dtype=np.float64),
            network,
            by_triangle(triangle_of, points, len(view.triangles)),
            np.zeros(len(rows), np.float64),
            np.zeros((2, len(rows)), np.int32),
            np.zeros((len(view.triangles), 6), np.float32),
        )


def by_triangle(
    triangle_of: NDArray[np.int32], points: NDArray[np.float32], triangles: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Pixels (k,) in the order of their triangles, whose maps then serve many in a row.

    Returns
    -------
    order : i32 (k,), indices of the pixels
    runs : i32 (triangles + 1,), where each triangle begins in `order`
    planar : f32 (2, k), ``points[order]``, all x, then all y
    """
    order = np.argsort(triangle_of, kind="stable").astype(np.int32)
    runs = np.searchsorted(triangle_of[order], np.arange(triangles + 1)).astype(np.int32)
    return order, runs, np.ascontiguousarray(points[order].T, dtype=np.float32)


class Certainty:
    """A detection validator, prepared with work buffers: make one per thread."""

    def __init__(self, validator: Validator) -> None:
        self.views = tuple(PreparedView.prepare(view) for view in validator.views)
        if not self.views:
            raise ModelError("detection validator: no views")
        self._orientations = np.array([view.orientation for view in self.views])

    def nearest_view(self, euler: NDArray[np.float32]) -> int:
        """Index of the view with the smallest Euclidean distance of angles (rad); the first one on ties."""
        return int(nearest_orientation(self._orientations, euler))

    def __call__(self, gray: NDArray[np.uint8], landmarks: NDArray[np.float32], euler: NDArray[np.float32]) -> float:
        """Certainty of ``landmarks``; see :func:`certainty`."""
        view = self.views[self.nearest_view(euler)]
        network = view.network
        found = face_image(
            gray, landmarks, view.pixels, *view.sorted_, view.triangles, view.weights, view.mean, view.deviation,
            view.positions, view.values, view.coefficients, network.input_buffer().reshape(-1),
        )  # fmt: skip
        if not found:
            return 0.0
        scores = network.run(1).reshape(-1)
        bins, winner = scores.size, int(scores.argmax())  # the first maximum
        # Rounded to float32 once, as the original's: with 20 bins, bin 5 is exactly the bound 0.725.
        error = -1 + 1 / bins + 2 * winner / bins
        return float(np.float32(0.5 * (1 - error)))


def certainty(
    gray: NDArray[np.uint8], landmarks: NDArray[np.float32], euler: NDArray[np.float32], prepared: Certainty
) -> float:
    """Certainty from 0 to 1 that ``landmarks`` mark a face in ``gray``.

    Parameters
    ----------
    gray : u8 (H, W)
    landmarks : f32 (2n,), all x then all y, pixels
    euler : f32 (3,), head rotation in rad; chooses the view
    prepared : the validator; its work buffers are overwritten

    A region of interest of less than two pixels gives 0, and so do landmarks that are no numbers.
    """
    return prepared(gray, landmarks, euler)


@kernel
def nearest_orientation(orientations, euler):
    """Index of the row of ``orientations`` f64 (nv, 3) that is nearest to ``euler`` f32 (3,); the first one on ties."""
    best, smallest = 0, np.inf
    for view in range(orientations.shape[0]):
        total = 0.0
        for axis in range(3):
            d = np.float64(euler[axis]) - orientations[view, axis]
            total += d * d
        distance = np.sqrt(total)  # equal distances may come from squares that differ
        if distance < smallest:
            best, smallest = view, distance
    return best


@kernel
def region(landmarks, height, width):
    """Region of interest (x0, y0, x1, y1), ends excluded: the landmarks' box, three pixels wider, inside the image."""
    n = len(landmarks) // 2
    low_x, high_x = landmarks[0], landmarks[0]
    low_y, high_y = landmarks[n], landmarks[n]
    total = np.float32(0)
    for i in range(n):
        x, y = landmarks[i], landmarks[n + i]
        low_x, high_x = min(low_x, x), max(high_x, x)
        low_y, high_y = min(low_y, y), max(high_y, y)
        total += x + y
    if not np.isfinite(total):
        return 0, 0, 0, 0
    margin = np.float32(3)
    # Clipped before the conversion: a lost fit may lie beyond the range of integers.
    x0 = int(min(max(low_x - margin, 0.0), float(width)))
    y0 = int(min(max(low_y - margin, 0.0), float(height)))
    x1 = int(min(max(high_x + margin, 0.0), width - 1.0))
    y1 = int(min(max(high_y + margin, 0.0), height - 1.0))
    return x0, y0, x1, y1


@kernel
def triangle_maps(landmarks, x0, y0, triangles, weights, coefficients):
    """Affine map of each triangle from reference coordinates to the region: x = c0 + c1 X + c2 Y, y likewise.

    Without fused operations and in this order, the sampling positions equal the reference program's to the bit.
    """
    n = len(landmarks) // 2
    left, top = np.float32(x0), np.float32(y0)
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        for axis in range(2):
            offset = left if axis == 0 else top
            origin = landmarks[axis * n + i] - offset
            to_j = (landmarks[axis * n + j] - offset) - origin
            to_k = (landmarks[axis * n + k] - offset) - origin
            coefficients[t, 3 * axis] = (origin + to_j * weights[t, 0]) + to_k * weights[t, 3]
            coefficients[t, 3 * axis + 1] = to_j * weights[t, 1] + to_k * weights[t, 4]
            coefficients[t, 3 * axis + 2] = to_j * weights[t, 2] + to_k * weights[t, 5]


@kernel
def sample(gray, x0, y0, x1, y1, order, runs, planar, coefficients, positions, values):
    """Sample the region at each reference pixel: bilinear at positions rounded to 1/32 px, 0 outside the region.

    The first arrays are those of `by_triangle`; ``positions`` is work space.
    """
    for t in range(len(runs) - 1):
        _positions(coefficients[t], planar, positions, runs[t], runs[t + 1])
    patch = gray[y0:y1, x0:x1]
    inner_h, inner_w = np.uint64(y1 - y0 - 1), np.uint64(x1 - x0 - 1)
    one = np.uint64(1)
    for k in range(len(order)):
        fixed_x, fixed_y = np.int64(positions[0, k]), np.int64(positions[1, k])
        x, y = fixed_x >> 5, fixed_y >> 5
        fx, fy = fixed_x & 31, fixed_y & 31
        # Weights are multiples of 1/1024 and grey values whole numbers: the sum is exact in any order.
        if np.uint64(x) < inner_w and np.uint64(y) < inner_h:  # negative numbers become huge ones
            i, j = np.uint64(y), np.uint64(x)
            a, c = np.int64(patch[i, j]), np.int64(patch[i + one, j])
            top = 32 * a + fx * (np.int64(patch[i, j + one]) - a)
            bottom = 32 * c + fx * (np.int64(patch[i + one, j + one]) - c)
            total = 32 * top + fy * (bottom - top)
        else:
            total = _sample_edge(patch, x, y, fx, fy)
        values[np.uint64(order[k])] = total / 1024.0


@kernel
def _positions(c, planar, positions, begin, end):
    """Where one triangle's pixels lie in the region, in 1/32 px."""
    scale, limit = np.float32(32), np.float32(1 << 20)
    xs, ys, out_x, out_y = planar[0, begin:end], planar[1, begin:end], positions[0, begin:end], positions[1, begin:end]
    for i in range(len(xs)):
        map_x = (c[0] + c[1] * xs[i] + c[2] * ys[i]) * scale
        map_y = (c[3] + c[4] * xs[i] + c[5] * ys[i]) * scale
        out_x[i] = np.int32(np.rint(min(max(map_x, -limit), limit)))
        out_y[i] = np.int32(np.rint(min(max(map_y, -limit), limit)))


@kernel
def _sample_edge(patch, x, y, fx, fy):
    """The same sum of four taps, some of which may lie outside ``patch`` and count as 0."""
    total = np.int64(0)
    for down in range(2):
        for right in range(2):
            if 0 <= y + down < patch.shape[0] and 0 <= x + right < patch.shape[1]:
                weight = (fy if down else 32 - fy) * (fx if right else 32 - fx)
                total += weight * np.int64(patch[y + down, x + right])
    return total


@kernel(fastmath={"contract", "reassoc", "nsz"})
def normalise(values, mean, deviation):
    """Pixels to mean 0 and deviation 1 (population), then by the training images' means and deviations, in place."""
    n = len(values)
    total = 0.0
    for p in range(n):
        total += values[p]
    average = total / n
    squares = 0.0
    for p in range(n):
        values[p] -= average
        squares += values[p] * values[p]
    spread = np.sqrt(squares / n)
    if spread == 0.0:
        spread = 1.0
    for p in range(n):
        values[p] = (values[p] / spread - mean[p]) / deviation[p]


@kernel
def face_image(
    gray, landmarks, pixels, order, runs, planar, triangles, weights, mean, deviation, positions, values, coefficients,
    image,
):  # fmt: skip
    """Write the network's input, pixels outside the face 0, into the flat ``image``; False if there is no region."""
    x0, y0, x1, y1 = region(landmarks, gray.shape[0], gray.shape[1])
    if x1 - x0 <= 1 or y1 - y0 <= 1:
        return False
    triangle_maps(landmarks, x0, y0, triangles, weights, coefficients)
    sample(gray, x0, y0, x1, y1, order, runs, planar, coefficients, positions, values)
    normalise(values, mean, deviation)
    image[:] = np.float32(0)
    for p in range(len(pixels)):
        image[pixels[p]] = values[p]
    return True
