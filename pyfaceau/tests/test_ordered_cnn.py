from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pyfaceau.errors import ModelError
from pyfaceau.ordered_cnn import OrderedNetwork
from pyfaceau.tests import cnn_twin, gemm_twin
from pyfaceau.tests.shared import OPENFACE, needs_shared, stage
from pyfaceau.tests.test_cnn import both_signs, conv, dense, floats
from pyfaceau.weights.models import CNN, CNNLayer, Conv, Dense, MaxPool, MTCNNWeights, PReLU, ReLU, Sigmoid
from pyfaceau.weights.store import find_models, load_mtcnn

CLIPS = ["video01", "2015-10-15-15-14"]


def evaluate(cnn: CNN, images: np.ndarray, batch: int = 2) -> np.ndarray:
    """All of ``images`` (n, maps, height, width)."""
    _, maps, height, width = images.shape
    network = OrderedNetwork.prepare(cnn, maps, height, width, batch)
    found = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        network.input_buffer()[:, : len(part)] = part.swapaxes(0, 1)
        found.append(network.run(len(part)).swapaxes(0, 1).copy())
    return np.concatenate(found)


def twin(cnn: CNN, maps: np.ndarray) -> np.ndarray:
    """Layer by layer, in the reference's order and precision."""
    for layer in cnn.layers:
        match layer:
            case Conv():
                n_out, n_in, kh, kw = layer.kernels.shape
                height, width = maps.shape[1] - kh + 1, maps.shape[2] - kw + 1
                windows = [
                    maps[c, y : y + height, x : x + width].ravel()
                    for c in range(n_in)
                    for x in range(kw)
                    for y in range(kh)
                ]
                weights = [layer.kernels[:, c, y, x] for c in range(n_in) for x in range(kw) for y in range(kh)]
                left = np.stack([*windows, np.ones_like(windows[0])])
                nothing = np.zeros((height * width, n_out), np.float32)
                product = gemm_twin.add_product(left, np.stack([*weights, layer.bias]), nothing)
                maps = product.T.reshape(n_out, height, width)
            case Dense() if len(layer.bias) >= 100:
                column_major = maps.transpose(0, 2, 1).reshape(-1, 1)
                maps = gemm_twin.add_product(column_major, layer.weights.T, layer.bias[None]).reshape(-1, 1, 1)
            case Dense() if maps[0].size > 1 and layer.weights.shape[1] == len(maps):
                product = np.einsum("kc,cyx->kyx", layer.weights.astype(float), maps).astype(np.float32)
                maps = product + layer.bias[:, None, None]
            case MaxPool():
                maps = cnn_twin.max_pool(layer, maps)
            case _:  # in float64, rounded once; the product of two floats is exact in it
                maps = cnn_twin.apply(layer, maps.astype(float)).astype(np.float32)
    return maps


def assert_like_twin(layers: list[CNNLayer], maps: int, height: int, width: int) -> None:
    cnn, images = CNN(tuple(layers)), floats(np.random.default_rng(1), 3, maps, height, width)
    found = evaluate(cnn, images)
    assert np.array_equal(found, np.stack([twin(cnn, image) for image in images]))
    expected = np.stack([cnn_twin.evaluate(cnn, image) for image in images])
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())


def test_convolution_activation_pooling_and_both_kinds_of_dense_layer() -> None:
    rng = np.random.default_rng(0)
    assert_like_twin(
        [
            conv(rng, 3, 28, 3, 2), both_signs(rng, 28), MaxPool(3, 2, 2, 3), conv(rng, 28, 20, 2, 2), ReLU(),
            MaxPool(2, 2, 2, 2), dense(rng, 20 * 2 * 2, 100), both_signs(rng, 100), dense(rng, 100, 11),
        ],
        3, 15, 12,
    )  # fmt: skip


def test_depth_of_more_than_one_block() -> None:
    rng = np.random.default_rng(2)
    assert_like_twin([conv(rng, 40, 17, 3, 3), dense(rng, 17 * 5 * 4, 99), dense(rng, 99, 130)], 40, 7, 6)


def test_one_unit_per_map() -> None:
    rng = np.random.default_rng(3)
    assert_like_twin([conv(rng, 2, 10, 2, 2), both_signs(rng, 10), dense(rng, 10, 6)], 2, 6, 9)


def test_pooling_and_activation_of_the_input() -> None:
    rng = np.random.default_rng(4)
    assert_like_twin([MaxPool(2, 2, 2, 2), both_signs(rng, 3), conv(rng, 3, 5, 2, 2)], 3, 7, 8)


def test_sigmoid() -> None:
    rng = np.random.default_rng(5)
    cnn, image = CNN((conv(rng, 1, 3, 2, 2), Sigmoid())), floats(rng, 1, 1, 4, 4)
    np.testing.assert_allclose(evaluate(cnn, image)[0], cnn_twin.evaluate(cnn, image[0]), atol=1e-6)


def test_results_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(6)
    cnn = CNN((conv(rng, 3, 16, 3, 3), both_signs(rng, 16), dense(rng, 16 * 4, 7)))
    images = floats(rng, 5, 3, 4, 4)
    assert np.array_equal(evaluate(cnn, images, batch=1), evaluate(cnn, images, batch=4))


def test_layers_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ModelError, match="convolution"):
        OrderedNetwork.prepare(CNN((conv(rng, 4, 3, 2, 2),)), 3, 8, 8)
    with pytest.raises(ModelError, match="slopes"):
        OrderedNetwork.prepare(CNN((PReLU(np.zeros(2, np.float32)),)), 3, 8, 8)


# --- recorded values -----------------------------------------------------------------------------


@cache
def weights() -> MTCNNWeights:
    return load_mtcnn(find_models(OPENFACE))


def recorded(clip: str, frame: int) -> dict[str, np.ndarray]:
    arrays = stage(clip, f"frame_{frame}")
    prefix = "mtcnn." if "mtcnn.n_scales" in arrays else "mtcnn_extra."
    return {key[len(prefix) :]: arrays[key] for key in arrays if key.startswith(prefix)}


def network_input(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))


@needs_shared
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("frame", [1, 2])
def test_recorded_outputs_to_the_bit(clip: str, frame: int) -> None:
    arrays = recorded(clip, frame)
    for name in ("rnet", "onet"):
        images = np.stack([network_input(arrays[f"{name}.input{k:02d}"]) for k in range(3)])
        found = evaluate(getattr(weights(), name), images)[:, 2:6, 0, 0]
        assert np.array_equal(found, arrays[f"{name}.corrections"][:3])


@needs_shared
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("level", ["p00", "p03"])
def test_recorded_maps_of_the_first_network_to_the_bit(clip: str, level: str) -> None:
    # The detector takes the fast kernels there: only whole pixels leave this network.
    arrays = recorded(clip, 1)
    found = evaluate(weights().pnet, network_input(arrays[f"{level}.net_input"])[None])[0]
    assert np.array_equal(found[2:], arrays[f"{level}.corrections"])
