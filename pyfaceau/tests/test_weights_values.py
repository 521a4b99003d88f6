"""The readers against the check values of OpenFace 2.2 specification, part 1 §9 and §10, on the real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyfaceau.errors import ModelError
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared
from pyfaceau.weights import registry
from pyfaceau.weights.models import CNN, CENPatches, Conv, Dense, LandmarkModel, PReLU
from pyfaceau.weights.networks import read_cnn, read_validator
from pyfaceau.weights.patches import read_ccnf, read_svr
from pyfaceau.weights.pdm import read_early_termination, read_pdm, read_triangles, read_triangulations
from pyfaceau.weights.predictors import read_predictor, read_predictors
from pyfaceau.weights.store import load_au_predictors, load_landmark_model, load_mtcnn, read_model

pytestmark = needs_shared
MODEL, UNITS = OPENFACE / "model", OPENFACE / "AU_predictors"
EYES, INNER, FACE = "model_eye/patch_experts/", "model_inner/patch_experts/", "patch_experts/"
EYE_PDM = "model_eye/pdms/"
VISIBLE_7 = [68, 68, 68, 35, 35, 68, 68]


def near(value: object) -> object:
    """Equal to the six digits that the specification prints."""
    return pytest.approx(value, rel=6e-6, abs=1e-12)


def test_digest_list_is_the_specification() -> None:
    assert len(registry.official_digests()) == 180
    shipped = Path(registry.__file__).with_name("openface-2.2.0.sha256")
    assert shipped.read_bytes() == (SHARED / "spec" / "1-models.sha256").read_bytes()


# bytes, sum of alpha, bias, confidence, beta 0, beta 2, W[0, 1] of the first neuron, filled experts
CCNF = [
    (EYES + "ccnf_patches_1.00_synth_lid_", 104368, 1662.77, -2707.66, 11.3233, None, 0.0387776, 28),
    (EYES + "ccnf_patches_1.50_synth_lid_", 104368, 1840.18, -2592.91, 7.86381, None, 0.044848, 28),
    (EYES + "left_ccnf_patches_1.00_synth_lid_", 104384, 1662.77, -2707.66, 11.3233, None, 0.024616, 28),
    (EYES + "left_ccnf_patches_1.50_synth_lid_", 104384, 1840.18, -2592.91, 7.86381, None, 0.0576262, 28),
    (INNER + "ccnf_patches_1.00_inner", 2043100, 13981.4, -28205.6, 60.873, (1276.3, 617.367), -0.0868624, 307),
    (FACE + "ccnf_patches_0.25_general", 2429528, 28463.9, -39251.6, 182.455, (1443.39, 627.999), -0.0086335, 410),
    (FACE + "ccnf_patches_0.25_wild", 1655664, 9479.92, -14542.3, 73.4705, (442.079, 276.657), -0.0247847, 204),
    (FACE + "ccnf_patches_0.35_general", 2429528, 26057.3, -39130.6, 158.166, (1499.2, 681.01), -0.0925647, 410),
    (FACE + "ccnf_patches_0.35_wild", 1655664, 8773.36, -14385.2, 63.0718, (458.326, 292.82), -0.146963, 204),
    (FACE + "ccnf_patches_0.5_general", 2429528, 23062.6, -38286.6, 128.285, (1578.48, 738.035), -0.201515, 410),
    (FACE + "ccnf_patches_0.5_wild", 1655664, 8078.55, -14246.6, 52.4635, (476.464, 306.37), -0.215196, 204),
    (FACE + "ccnf_patches_1_wild", 1655664, 6754.94, -13449.6, 29.5816, (513.672, 331.303), 0.0294914, 204),
]


@pytest.mark.parametrize(("name", "size", "alpha", "bias", "confidence", "betas", "first", "filled"), CCNF)
def test_ccnf(
    name: str,
    size: int,
    alpha: float,
    bias: float,
    confidence: float,
    betas: tuple[float, float] | None,
    first: float,
    filled: int,
) -> None:
    path = MODEL / f"{name}.txt"
    assert path.stat().st_size == size
    patches = read_ccnf(path)
    assert patches.alpha.sum() == near(alpha)
    assert patches.bias.sum() == near(bias)
    assert patches.confidence.sum() == near(confidence)
    assert patches.weights[0, 0, 0, 0, 1] == near(first)
    assert patches.weights.shape[2:] == (7, 11, 11)
    has_expert = np.abs(patches.weights).max(axis=(2, 3, 4)) > 0
    np.testing.assert_array_equal(has_expert, patches.visible)  # no neurons exactly where invisible
    assert has_expert.sum() == filled
    norms = np.linalg.norm(patches.weights.reshape(-1, 121).astype(np.float64), axis=1).reshape(patches.alpha.shape)
    np.testing.assert_allclose(norms[has_expert], 1, atol=1e-5)
    if betas is None:
        assert patches.betas.shape[2] == 0
        assert patches.sigma_components == {}
    else:
        assert (patches.betas[..., 0].sum(), patches.betas[..., 2].sum()) == near(betas)
        shapes = {w: components.shape for w, components in patches.sigma_components.items()}
        assert shapes == {w: (3, w * w, w * w) for w in (7, 9, 11, 15)}


def test_ccnf_views() -> None:
    patches = read_ccnf(MODEL / FACE / "ccnf_patches_0.25_general.txt")
    np.testing.assert_allclose(np.rad2deg(patches.centers), [[0, yaw, 0] for yaw in (0, -20, -45, -70, 70, 45, 20)])
    assert patches.visible.sum(axis=1).tolist() == VISIBLE_7
    hidden = [*range(9, 17), *range(21, 27), 32, 34, 35, 39, *range(42, 48), *range(52, 57), 60, 63, 64, 65]
    assert np.flatnonzero(~patches.visible[3]).tolist() == hidden
    inner = read_ccnf(MODEL / INNER / "ccnf_patches_1.00_inner.txt")
    assert inner.visible.sum(axis=1).tolist() == [51, 51, 51, 26, 26, 51, 51]


def _laplacian(w: int, offsets: list[tuple[int, int]], sign: float) -> np.ndarray:
    """D + sign * A of the w x w grid."""
    y, x = np.mgrid[:w, :w].reshape(2, -1)
    adjacent = np.zeros((w * w, w * w))
    for dy, dx in offsets:
        adjacent += (y[None] - y[:, None] == dy) & (x[None] - x[:, None] == dx)
    return np.diag(adjacent.sum(axis=1)) + sign * adjacent


@pytest.mark.parametrize("w", [7, 9, 11, 15])
def test_sigma_components_are_those_of_the_grid(w: int) -> None:
    components = read_ccnf(MODEL / FACE / "ccnf_patches_0.25_general.txt").sigma_components[w]
    ring = [(a, b) for a in (-6, -5, 0, 5, 6) for b in (-6, -5, 0, 5, 6) if a == 0 or b == 0 or abs(a) == abs(b)]
    ring.remove((0, 0))
    np.testing.assert_array_equal(components[0], _laplacian(w, [(0, 1), (1, 0), (0, -1), (-1, 0)], -1))
    np.testing.assert_array_equal(components[1], _laplacian(w, [(1, 1), (1, -1), (-1, 1), (-1, -1)], -1))
    np.testing.assert_array_equal(components[2], _laplacian(w, ring, 1))


SVR = [
    ("0.25_general", 1128083, 158.605, 9564.85, -4270.74, 6715.32),
    ("0.25_wild", 487313, 64.256, 3939.88, -1902.38, 3329.62),
    ("0.35_general", 1129079, 136.503, 8726.13, -4228.2, 6715),
    ("0.35_wild", 487955, 56.0346, 3714.22, -1899.86, 3319.32),
    ("0.5_general", 1129923, 109.403, 7995.28, -4180.62, 6707.97),
    ("0.5_wild", 488488, 46.1876, 3462.05, -1887.58, 3333.38),
]


@pytest.mark.parametrize(("name", "size", "confidence", "scaling", "bias", "weights"), SVR)
def test_svr(name: str, size: int, confidence: float, scaling: float, bias: float, weights: float) -> None:
    path = MODEL / FACE / f"svr_patches_{name}.txt"
    assert path.stat().st_size == size
    patches = read_svr(path)
    sums = [patches.confidence.sum(), patches.scaling.sum(), patches.bias.sum()]
    assert sums == near([confidence, scaling, bias])
    assert np.abs(patches.templates.astype(np.float64)).sum() == near(weights)
    assert (patches.modality == [0, 1]).all()


def test_svr_templates_are_transposed() -> None:
    patches = read_svr(MODEL / FACE / "svr_patches_0.25_general.txt")
    first = [patches.confidence[0, 0, 0], patches.scaling[0, 0, 0], patches.bias[0, 0, 0]]
    assert first == near([0.128226, 9.2471, -5.49867])
    template = patches.templates[0, 0, 0]
    assert [template[0, 0], template[1, 0], template[0, 1]] == pytest.approx([0.040812, 0.053671, -0.054878], abs=1e-6)
    assert np.flatnonzero(~patches.visible[4] & patches.visible[0]).tolist()[-4:] == [62, 63, 64, 65]


PDM = [
    (
        EYE_PDM + "pdm_28_eye_3D_closed",
        28,
        10,
        -6.34669,
        0.431068,
        -0.153386,
        -0.013208,
        66.1898,
        111.571,
        175.371,
    ),
    (
        EYE_PDM + "pdm_28_l_eye_3D_closed",
        28,
        10,
        -5.51386,
        0.629133,
        0.167881,
        -0.008919,
        66.1898,
        111.571,
        175.371,
    ),
    ("model_inner/pdms/pdm_51_inner", 51, 32, -61.4871, -13.0626, 0.048215, -0.083695, 303.258, 440.569, 1908.79),
    ("pdms/In-the-wild_aligned_PDM_68", 68, 34, -73.3935, -20.328, -0.007395, -0.084883, 374.515, 826.214, 3438.41),
    ("pdms/Multi-PIE_aligned_PDM_68", 68, 23, -74.9075, -23.3394, 0.09132, -0.034005, 246.545, 795.359, 2503.67),
    ("pdms/pdm_68_aligned_menpo", 68, 30, -74.41, -20.3002, -0.190469, 0.057912, 327.543, 1260.97, 4034.26),
]


@pytest.mark.parametrize(("name", "n", "m", "m0", "m1", "v0", "v1", "total", "e0", "e_sum"), PDM)
def test_pdm(
    name: str, n: int, m: int, m0: float, m1: float, v0: float, v1: float, total: float, e0: float, e_sum: float
) -> None:
    pdm = read_pdm(MODEL / f"{name}.txt")
    assert (pdm.n, pdm.m, pdm.modes.shape) == (n, m, (3 * n, m))
    assert [pdm.mean[0], pdm.mean[-1]] == near([m0, m1])
    assert [pdm.modes[0, 0], pdm.modes[-1, -1]] == pytest.approx([v0, v1], abs=6e-7)
    assert np.abs(pdm.modes.astype(np.float64)).sum() == near(total)
    assert [pdm.eigenvalues[0], pdm.eigenvalues.astype(np.float64).sum()] == near([e0, e_sum])
    np.testing.assert_allclose(pdm.modes.T.astype(np.float64) @ pdm.modes, np.eye(m), atol=3e-6)
    np.testing.assert_array_equal(pdm.modes_t, pdm.modes.T)
    assert pdm.modes_t.flags.c_contiguous


def _sums(cnn: CNN) -> tuple[list[float], list[float]]:
    """Sums of the kernels of each convolution, of the weights of each fully connected layer."""
    convs = [float(layer.kernels.sum(dtype=np.float64)) for layer in cnn.layers if isinstance(layer, Conv)]
    return convs, [float(layer.weights.sum(dtype=np.float64)) for layer in cnn.layers if isinstance(layer, Dense)]


NETS = [
    ("PNet", [2.34877, -38.5658, -43.2797], [-0.443107], -2.30458, "CRMCRCRD"),
    ("RNet", [0.235487, -81.3516, -32.8278], [-73.5948, -0.0574081], 2.55902, "CRMCRMCRDRD"),
    ("ONet", [-0.929809, -118.873, -52.3571, -56.9071], [-147.487, 0.940828], 2.3277, "CRMCRMCRMCRDRD"),
]


@pytest.mark.parametrize(("name", "convs", "dense", "slopes", "layers"), NETS)
def test_mtcnn(name: str, convs: list[float], dense: list[float], slopes: float, layers: str) -> None:
    cnn = read_cnn(MODEL / "mtcnn_detector" / f"{name}.dat")
    assert _sums(cnn)[0] == pytest.approx(convs, rel=2e-5)
    assert _sums(cnn)[1] == pytest.approx(dense, rel=2e-5)
    letters = {"Conv": "C", "PReLU": "R", "MaxPool": "M", "Dense": "D"}
    assert "".join(letters[type(layer).__name__] for layer in cnn.layers) == layers
    assert isinstance(cnn.layers[1], PReLU)
    assert cnn.layers[1].slope.sum() == near(slopes)


def test_mtcnn_shapes() -> None:
    nets = load_mtcnn(OPENFACE)
    first = nets.pnet.layers[0]
    assert isinstance(first, Conv)
    assert first.kernels.shape == (10, 3, 3, 3)
    assert first.bias[0] == near(-0.0828369)
    assert first.kernels[0, 0, 0, :2].tolist() == near([-0.0816472, 0.835915])
    last = nets.onet.layers[-1]
    assert isinstance(last, Dense)
    assert last.weights.shape == (16, 256)


def test_validators() -> None:
    validator = read_validator(MODEL / "detection_validation" / "validator_cnn.txt")
    view = validator.views[0]
    assert validator.bins == 30
    assert [view.mean.sum(), view.std.sum()] == near([1.07117e-5, 10.0577])
    assert _sums(view.cnn)[0] == pytest.approx([-0.292462, -11.6727], rel=2e-5)
    assert _sums(view.cnn)[1] == pytest.approx([-68.4475, 0.24213], rel=2e-5)
    assert [view.min_x, view.min_y] == near([-29.764, -25.1299])
    assert view.triangle_id.sum() == 128502
    assert [view.alpha.sum(), view.beta.sum()] == near([-23.7463, 51.0468])
    assert [len(v.mean) for v in validator.views] == [2642, 2469, 1665, 1491, 2494, 1690, 1536]
    assert [len(v.triangles) for v in validator.views] == [97, 97, 36, 31, 97, 36, 31]
    yaw = [np.rad2deg(v.orientation[1]) for v in validator.views]
    assert yaw == pytest.approx([0, -20, -45, -70, 20, 45, 70])
    assert _sums(validator.views[6].cnn)[1] == pytest.approx([-26.4631, -0.18229], rel=2e-5)
    newer = read_validator(MODEL / "detection_validation" / "validator_cnn_68.txt")
    assert newer.bins == 20
    assert _sums(newer.views[0].cnn)[0] == pytest.approx([0.0229464, -24.0586, -16.6762], rel=2e-5)
    assert _sums(newer.views[0].cnn)[1] == pytest.approx([-20.8366, 0.296192], rel=2e-5)
    assert _sums(newer.views[6].cnn)[1] == pytest.approx([-0.0345181, -0.133393], rel=2e-5)


def test_old_validator_is_refused() -> None:
    with pytest.raises(ModelError, match=r"validator_general_68\.txt.*kind 2.*validator_cnn"):
        read_validator(MODEL / "detection_validation" / "validator_general_68.txt")


def test_small_files() -> None:
    views = read_triangulations(MODEL / "tris_68.txt")
    assert [len(view) for view in views] == [97, 97, 82, 31, 97, 82, 31]
    assert views[0].sum() == 10640
    assert views[0][0].tolist() == [58, 67, 59]
    assert views[0][-1].tolist() == [25, 45, 26]
    full = read_triangles(UNITS / "tris_68_full.txt")
    assert full.shape == (111, 3)
    assert full.sum() == 12786
    assert full[-1].tolist() == [64, 65, 63]
    early = read_early_termination(MODEL / "early_term_cen_of.txt", 7)
    assert early[0].tolist() == [1, 1.005, 1.054, 0.976, 0.976, 1.054, 1.005]
    assert early[2].tolist() == [-0.23, -0.2, -0.14, 0.26, 0.26, -0.14, -0.2]


# classifier: dynamic, bias, sum of weights, class of a positive score; regressor: cutoff (-1 static), bias, sum
DYNAMIC = {
    "AU01": (1, 0.000521942, -2.08506, 0, 0.55, -0.321608, 6.68603),
    "AU02": (1, 0.00150561, -11.5713, 0, 0.75, 0.0597597, 14.4276),
    "AU04": (0, 0.00672183, -1.03163, 0, -1, 0.133607, -3.99693),
    "AU05": (0, 0.00272671, 5.39509, 0, 0.8, -0.000474788, 8.80208),
    "AU06": (0, 0.00324199, -4.20182, 0, -1, 0.161757, 12.837),
    "AU07": (0, -0.00483999, -1.52343, 0, -1, 0.180835, 5.07484),
    "AU09": (1, 3.23539e-05, 44.2157, 0, 0.7, 0.000108707, -20.2777),
    "AU10": (0, 0.000463739, -46.4633, 1, -1, 0.107094, -63.5379),
    "AU12": (0, -0.0106341, -75.5856, 1, -1, 0.221166, -46.782),
    "AU14": (0, 0.000728755, 51.1489, 0, -1, 0.0171855, -99.7842),
    "AU15": (1, -0.0001335, -44.994, 0, 0.55, -0.00736287, 367.114),
    "AU17": (1, -0.00202133, 18.777, 0, 0.2, 0.0980991, -2.19686),
    "AU20": (1, 1.71457e-05, -52.3517, 0, 0.65, 0.000534895, 47.6667),
    "AU23": (0, 0.565078, -247.066, 0, 0.65, -0.373287, 43.2537),
    "AU25": (1, -0.000176338, -14.4322, 1, 0.3, -0.139728, 10.8135),
    "AU26": (1, 4.01504e-06, 12.7512, 0, 0.3, -0.379325, -27.2931),
    "AU45": (1, 0.000114489, -0.255344, 0, 0.6, -0.140089, -18.2248),
}
# classifier: bias, sum of weights; regressor: bias, sum. What is the same file as above is left out.
STATIC = {
    "AU01": (0.0115361, 3.38287, 0.164255, 13.5736),
    "AU02": (0.00431393, -0.428322, -0.180395, 9.36057),
    "AU05": (0.00272671, 5.39509, 0.0213888, -0.900839),
    "AU09": (0.00393231, 90.6234, 0.00259078, 16.8849),
    "AU15": (0.0182422, -24.2616, 0.0125529, 111.637),
    "AU17": (0.00993644, -20.942, 0.161714, -8.033),
    "AU20": (0.0042012, 55.2215, 0.00494153, -113.909),
    "AU23": (0.565078, -247.066, 0.0798716, 52.8938),
    "AU25": (0.00181453, 6.11254, 0.0107535, 10.2792),
    "AU26": (0.000935745, 7.81461, 0.238385, -18.914),
    "AU45": (0.00301918, 3.05097, -0.113164, 3.30488),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_predictors(name: str) -> None:
    models = load_au_predictors(OPENFACE)
    dynamic, bias, total, positive, cutoff, r_bias, r_total = DYNAMIC[name]
    row = models.presence.names.index(name)
    assert [models.presence.bias[row], models.presence.weights[row].sum()] == near([bias, total])
    assert (models.presence.dynamic[row], models.presence.positive[row]) == (bool(dynamic), positive)
    assert models.presence.negative[row] == 1 - positive
    row = models.intensity.names.index(name)
    assert [models.intensity.bias[row], models.intensity.weights[row].sum()] == near([r_bias, r_total])
    assert models.intensity.cutoff[row] == pytest.approx(cutoff, abs=1e-12)
    assert models.intensity.dynamic[row] == (cutoff >= 0)


def test_predictor_sets() -> None:
    models = load_au_predictors(OPENFACE)
    assert set(models.intensity.names) == set(DYNAMIC)
    assert set(models.presence.names) - set(DYNAMIC) == {"AU28"}
    assert models.presence.weights.shape == (18, 4702)
    row = models.presence.names.index("AU28")
    assert [models.presence.bias[row], models.presence.weights[row].sum()] == near([0.000138074, -12.0582])
    for linear in (models.intensity, models.presence):
        np.testing.assert_allclose(linear.means.sum(axis=1), 585.490, atol=1e-3)
        assert not linear.means[:, 4464:].any()
        assert linear.means[0, [0, 1, 4463]].tolist() == near([0.344803, 0.282358, 0.00752309])
    cutoffs = dict(zip(models.intensity.names, models.intensity.cutoff, strict=True))
    assert cutoffs["AU09"] == 0.7000000000000001  # as stored: the quantile's index depends on the last bit
    assert cutoffs["AU25"] == 0.30000000000000004
    assert cutoffs["AU45"] == 0.6000000000000001


@pytest.mark.parametrize("name", STATIC)
def test_static_predictors(name: str) -> None:
    models = load_au_predictors(OPENFACE, static=True)
    found = []
    for linear in (models.presence, models.intensity):
        row = linear.names.index(name)
        assert not linear.dynamic[row]
        assert linear.cutoff[row] == -1
        found += [linear.bias[row], linear.weights[row].sum()]
    assert found == near(STATIC[name])


def test_disfa_predictors_follow_the_file_not_its_name() -> None:
    intensity, presence = read_predictors(UNITS / "AU_DISFA_best.txt")
    assert (len(intensity.names), len(presence.names)) == (12, 12)
    assert intensity.dynamic.all()
    assert not presence.dynamic.any()  # files called *_dyn that hold static classifiers
    assert intensity.bias.sum() + presence.bias.sum() == near(0.0026745)
    assert intensity.weights.sum() + presence.weights.sum() == near(-203.406)
    assert intensity.cutoff.sum() == near(5.55)
    intensity, presence = read_predictors(UNITS / "AU_DISFA_static.txt")
    assert intensity.bias.sum() + presence.bias.sum() == near(-0.140679)
    assert intensity.weights.sum() + presence.weights.sum() == near(849.671)


def test_single_predictors() -> None:
    classifier = read_predictor(UNITS / "svm_combined" / "AU_1_dynamic.dat")
    assert classifier is not None
    assert classifier.weights[[0, 4464, 4701]].tolist() == near([0.0115506, -0.00536593, -0.000679122])
    regressor = read_predictor(UNITS / "svr_combined" / "AU_12_static_intensity_comb.dat")
    assert regressor is not None
    assert regressor.weights[[4463, 4464]].tolist() == near([-0.117857, 0.0058904])
    unlisted = read_predictor(UNITS / "svr_combined" / "AU_1_static_intensity.dat")
    assert unlisted is not None
    assert unlisted.means.sum() == near(590.444)


MAINS = {
    "main_clnf_general": ("ccnf", [0.25, 0.35, 0.5], ["inner", "left_eye_28", "right_eye_28"], 30),
    "main_clnf_wild": ("ccnf", [0.25, 0.35, 0.5, 1.0], ["left_eye_28", "right_eye_28"], 30),
    "main_clm_general": ("svr", [0.25, 0.35, 0.5], ["left_eye_28", "right_eye_28"], 30),
    "main_clm_wild": ("svr", [0.25, 0.35, 0.5], ["left_eye_28", "right_eye_28"], 30),
}


@pytest.mark.parametrize("name", MAINS)
def test_whole_models(name: str) -> None:
    kind, scales, parts, bins = MAINS[name]
    model = load_landmark_model(OPENFACE, name)
    assert (model.name, model.kind, [p.scale for p in model.patches]) == (name, kind, scales)
    assert [part.name for part in model.parts] == parts
    assert model.validator is not None
    assert model.validator.bins == bins
    assert model.early_termination is None
    eye = model.parts[-2]
    assert eye.pairs.tolist() == [[36, 8], [37, 10], [38, 12], [39, 14], [40, 16], [41, 18]]
    assert [p.scale for p in eye.model.patches] == [1.0, 1.5]
    assert eye.model.validator is None
    if parts[0] == "inner":
        assert model.parts[0].pairs.tolist() == [[i, i - 17] for i in range(17, 68)]


def _leaves(model: LandmarkModel) -> list[np.ndarray]:
    patches = [value for scale in model.patches for value in vars(scale).values() if isinstance(value, np.ndarray)]
    pdm = [value for value in vars(model.pdm).values() if isinstance(value, np.ndarray)]
    return patches + pdm + [leaf for part in model.parts for leaf in [part.pairs, *_leaves(part.model)]]


def test_arrays_are_read_only_and_equal_from_cache_and_file() -> None:
    cached = _leaves(load_landmark_model(OPENFACE))
    read = _leaves(read_model(MODEL / "main_clnf_general.txt"))
    assert len(cached) == len(read) > 40
    for a, b in zip(cached, read, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
        for array in (a, b):
            assert array.flags.c_contiguous
            assert not array.flags.writeable


def test_missing_cen_files_are_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"cen_patches_0\.25_of\.dat, .*cen_patches_1\.00_of\.dat; `pyfaceau models"):
        load_landmark_model(OPENFACE, "main_ceclm_general")


def test_demo_pack() -> None:
    demo = SHARED / "demo" / "pack"
    model = load_landmark_model(demo, "main_ceclm_general")
    assert (model.kind, model.pdm.n, model.pdm.m) == ("cen", 68, 12)
    assert model.early_termination is not None
    assert model.early_termination[2].tolist() == [1.5, 1.5, 1.5]
    for scale in model.patches:
        assert isinstance(scale, CENPatches)
        assert scale.visible.shape == (3, 68)
        assert (scale.expert[0] < 0).sum() == 29  # supplied by the other side of the face
        assert (scale.expert[2] < 0).all()  # mirrored from view 1
        assert (~scale.visible[1]).nonzero()[0].tolist() == [15, 16]
        assert all(layers[0].weights.shape[1] == 122 for layers in scale.experts)
    assert model.validator is not None
    assert [view.triangle_id.shape for view in model.validator.views] == [(34, 35), (34, 33), (34, 33)]
    units = load_au_predictors(demo)
    assert units.intensity.names == ("AU01", "AU02", "AU04", "AU12", "AU15", "AU25", "AU26", "AU45")
    assert units.presence.dynamic.tolist() == [True, True, False, False, False, False, False, True]
    assert units.presence.weights.shape == (8, 4464 + 204 + 12)
    static = load_au_predictors(demo, static=True)
    assert static.presence.names == tuple(name for name in units.intensity.names if name != "AU02")
