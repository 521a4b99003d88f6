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
from pyfaceau.cnn import Network, run_network
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
    values : f64 (k,), work
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
    values: NDArray[np.float64]
    coefficients: NDArray[np.float32]

    @classmethod
    def prepare(cls, view: ValidatorView) -> PreparedView:
        """Flatten ``view``; raises :class:`~pyfaceau.errors.ModelError` if its parts do not fit each other."""
        height, width = view.triangle_id.shape
        columns, rows = np.nonzero(view.triangle_id.T >= 0)  # column by column
        if not len(rows) == view.mean.size == view.std.size:
            raise ModelError(
                f"detection validator: {len(rows)} face pixels but {view.mean.size} means and {view.std.size} deviations"
            )
        points = np.stack([columns + view.min_x, rows + view.min_y], axis=1)
        network = Network.prepare(view.cnn, 1, height, width)
        return cls(
            tuple(float(angle) for angle in np.ravel(view.orientation)),
            rows * np.int64(width) + columns,
            np.array(view.triangle_id[rows, columns], dtype=np.int32),
            np.array(points, dtype=np.float32),
            np.array(view.triangles, dtype=np.int32),
            np.array(np.hstack([view.alpha, view.beta]), dtype=np.float32),
            np.array(view.mean, dtype=np.float64),
            np.array(view.std, dtype=np.float64),
            network,
            np.zeros(len(rows), np.float64),
            np.zeros((len(view.triangles), 6), np.float32),
        )


class Certainty:
    """A detection validator, prepared with work buffers: make one per thread."""

    def __init__(self, validator: Validator) -> None:
        self.views = tuple(PreparedView.prepare(view) for view in validator.views)
        if not self.views:
            raise ModelError("detection validator: no views")

    def nearest_view(self, euler: NDArray[np.float32]) -> int:
        """Index of the view with the smallest Euclidean distance of angles (rad); the first one on ties."""
        x, y, z = float(euler[0]), float(euler[1]), float(euler[2])
        best, smallest = 0, np.inf
        for index, view in enumerate(self.views):
            a, b, c = view.orientation
            distance = ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) ** 0.5
            if distance < smallest:
                best, smallest = index, distance
        return best

    def __call__(self, gray: NDArray[np.uint8], landmarks: NDArray[np.float32], euler: NDArray[np.float32]) -> float:
        """Certainty of ``landmarks``; see :func:`certainty`."""
        view = self.views[self.nearest_view(euler)]
        network = view.network
        winner = _validate(
            gray, landmarks, view.pixels, view.triangle_of, view.points, view.triangles, view.weights,
            view.mean, view.deviation, view.values, view.coefficients, *network.program,
        )  # fmt: skip
        if winner < 0:
            return 0.0
        bins = int(np.prod(network.output_shape))
        # In float32 as the original: with 20 bins, bin 5 must come out as exactly the bound 0.725.
        unaligned = np.float32(-1 + 1 / bins + 2 * winner / bins)
        return float(np.float32(0.5) * (np.float32(1) - unaligned))


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
    """Affine map of each triangle from reference coordinates to the region: x = c0 + c1 X + c2 Y, y likewise."""
    n = len(landmarks) // 2
    left, top = np.float32(x0), np.float32(y0)
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        for axis in range(2):
            offset = left if axis == 0 else top
            origin = landmarks[axis * n + i] - offset
            to_j = (landmarks[axis * n + j] - offset) - origin
            to_k = (landmarks[axis * n + k] - offset) - origin
            for c in range(3):
                value = to_j * weights[t, c] + to_k * weights[t, 3 + c]
                coefficients[t, 3 * axis + c] = origin + value if c == 0 else value


@kernel
def sample(gray, x0, y0, x1, y1, triangle_of, points, coefficients, values):
    """Sample the region at each reference pixel: bilinear at positions rounded to 1/32 px, 0 outside the region."""
    height, width = y1 - y0, x1 - x0
    scale = np.float32(32)
    limit = np.float32(1 << 20)
    for p in range(len(values)):
        c = coefficients[triangle_of[p]]
        map_x = c[0] + c[1] * points[p, 0] + c[2] * points[p, 1]
        map_y = c[3] + c[4] * points[p, 0] + c[5] * points[p, 1]
        fixed_x = np.int64(np.rint(min(max(map_x * scale, -limit), limit)))
        fixed_y = np.int64(np.rint(min(max(map_y * scale, -limit), limit)))
        x, y = fixed_x >> 5, fixed_y >> 5
        fx, fy = fixed_x & 31, fixed_y & 31
        total = 0
        # Weights are multiples of 1/1024 and grey values whole numbers: the sum is exact.
        for down in range(2):
            for right in range(2):
                if 0 <= y + down < height and 0 <= x + right < width:
                    weight = (fy if down else 32 - fy) * (fx if right else 32 - fx)
                    total += weight * np.int64(gray[y0 + y + down, x0 + x + right])
        values[p] = total / 1024.0


@kernel
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
def _validate(
    gray, landmarks, pixels, triangle_of, points, triangles, triangle_weights, mean, deviation, values, coefficients,
    operations, weights, offsets, work, raw, features,
):  # fmt: skip
    """First winning output unit of the network, or -1 if the region of interest is degenerate."""
    x0, y0, x1, y1 = region(landmarks, gray.shape[0], gray.shape[1])
    if x1 - x0 <= 1 or y1 - y0 <= 1:
        return -1
    triangle_maps(landmarks, x0, y0, triangles, triangle_weights, coefficients)
    sample(gray, x0, y0, x1, y1, triangle_of, points, coefficients, values)
    normalise(values, mean, deviation)
    image = work[0, : operations[0, 2] * operations[0, 3]]
    image[:] = np.float32(0)
    for p in range(len(pixels)):
        image[pixels[p]] = values[p]
    run_network(operations, weights, offsets, work, raw, features, 1, 1)
    last = operations[len(operations) - 1]
    scores = work[len(operations) % 2]
    winner = 0
    for i in range(1, last[4] * last[12] * last[13]):
        if scores[i] > scores[winner]:
            winner = i
    return winner
