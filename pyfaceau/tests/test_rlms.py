"""NU-RLMS: every recorded solve to the bit, one step and whole; the twin; stop rule, clamping, weights, edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pyfaceau.landmarks import rlms as module
from pyfaceau.landmarks.rlms import kernel_table
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.landmark_material import FRAMES, Recording, planar, recordings, tiny_pdm
from pyfaceau.tests.shared import needs_shared
from pyfaceau.weights.models import PDM

NO_WEIGHTS = np.empty(0, np.float32)
F0 = np.float32(0)


@dataclass(frozen=True)
class Problem:
    """All that one solve starts from."""

    pdm: PDM
    responses: np.ndarray  # (n, w, w)
    visible: np.ndarray
    weights: np.ndarray  # (n,) or (0,)
    scale: twin.Scale
    g: np.ndarray
    p: np.ndarray
    reg: float = 10.0
    sigma: float = 1.5

    def solve(self, rigid: bool, iterations: int = 5, likelihoods: bool = True) -> twin.Solution:
        """By the kernel."""
        g, p, pdm = self.g.copy(), self.p.copy(), self.pdm
        out = np.zeros(pdm.n if likelihoods else 0, np.float32)
        mean = module.rlms(
            pdm.mean, pdm.modes, pdm.modes_t, pdm.eigenvalues, self.responses, self.visible, self.weights,
            kernel_table(self.responses.shape[1], float(self.sigma)), self.scale.base, self.scale.forward,
            self.scale.backward, np.float32(self.reg), np.float32(self.sigma), iterations, rigid, g, p, out,
        )  # fmt: skip
        return twin.Solution(g, p, [], out, float(mean))

    def solve_scale(self, last: bool) -> tuple[bool, float, np.ndarray, np.ndarray, np.ndarray]:
        """Rigid, then non-rigid, by the kernel: likelihood asked for, likelihood, g, p, landmark likelihoods."""
        g, p, pdm, out = self.g.copy(), self.p.copy(), self.pdm, np.full(self.pdm.n, -7, np.float32)
        wanted, mean = module.solve_scale(
            pdm.mean, pdm.modes, pdm.modes_t, pdm.eigenvalues, self.responses, self.visible, self.weights,
            kernel_table(self.responses.shape[1], float(self.sigma)), self.scale.base, self.scale.forward,
            self.scale.backward, np.float32(self.reg), np.float32(self.sigma), 5, last, g, p, out,
        )  # fmt: skip
        return wanted, float(mean), g, p, out

    def twin(self, rigid: bool, iterations: int = 5) -> twin.Solution:
        weights = self.weights if len(self.weights) else np.ones(self.pdm.n)
        steps = (float(self.reg), float(self.sigma), iterations)
        return twin.rlms(self.pdm, self.responses, self.visible, weights, self.scale, steps, rigid, self.g, self.p)


def mean_shift(response: np.ndarray, sigma: float, dx: float, dy: float) -> np.ndarray:
    """Shift (x, y) from a position inside the map."""
    at = np.array([dx, dy], np.float32)
    cells_at, means = np.empty((2, response.size), np.float32), np.empty((2, 8), np.float32)
    module._cell_places(len(response), cells_at)
    module.mean_positions(
        np.ascontiguousarray(response)[None], kernel_table(len(response), sigma), cells_at, np.zeros(1, np.int64), 1,
        at[:, None].copy(), np.empty((3, 8), np.int64), means,
    )  # fmt: skip
    return means[:, 0] - at


def blob(w: int, x: float, y: float, width: float = 1.5) -> np.ndarray:
    r, c = np.mgrid[:w, :w]
    return np.exp(-((r - y) ** 2 + (c - x) ** 2) / (2 * width**2)).astype(np.float32)


def problem(seed: int = 0, w: int = 9, spread: float = 2.0, **changes: object) -> Problem:
    """Landmarks that want to move by about ``spread`` response pixels."""
    rng, pdm = np.random.default_rng(seed), tiny_pdm()
    g = np.array([1.1, *rng.uniform(-0.3, 0.3, 3), 320, 240], np.float32)
    p = (rng.normal(size=pdm.m) * 3).astype(np.float32)
    shape, centre = twin.Shape.of(pdm), (w - 1) / 2
    base = shape.project(g, p).astype(np.float32)
    forward = twin.similarity(base, shape.project(np.array([0.5, 0, 0, 0, 0, 0]), p)).astype(np.float32)
    backward = np.linalg.inv(forward.astype(float)).astype(np.float32)
    goals = centre + rng.uniform(-spread, spread, (pdm.n, 2))
    responses = np.array([blob(w, *goal) for goal in goals]) + rng.uniform(0, 0.02, (pdm.n, w, w))
    scale = twin.Scale(0, base, forward, backward, np.empty(0))
    made = Problem(pdm, responses.astype(np.float32), np.ones(pdm.n, bool), NO_WEIGHTS, scale, g, p)
    return replace(made, **changes)  # type: ignore[arg-type]


# --- recordings ---------------------------------------------------------------------------------------


def recorded_problem(recording: Recording, k: int, kind: str) -> Problem:
    at = f"s{k}."
    sigma, reg, factor, _ = recording[at + "fit_params"]
    base = planar(recording[at + "base_shape"])
    scale = twin.Scale(0, base, recording[at + "sim_img_to_ref"], recording[at + "sim_ref_to_img"], np.empty(0))
    return Problem(
        recording.model.pdm, recording[at + "responses"], recording[at + "visibility"] != 0,
        recording[f"{at}{kind}.weights"] if factor > 0 else NO_WEIGHTS, scale,
        recording[f"{at}{kind}.iter_global"][0], recording[f"{at}{kind}.iter_local"][0], reg, sigma,
    )  # fmt: skip


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_solves(recorded: tuple[str, str, str, str]) -> None:
    """All scales of face and parts, rigid and not, after one pass and after all: parameters equal to the bit.

    (Asked for: 1e-3 px.) Likelihoods of landmarks 3e-6, of the model 1e-6.
    """
    likelihoods = 0
    for recording in recordings(*recorded):
        for k in recording.scales:
            iterations = int(recording[f"s{k}.fit_params"][3])
            for kind in ("rigid", "nonrigid"):
                at, start = f"s{k}.{kind}.", recorded_problem(recording, k, kind)
                assert recording[at + "n_updates"] == iterations
                for passes in (1, iterations):
                    found = start.solve(kind == "rigid", passes)
                    for mine, name in ((found.g, "iter_global"), (found.p, "iter_local")):
                        np.testing.assert_array_equal(mine, recording[at + name][passes], err_msg=f"{recording} {at}")
                if recording.has(at + "likelihood"):
                    expected = recording[at + "landmark_likelihoods"]
                    np.testing.assert_allclose(found.likelihoods, expected, rtol=0, atol=3e-6)
                    assert found.likelihood == pytest.approx(float(recording[at + "likelihood"]), abs=1e-6)
                    likelihoods += 1
    assert likelihoods >= 1


@needs_shared
def test_recorded_scales_run_rigid_then_not() -> None:
    for recording in recordings(*FRAMES[7]):
        for k in recording.scales:
            last = k == recording.scales[-1]
            wanted, _, g, p, _ = recorded_problem(recording, k, "rigid").solve_scale(last)
            assert wanted == last
            np.testing.assert_array_equal(g, recording[f"s{k}.nonrigid.out_global"])
            np.testing.assert_array_equal(p, recording[f"s{k}.nonrigid.out_local"])


@needs_shared
def test_recorded_mean_shifts() -> None:
    """From the recorded positions, every pass: 2e-5 response px."""
    checked = 0
    for recording in recordings(*FRAMES[6]):
        for k in recording.scales:
            sigma, w = float(recording[f"s{k}.fit_params"][0]), int(recording[f"s{k}.window"])
            for kind in ("rigid", "nonrigid"):
                offsets, shifts = (recording[f"s{k}.{kind}.iter_{name}"] for name in ("offsets", "meanshift_ref"))
                for i in np.flatnonzero(recording[f"s{k}.visibility"]):
                    for at, expected in zip(offsets[:, i], shifts[:, i], strict=True):
                        position = np.clip(at, F0, np.float32(w) - np.float32(0.1))
                        found = mean_shift(recording[f"s{k}.responses"][i], sigma, *position)
                        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
                        checked += 1
    assert checked > 2000


# --- the mean shift -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "sigma"), [(3, 1.0), (9, 1.62136), (11, 1.5), (15, 1.25)])
def test_kernel_table(window: int, sigma: float) -> None:
    table = kernel_table(window, sigma)
    assert table.shape == (10 * window, 10 * window, window**2)
    assert table.dtype == np.float32
    rng = np.random.default_rng(window)
    r, c = np.mgrid[:window, :window]
    for ix, iy in rng.integers(0, 10 * window, (50, 2)):
        expected = np.exp(-((0.1 * iy - r) ** 2 + (0.1 * ix - c) ** 2) / (2 * sigma**2))
        np.testing.assert_allclose(table[ix, iy].reshape(window, window), expected, rtol=1e-5, atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0, 0] = 1
    assert kernel_table(window, sigma) is table


def test_mean_shift_agrees_with_its_twin() -> None:
    rng = np.random.default_rng(1)
    for w in (3, 7, 11):
        for _ in range(60):
            response = rng.uniform(0, 1, (w, w)).astype(np.float32)
            dx, dy = rng.uniform(0, w - 0.1, 2).astype(np.float32)
            expected = twin.mean_shift(response, dx, dy, 1.5)
            np.testing.assert_allclose(mean_shift(response, 1.5, dx, dy), expected, rtol=0, atol=1e-5)


def test_x_goes_with_columns_and_y_with_rows() -> None:
    response = np.zeros((9, 9), np.float32)
    response[2, 7] = 1
    np.testing.assert_allclose(mean_shift(response, 1.5, 4, 4), [3, -2], atol=1e-6)


def test_the_kernel_stands_on_a_grid_of_a_tenth_but_the_shift_does_not() -> None:
    response = np.random.default_rng(2).uniform(0, 1, (9, 9)).astype(np.float32)

    def mean(x: float, y: float) -> np.ndarray:
        return mean_shift(response, 1.5, x, y) + np.array([x, y])

    np.testing.assert_allclose(mean(3.34, 5.06), mean(3.3, 5.1), atol=1e-6)
    assert abs(mean(3.36, 5.1) - mean(3.3, 5.1)).max() > 1e-4


def test_density() -> None:
    rng, bells = np.random.default_rng(3), np.zeros(24, np.float32)
    for _ in range(50):
        response = rng.uniform(0, 1, (9, 9)).astype(np.float32)
        dx, dy, sigma = (np.float32(v) for v in (*rng.uniform(-3, 12, 2), rng.uniform(1, 3)))
        module._bells(np.array([[dx], [dy]]), sigma, 9, bells)
        found = module._density(response, bells, 0, 9)
        assert found == pytest.approx(twin.density(response, float(dx), float(dy), float(sigma)), rel=5e-6)


# --- whole solves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rigid", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_solves_agree_with_the_twin(rigid: bool, seed: int) -> None:
    """One pass: landmarks to 1e-3 px. (After more, a step of the 0.1 grid may separate the two.)"""
    visible = np.ones(9, bool)
    visible[[2, 5][: seed % 3]] = False
    weights = np.random.default_rng(seed).uniform(0.1, 2, 9).astype(np.float32) if seed % 2 else NO_WEIGHTS
    start = problem(seed, visible=visible, weights=weights)
    found, expected, shape = start.solve(rigid, 1), start.twin(rigid, 1), twin.Shape.of(start.pdm)
    np.testing.assert_allclose(shape.project(found.g, found.p), shape.project(expected.g, expected.p), atol=1e-3)
    np.testing.assert_allclose(found.likelihoods, expected.likelihoods, rtol=1e-5)
    assert found.likelihood == pytest.approx(expected.likelihood, abs=1e-5)
    five, expected = start.solve(rigid), start.twin(rigid)
    np.testing.assert_allclose(shape.project(five.g, five.p), shape.project(expected.g, expected.p), atol=0.1)


@pytest.mark.parametrize("rigid", [True, False])
def test_a_solve_moves_towards_the_responses(rigid: bool) -> None:
    start = problem(3, spread=3)
    shape = twin.Shape.of(start.pdm)

    def away(g: np.ndarray, p: np.ndarray) -> float:
        where = (start.scale.forward @ (shape.project(g, p) - start.scale.base).reshape(2, -1)).T + 4
        peaks = [np.unravel_index(r.argmax(), r.shape)[::-1] for r in start.responses]
        return float(np.linalg.norm(where - np.array(peaks), axis=1).mean())

    found = start.solve(rigid, 20)
    assert away(found.g, found.p) < 0.9 * away(start.g, start.p)
    if rigid:
        np.testing.assert_array_equal(found.p, start.p)


def test_a_solve_stops_when_the_landmarks_rest() -> None:
    """The second pass finds them moved by less than 0.01 px in all."""
    for seed in range(6):
        start = problem(seed, spread=1.5)
        path = start.twin(False, 200).path
        assert 3 < len(path) - 1 < 190
        long, longer = start.solve(False, 200), start.solve(False, 1000)
        np.testing.assert_array_equal(long.g, longer.g)
        np.testing.assert_array_equal(long.p, longer.p)


@pytest.mark.parametrize(("movement", "passes"), [(0.0095, 1), (0.0105, 2)])
def test_the_stop_rule_is_a_norm_of_a_hundredth_of_a_pixel(movement: float, passes: int) -> None:
    """A rigid first pass is prepared that moves all landmarks sideways by ``movement`` in all."""
    start = problem(0, visible=np.ones(9, bool))
    w, n = 9, start.pdm.n
    turn = np.eye(2, dtype=np.float32)
    # one bright cell far from all others: the shift is its distance, the same for every landmark
    g = start.g.copy()
    responses = np.zeros((n, w, w), np.float32)
    responses[:, 4, 4] = 1
    base = start.scale.base.copy()
    base[:n] += np.float32(movement / np.sqrt(n))  # they stand so far left of the cell
    scale = twin.Scale(0, base, turn, turn, np.empty(0))
    start = replace(start, responses=responses, scale=scale)
    one, many = start.solve(True, 1), start.solve(True, 50)
    shape = twin.Shape.of(start.pdm)
    moved = np.linalg.norm(shape.project(one.g, start.p) - shape.project(g, start.p))
    assert moved == pytest.approx(movement, abs=2e-4)
    if passes == 1:
        np.testing.assert_array_equal(many.g, one.g)
    else:
        assert (many.g != one.g).any()


def test_shape_parameters_are_clamped_to_three_deviations() -> None:
    start = problem(1, spread=4, reg=1e-6)
    start = replace(start, scale=replace(start.scale, forward=start.scale.forward, backward=start.scale.backward * 20))
    bound = (3 * np.sqrt(start.pdm.eigenvalues.astype(np.float64))).astype(np.float32)
    for passes in (1, 10):
        found = start.solve(False, passes)
        assert (abs(found.p) <= bound).all()
        assert (abs(found.p) == bound).any()
    np.testing.assert_allclose(start.solve(False, 1).p, start.twin(False, 1).p, atol=1e-2)


def test_the_rigid_solve_clamps_too_and_only_after_its_first_pass() -> None:
    start = problem(2)
    bound = (3 * np.sqrt(start.pdm.eigenvalues.astype(np.float64))).astype(np.float32)
    outside = start.p.copy()
    outside[0] = 2 * bound[0]
    start = replace(start, p=outside)
    found, expected = start.solve(True, 1), start.twin(True, 1)
    assert found.p[0] == bound[0]
    np.testing.assert_array_equal(found.p[1:], outside[1:])
    np.testing.assert_allclose(found.g, expected.g, rtol=1e-4, atol=1e-4)  # the pass itself saw it unclamped
    clamped_before = replace(start, p=found.p).solve(True, 1)
    assert abs(clamped_before.g - found.g).max() > 1e-3
    later, expected = start.solve(True, 2), start.twin(True, 2)
    np.testing.assert_allclose(later.g, expected.g, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rigid", [True, False])
def test_invisible_landmarks_have_no_influence(rigid: bool) -> None:
    visible = np.ones(9, bool)
    visible[[1, 6]] = False
    start = problem(4, visible=visible)
    responses = start.responses.copy()
    responses[~visible] = np.nan
    found, expected = replace(start, responses=responses).solve(rigid), start.solve(rigid)
    np.testing.assert_array_equal(found.g, expected.g)
    np.testing.assert_array_equal(found.p, expected.p)
    assert (found.likelihoods[~visible] == -1e8).all()
    assert found.likelihood == pytest.approx(np.log(found.likelihoods[visible] + 1e-8).mean(), abs=1e-6)


def test_weights_of_one_are_no_weights() -> None:
    start = problem(5)
    weighted = replace(start, weights=np.ones(9, np.float32)).solve(False)
    np.testing.assert_array_equal(weighted.g, start.solve(False).g)


def test_a_landmark_of_weight_zero_does_not_pull() -> None:
    weights = np.ones(9, np.float32)
    weights[3] = 0
    start = problem(6, weights=weights)
    responses = start.responses.copy()
    responses[3] = blob(9, 0, 0)
    for rigid in (True, False):
        other = replace(start, responses=responses).solve(rigid)
        np.testing.assert_allclose(other.g, start.solve(rigid).g, rtol=1e-6)
    assert other.likelihoods[3] != start.solve(False).likelihoods[3]  # but its likelihood counts


def test_likelihoods_are_those_of_the_start_of_the_last_pass() -> None:
    start = problem(7, spread=3)
    before = start.solve(False, 1)
    np.testing.assert_allclose(before.likelihoods, start.twin(False, 1).likelihoods, rtol=1e-5)
    centred = [twin.density(r, 4, 4, start.sigma) for r in start.responses]
    np.testing.assert_allclose(before.likelihoods, centred, rtol=1e-3)  # where the areas were cut


def test_no_likelihood_where_none_is_asked_for() -> None:
    start = problem(0)
    without, with_them = start.solve(False, likelihoods=False), start.solve(False)
    assert without.likelihood == 0
    np.testing.assert_array_equal(without.g, with_them.g)


@pytest.mark.parametrize("rigid", [True, False])
def test_nothing_visible_is_no_step(rigid: bool) -> None:
    """The normal matrix is not positive definite then."""
    start = problem(0, visible=np.zeros(9, bool))
    found = start.solve(rigid)
    np.testing.assert_allclose(found.g, start.g, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.p, start.p)
    assert found.likelihood == 0
    assert (found.likelihoods == -1e8).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("position", [0, 1, 4])
def test_a_runaway_fit_does_not_crash(value: float, position: int) -> None:
    start = problem(0)
    g = start.g.copy()
    g[position] = value
    for rigid in (True, False):
        found = replace(start, g=g).solve(rigid)
        assert found.g.shape == (6,)
        assert not (abs(found.p) > 3.001 * np.sqrt(start.pdm.eigenvalues)).any()


# --- when likelihoods are taken ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "scale", "wanted"), [(True, 1.1, True), (False, 1.1, False), (False, 0.31, False), (False, 0.29, True)]
)
def test_likelihoods_are_taken_at_the_last_scale_or_when_the_face_is_small(
    last: bool, scale: float, wanted: bool
) -> None:
    """The size after the rigid solve decides (0.30)."""
    start = problem(0)
    g = start.g.copy()
    g[0] = scale
    base = twin.Shape.of(start.pdm).project(g, start.p).astype(np.float32)
    dark = np.zeros((9, 9, 9), np.float32)
    dark[:, 4, 4] = 1  # nobody wants to move
    start = replace(start, g=g, responses=dark, scale=replace(start.scale, base=base))
    asked, mean, _, _, likelihoods = start.solve_scale(last)
    assert asked == wanted
    if wanted:
        assert mean == pytest.approx(0, abs=2e-3)
        np.testing.assert_allclose(likelihoods, 1, atol=5e-3)
    else:
        assert (likelihoods == -7).all()
