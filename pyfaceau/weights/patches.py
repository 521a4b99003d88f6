"""Readers of patch experts, one scale per file: CCNF and CEN (binary), SVR (text)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyfaceau.weights.formats import F32, F64, I32, SUPPORT, BinaryFile, TextFile, frozen, radians
from pyfaceau.weights.models import CCNFPatches, CENPatches, Layer, SVRPatches

# A CCNF neuron as it lies in the file, 528 bytes without padding.
_NEURON = np.dtype(
    [
        *(("kind", I32), ("type", I32), ("norm", F64), ("bias", F64), ("alpha", F64)),
        *(("rows", I32), ("cols", I32), ("code", I32), ("weights", F32, (SUPPORT, SUPPORT))),
    ]
)


def _read_views(file: BinaryFile) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, centers f64 (nv, 3) rad and visible bool (nv, n): the common head of the binary kinds."""
    scale = file.float64("scale")
    if not 0.0 < scale < 100.0:
        file.fail(f"scale is {scale:g}: not a file of this kind")
    views = file.count("number of views", 1, 1000)
    centers = [file.matrix("view centre", F64, items=3).ravel() for _ in range(views)]
    visible = [file.matrix("visibility", I32, cols=1).ravel() for _ in range(views)]
    if len({len(view) for view in visible}) != 1 or not len(visible[0]):
        file.fail("visibilities of the views differ in length")
    return scale, radians(np.array(centers)), frozen(np.array(visible) != 0)


def read_ccnf(path: Path) -> CCNFPatches:
    """Read CCNF patch experts (OpenFace 2.2 specification, part 1 §3).

    ``sigma_components`` holds this file's own set; a model replaces it by the set of the last file
    that its list names.
    """
    file = BinaryFile(path)
    scale, centers, visible = _read_views(file)
    components, n_betas = _read_sigma_components(file)
    neurons: list[np.ndarray] = []
    betas = np.zeros((*visible.shape, n_betas))
    confidence = np.zeros(visible.shape)
    for entry in np.ndindex(visible.shape):
        neurons.append(_read_neurons(file, entry))
        if len(neurons[-1]):
            betas[entry] = file.array(F64, n_betas, f"betas of expert {entry}")
            confidence[entry] = file.float64(f"confidence of expert {entry}")
        elif visible[entry]:
            file.fail(f"landmark {entry[1]} is visible in view {entry[0]} but has no expert")
        else:
            file.expect(0, f"end of empty expert {entry}")
    file.close()
    most = max(len(expert) for expert in neurons)
    padded = np.zeros((*visible.shape, most), _NEURON)
    for row, expert in zip(padded.reshape(-1, most), neurons, strict=True):
        row[: len(expert)] = expert
    return CCNFPatches(
        scale=scale,
        centers=centers,
        visible=visible,
        weights=frozen(padded["weights"], np.float32),
        bias=frozen(padded["bias"], np.float64),
        norm=frozen(padded["norm"], np.float64),
        alpha=frozen(padded["alpha"], np.float64),
        betas=frozen(betas),
        confidence=frozen(confidence),
        sigma_components=components,
    )


def _read_sigma_components(file: BinaryFile) -> tuple[dict[int, np.ndarray], int]:
    """Components by window, f32 (nc, w*w, w*w), and the number of betas (that of the first window)."""
    components: dict[int, np.ndarray] = {}
    n_betas = 0
    for index in range(file.count("number of windows", 0, 100)):
        window = file.count("window size", 1, 99)
        count = file.count("number of sigma components", 0, 100)
        if index == 0:
            n_betas = count
        side = window * window
        if count:
            components[window] = frozen(
                np.stack([file.matrix("sigma component", F32, rows=side, cols=side) for _ in range(count)]), np.float32
            )
    return components, n_betas


def _read_neurons(file: BinaryFile, entry: tuple[int, ...]) -> np.ndarray:
    file.expect(5, f"kind of expert {entry}")
    file.expect(SUPPORT, f"width of expert {entry}")
    file.expect(SUPPORT, f"height of expert {entry}")
    count = file.count(f"number of neurons of expert {entry}", 0, 1000)
    neurons = file.array(_NEURON, count, f"neurons of expert {entry}")
    head = {"kind": 2, "type": 0, "rows": SUPPORT, "cols": SUPPORT, "code": 5}
    for name, value in head.items():
        if (neurons[name] != value).any():
            file.fail(f"a neuron of expert {entry} has {name} {neurons[name].tolist()}, expected {value}")
    return neurons


def read_svr(path: Path) -> SVRPatches:
    """Read SVR patch experts (part 1 §4). Templates are transposed: the file holds their columns."""
    file = TextFile(path)
    scale = float(file.numbers(1, "scale")[0])
    views = file.count("number of views", 1, 1000)
    centers = [file.matrix("view centre", F64, items=3).ravel() for _ in range(views)]
    visible = np.array([file.matrix("visibility", I32, cols=1).ravel() != 0 for _ in range(views)])
    experts = [_read_svr_expert(file, entry) for entry in np.ndindex(visible.shape)]
    file.close()
    if len({expert.shape for expert in experts}) != 1:
        file.fail("experts differ in their number of modalities")
    values = np.array(experts).reshape(*visible.shape, -1, 4 + SUPPORT * SUPPORT)
    templates = values[..., 4:].reshape(*values.shape[:-1], SUPPORT, SUPPORT).swapaxes(-1, -2)
    return SVRPatches(
        scale=scale,
        centers=radians(np.array(centers)),
        visible=frozen(visible),
        templates=frozen(templates, np.float32),
        confidence=frozen(values[..., 1], np.float64),
        scaling=frozen(values[..., 2], np.float64),
        bias=frozen(values[..., 3], np.float64),
        modality=frozen(values[..., 0], np.int32),
    )


def _read_svr_expert(file: TextFile, entry: tuple[int, ...]) -> np.ndarray:
    """f64 (M, 4 + 121): modality, confidence, scaling, bias, template as stored."""
    kind, width, height, modalities = file.numbers(4, f"head of expert {entry}")
    if (kind, width, height) != (3, SUPPORT, SUPPORT) or modalities not in range(1, 100):
        file.fail(f"expert {entry} starts {kind:g} {width:g} {height:g} {modalities:g}, expected 3 11 11 and a count")
    rows = []
    for _ in range(int(modalities)):
        head = file.numbers(5, f"head of a modality of expert {entry}")
        if head[0] != 2 or head[1] not in (0, 1):
            file.fail(f"a modality of expert {entry} has kind {head[0]:g} and type {head[1]:g}, expected 2 and 0 or 1")
        template = file.matrix(f"template of expert {entry}", F32, rows=SUPPORT, cols=SUPPORT)
        rows.append(np.concatenate([head[1:], template.ravel()]))
    return np.array(rows)


def read_cen(path: Path) -> CENPatches:
    """Read CEN patch experts (part 1 §5); the layers are views of the mapped file where it holds f32."""
    file = BinaryFile(path)
    scale, centers, visible = _read_views(file)
    views, n = visible.shape
    mirror_inds = file.matrix("mirror landmarks", I32, items=n).ravel()
    mirror_views = file.matrix("mirror views", I32, items=views).ravel()
    if not (np.isin(mirror_inds, np.arange(n)).all() and np.isin(mirror_views, np.arange(views)).all()):
        file.fail("a mirror landmark or view is out of range")
    index = np.full(visible.shape, -1, np.int32)
    confidence = np.zeros(visible.shape)
    experts: list[tuple[Layer, ...]] = []
    for entry in np.ndindex(visible.shape):
        layers = _read_cen_layers(file, entry)
        confidence[entry] = file.float64(f"confidence of expert {entry}")
        if layers:
            index[entry] = len(experts)
            experts.append(layers)
    file.close()
    # An invisible landmark may have an empty mirror; a visible one needs its own expert or its mirror's.
    partner = index[mirror_views[:, None], mirror_inds[None, :]]
    partner[0] = index[0, mirror_inds]
    orphans = np.argwhere(visible & (index < 0) & (partner < 0))
    if len(orphans):
        view, landmark = orphans[0]
        file.fail(f"landmark {landmark} is visible in view {view} but neither it nor its mirror has an expert")
    return CENPatches(
        scale=scale,
        centers=centers,
        visible=visible,
        mirror_inds=frozen(mirror_inds.astype(np.int32)),
        mirror_views=frozen(mirror_views.astype(np.int32)),
        expert=frozen(index),
        experts=tuple(experts),
        confidence=frozen(confidence),
    )


def _read_cen_layers(file: BinaryFile, entry: tuple[int, ...]) -> tuple[Layer, ...]:
    file.expect(6, f"kind of expert {entry}")
    width, height = file.int32("width"), file.int32("height")
    depth = file.count(f"number of layers of expert {entry}", 0, 1000)
    if depth and (width, height) != (SUPPORT, SUPPORT):
        file.fail(f"expert {entry} looks at {width} x {height} pixels, expected {SUPPORT} x {SUPPORT}")
    layers = []
    inputs = SUPPORT * SUPPORT + 1
    for number in range(depth):
        activation = file.int32(f"activation of layer {number} of expert {entry}")
        bias = file.matrix(f"bias of layer {number} of expert {entry}", F32, F64)
        weights = file.matrix(f"weights of layer {number} of expert {entry}", F32, F64, rows=bias.size, cols=inputs)
        inputs = weights.shape[0]
        layers.append(Layer(activation, frozen(bias.ravel(), np.float32), frozen(weights, np.float32)))
    if depth and inputs != 1:
        file.fail(f"the last layer of expert {entry} has {inputs} outputs, expected one")
    return tuple(layers)
