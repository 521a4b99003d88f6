from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from numba import njit

from pyfaceau import _cnn
from pyfaceau._simd_taps import tap_tile
from pyfaceau.cnn import Network, pooled_size
from pyfaceau.errors import ModelError
from pyfaceau.tests.cnn_twin import evaluate, max_pool
from pyfaceau.tests.shared import OPENFACE, needs_shared
from pyfaceau.weights.models import CNN, CNNLayer, Conv, Dense, MaxPool, MTCNNWeights, PReLU, ReLU, Sigmoid
from pyfaceau.weights.store import find_models, load_mtcnn


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def conv(rng: np.random.Generator, n_in: int, n_out: int, height: int, width: int) -> Conv:
    return Conv(floats(rng, n_out, n_in, height, width), floats(rng, n_out))


def dense(rng: np.random.Generator, n_in: int, n_out: int) -> Dense:
    return Dense(floats(rng, n_out, n_in) / np.float32(n_in**0.5), floats(rng, n_out))


def both_signs(rng: np.random.Generator, n: int) -> PReLU:
    return PReLU(rng.uniform(-0.5, 0.5, n).astype(np.float32))


def assert_like_twin(layers: list[CNNLayer], maps: int, height: int, width: int, batch: int, seed: int = 0) -> None:
    network_layers = CNN(tuple(layers))
    images = floats(np.random.default_rng(seed), 5, maps, height, width)
    result = Network.prepare(network_layers, maps, height, width, batch)(images)
    expected = np.stack([evaluate(network_layers, image) for image in images])
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", [(1, 1), (1, 4), (5, 2), (3, 3), (9, 9)])
@pytest.mark.parametrize("size", [(9, 9), (13, 31), (40, 33)])
def test_convolution_of_any_size_equals_its_twin(kernel: tuple[int, int], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    assert_like_twin([conv(rng, 3, 5, *kernel)], 3, *size, batch=2)


@pytest.mark.parametrize("maps", [9, 10, 13, 20, 21])
def test_maps_in_groups_equal_their_twin(maps: int) -> None:
    rng = np.random.default_rng(maps)
    assert_like_twin([conv(rng, 3, maps, 3, 3), ReLU(), MaxPool(2, 2, 2, 2)], maps=3, height=13, width=19, batch=3)


@pytest.mark.parametrize("pool", [(2, 2, 2, 2), (3, 3, 2, 2), (3, 2, 2, 1), (1, 3, 1, 2), (2, 1, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("size", [(12, 15), (15, 12)])
def test_fused_and_separate_pooling_equal_their_twin(pool: tuple[int, ...], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    window = MaxPool(*pool)
    assert_like_twin([conv(rng, 2, 4, 3, 4), both_signs(rng, 4), window], 2, *size, batch=3)
    assert_like_twin([conv(rng, 2, 4, 3, 4), window, ReLU()], 2, *size, batch=3)
    assert_like_twin([window, both_signs(rng, 2), conv(rng, 2, 3, 2, 2), Sigmoid()], 2, *size, batch=3)


def test_layers_in_unusual_orders_equal_their_twin() -> None:
    rng = np.random.default_rng(3)
    layers: list[CNNLayer] = [
        ReLU(), MaxPool(2, 2, 2, 2), MaxPool(2, 2, 1, 1), both_signs(rng, 2), Sigmoid(), conv(rng, 2, 7, 3, 3),
        ReLU(), ReLU(), MaxPool(3, 3, 2, 2), dense(rng, 7 * 5 * 3, 11), both_signs(rng, 11), dense(rng, 11, 4),
    ]  # fmt: skip
    assert_like_twin(layers, 2, 25, 17, batch=2)


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"), [(22, 3, 2, 11), (9, 3, 2, 4), (4, 2, 2, 2), (5, 2, 2, 3), (3, 3, 2, 1)]
)
def test_number_of_pooling_windows_rounds_half_away_from_zero(
    size: int, window: int, stride: int, expected: int
) -> None:
    assert pooled_size(size, window, stride) == expected
    assert max_pool(MaxPool(window, window, stride, stride), np.zeros((1, size, size))).shape == (1, expected, expected)


def test_a_window_over_the_edge_sees_only_the_map() -> None:
    image = -np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    pooled = Network.prepare(CNN((MaxPool(3, 3, 2, 2),)), 1, 4, 4)(image)
    assert pooled.tolist() == [[[[-1, -3], [-9, -11]]]]


def test_a_falling_activation_comes_before_the_maximum() -> None:
    image = np.array([-4, 1, -1, -2], np.float32).reshape(1, 1, 2, 2)
    layers = CNN((PReLU(np.array([-2], np.float32)), MaxPool(2, 2, 2, 2)))
    assert Network.prepare(layers, 1, 2, 2)(image).item() == 8


def test_fully_connected_inputs_run_down_the_columns_of_each_map() -> None:
    maps, height, width = 2, 3, 4
    image = np.arange(maps * height * width, dtype=np.float32).reshape(1, maps, height, width)
    one_by_one = CNN((Dense(np.eye(image.size, dtype=np.float32), np.zeros(image.size, np.float32)),))
    flat = Network.prepare(one_by_one, maps, height, width)(image).ravel()
    m, x, y = 1, 2, 1
    assert flat[m * height * width + x * height + y] == image[0, m, y, x]


def test_fully_connected_with_one_input_per_map_works_at_every_pixel() -> None:
    rng = np.random.default_rng(4)
    assert_like_twin([conv(rng, 1, 6, 3, 3), dense(rng, 6, 3)], 1, 8, 9, batch=1)


def test_results_depend_neither_on_the_batch_nor_on_the_thread() -> None:
    rng = np.random.default_rng(5)
    layers = CNN((conv(rng, 3, 9, 3, 3), both_signs(rng, 9), MaxPool(3, 3, 2, 2), dense(rng, 9 * 11 * 11, 6)))
    images = floats(rng, 6, 3, 24, 24)

    def run(batch: int) -> np.ndarray:
        return Network.prepare(layers, 3, 24, 24, batch)(images)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(run, [1, 2, 4, 6, 1, 1])
    assert all(np.array_equal(first, other) for other in others)


def test_one_network_serves_inputs_again_and_again() -> None:
    rng = np.random.default_rng(6)
    network = Network.prepare(CNN((conv(rng, 1, 3, 2, 2), ReLU(), MaxPool(2, 2, 2, 2))), 1, 9, 9)
    a, b = floats(rng, 1, 1, 9, 9), floats(rng, 1, 1, 9, 9)
    first = network(a)
    network(b * np.float32(1e6))
    assert np.array_equal(network(a), first)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [Conv(np.ones((2, 2, 3, 3), np.float32), np.ones(2, np.float32))],
        [Conv(np.ones((2, 1, 9, 3), np.float32), np.ones(2, np.float32))],
        [Dense(np.ones((2, 7), np.float32), np.ones(2, np.float32))],
        [PReLU(np.ones(3, np.float32))],
        [MaxPool(9, 2, 2, 2), ReLU()],
        [MaxPool(1, 1, 2, 2)],
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: list[CNNLayer]) -> None:
    with pytest.raises(ModelError, match="layer"):
        Network.prepare(CNN(tuple(layers)), 1, 8, 8)


def test_images_of_another_shape_are_refused() -> None:
    network = Network.prepare(CNN((ReLU(),)), 1, 8, 8)
    with pytest.raises(ValueError, match="shape"):
        network(np.zeros((1, 1, 8, 9), np.float32))


@pytest.mark.parametrize(("maps", "eights"), [(1, 1), (2, 3), (3, 4)])
def test_a_tile_sums_weighted_shifted_runs(maps: int, eights: int) -> None:
    rng = np.random.default_rng(7)
    tile, n, taps = tap_tile(maps, eights), 8 * eights, 12

    @njit
    def run(source, offsets, weights, out):
        tile(source, 3, offsets, 1, taps, weights, 4, taps + 1, 1, out, 2, n + 5)

    source, offsets, weights = floats(rng, 200), rng.integers(0, 100, taps + 1), floats(rng, 4 + maps * (taps + 1))
    out = np.zeros(2 + maps * (n + 5), np.float32)
    run(source, offsets, weights, out)
    runs = np.stack([source[3 + o : 3 + o + n] for o in offsets[1:]])
    rows = weights[4:].reshape(maps, -1)[:, :taps]
    expected = weights[1 : 1 + maps, None] + rows @ runs
    result = out[2:].reshape(maps, -1)
    np.testing.assert_allclose(result[:, :n], expected, atol=1e-5)
    assert not out[:2].any() and not result[:, n:].any()


def test_activations_equal_their_formulas() -> None:
    values = np.linspace(-3, 3, 41, dtype=np.float32)
    slope = np.float32(-0.25)
    formulas = [values, np.maximum(values, 0), np.where(values >= 0, values, slope * values), 1 / (1 + np.exp(-values))]
    for kind, expected in enumerate(formulas):
        result = values.copy()
        _cnn.activate(result, len(result), kind, slope)
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_dot_equals_its_formula() -> None:
    a, b = floats(np.random.default_rng(8), 2, 77)
    assert _cnn.dot(a, b, 70) == pytest.approx(float(a[:70].astype(float) @ b[:70]), abs=1e-5)


@cache
def mtcnn() -> MTCNNWeights:
    return load_mtcnn(find_models(OPENFACE))


def check_picture(height: int, width: int) -> np.ndarray:
    """The input of the specification's check vectors (part 1 §11)."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * x + y, 3 * x + 6 * y, 17 * x + 31 * y + x * y]) % 256
    return ((planes - 127.5) * 0.0078125).astype(np.float32)[None]


@needs_shared
def test_pnet_reproduces_the_check_vector() -> None:
    maps = Network.prepare(mtcnn().pnet, 3, 17, 24)(check_picture(17, 24))[0]
    assert maps.shape == (6, 4, 7)
    sums = [81.6999, -96.7148, 3.04758, -0.699714, -4.72937, 0.834633]
    np.testing.assert_allclose(maps.sum((1, 2)), sums, rtol=1e-5)
    assert (maps[0, 0, 1], maps[0, 1, 0]) == pytest.approx((3.64993, 2.85224), rel=1e-5)


@needs_shared
def test_rnet_reproduces_the_check_vector() -> None:
    output = Network.prepare(mtcnn().rnet, 3, 24, 24)(check_picture(24, 24)).ravel()
    np.testing.assert_allclose(
        output, [1.88993, -1.88896, -0.0199984, -0.090322, -0.103586, 0.202047], rtol=1e-5, atol=1e-6
    )


@needs_shared
def test_onet_reproduces_the_check_vector() -> None:
    output = Network.prepare(mtcnn().onet, 3, 48, 48)(check_picture(48, 48)).ravel()
    expected = [4.41741, -4.41402, 0.012247, -0.106624, -0.115526, 0.0566481, 0.224046, 0.610426]
    assert output.shape == (16,)
    np.testing.assert_allclose(output[:8], expected, rtol=1e-5, atol=1e-6)
