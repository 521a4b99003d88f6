"""Writers of OpenFace's model formats, for tests: a small model pack with random numbers.

They follow the layouts of OpenFace 2.2 specification, part 1, independently of the readers, and share no
code with them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

N, M, VIEWS, NEURONS = 5, 2, 2, 3  # landmarks, modes, views, CCNF neurons
FEATURES = 4464 + 3 * N + M
CODES = {"u1": 0, "i4": 4, "f4": 5, "f8": 6}


def matrix(array: np.ndarray, dtype: str) -> bytes:
    """A binary matrix."""
    array = np.atleast_2d(np.asarray(array, dtype="<" + dtype))
    return struct.pack("<iii", *array.shape, CODES[dtype]) + array.tobytes()


def column(values: object, dtype: str) -> bytes:
    """A binary matrix of one column."""
    return matrix(np.asarray(values).reshape(-1, 1), dtype)


def text_matrix(array: np.ndarray, dtype: str) -> str:
    """A text matrix, numbers in full precision."""
    array = np.atleast_2d(array)
    rows = "\n".join(" ".join(repr(value.item()) for value in row) for row in array)
    return f"{array.shape[0]}\n{array.shape[1]}\n{CODES[dtype]}\n{rows}\n"


def head(scale: float, visible: np.ndarray) -> bytes:
    """What CCNF and CEN files start with: views at yaw 0, -20, ..."""
    centres = b"".join(column([0.0, -20.0 * view, -0.0], "f8") for view in range(len(visible)))
    return struct.pack("<di", scale, len(visible)) + centres + b"".join(column(row, "i4") for row in visible)


def visibility() -> np.ndarray:
    """All but the last landmark of the last view."""
    visible = np.ones((VIEWS, N), np.int32)
    visible[-1, -1] = 0
    return visible


def ccnf(rng: np.random.Generator, scale: float = 0.5, windows: tuple[int, ...] = (3, 5), components: int = 2) -> bytes:
    """CCNF patch experts; the components of window w are filled with w, w + 1, ..."""
    data = head(scale, visibility()) + struct.pack("<i", len(windows))
    for w in windows:
        data += struct.pack("<ii", w, components)
        data += b"".join(matrix(np.full((w * w, w * w), w + c), "f4") for c in range(components))
    for seen in visibility().ravel():
        data += struct.pack("<iiii", 5, 11, 11, NEURONS if seen else 0)
        if not seen:
            data += struct.pack("<i", 0)
            continue
        for _ in range(NEURONS):
            data += struct.pack("<ii3d", 2, 0, *rng.random(3)) + matrix(rng.random((11, 11)), "f4")
        data += rng.random(components if windows else 0).tobytes() + struct.pack("<d", rng.random())
    return data


def cen(rng: np.random.Generator, scale: float = 0.5, dtype: str = "f4", views: int = VIEWS, width: int = 2) -> bytes:
    """CEN patch experts 122 -> width -> 1. Landmark 1 is supplied by its mirror 0, in the mirrored view."""
    visible = np.ones((views, N), np.int32)
    data = head(scale, visible) + matrix(np.array([1, 0, 2, 3, 4]), "i4") + matrix(np.arange(views)[::-1], "i4")
    for _, landmark in np.ndindex(visible.shape):
        filled = landmark != 1
        data += struct.pack("<iiii", 6, 11, 11, 2 if filled else 0)
        if filled:
            data += struct.pack("<i", 2) + matrix(rng.random(width), dtype) + matrix(rng.random((width, 122)), dtype)
            data += struct.pack("<i", 0) + matrix(rng.random(1), dtype) + matrix(rng.random((1, width)), dtype)
        data += struct.pack("<d", rng.random())
    return data


def svr(rng: np.random.Generator, scale: float = 0.5) -> str:
    """SVR patch experts with a raw and a gradient modality."""
    text = f"# scale\n{scale}\n# views\n{VIEWS}\n# centres\n"
    text += "".join(text_matrix(np.array([[0.0], [-20.0 * view], [0.0]]), "f8") for view in range(VIEWS))
    text += "# visibility\n" + "".join(text_matrix(row.reshape(-1, 1), "i4") for row in visibility())
    for _ in range(VIEWS * N):
        text += "3 11 11 2\n"
        for modality in range(2):
            text += f"2\n{modality}\n" + " ".join(repr(v) for v in rng.random(3).tolist()) + "\n"
            text += text_matrix(rng.random((11, 11)), "f4")
    return text


def pdm(rng: np.random.Generator, n: int = N, m: int = M) -> str:
    """A point distribution model."""
    blocks = (("mean", rng.random((3 * n, 1))), ("modes", rng.random((3 * n, m))), ("values", rng.random((1, m))))
    return "".join(f"# {name}\n{text_matrix(array, 'f8')}" for name, array in blocks)


def conv(rng: np.random.Generator, n_in: int, n_out: int, size: int) -> bytes:
    """A convolution, kernels ordered by input map, then output map."""
    kernels = b"".join(matrix(rng.random((size, size)), "f4") for _ in range(n_in * n_out))
    return struct.pack("<iii", 0, n_in, n_out) + rng.random(n_out).astype("<f4").tobytes() + kernels


def dense(rng: np.random.Generator, n_in: int, n_out: int) -> bytes:
    """A fully connected layer, one row of weights per input."""
    return struct.pack("<i", 2) + column(rng.random(n_out), "f4") + matrix(rng.random((n_in, n_out)), "f4")


def net(rng: np.random.Generator) -> bytes:
    """A network with every layer type of the detector's container."""
    prelu = struct.pack("<i", 3) + column(rng.random(2), "f4")
    pool = struct.pack("<5i", 1, 3, 2, 2, 1)
    return struct.pack("<i", 5) + conv(rng, 3, 2, 3) + prelu + pool + dense(rng, 2, 6) + struct.pack("<i", 4)


def validator(rng: np.random.Generator) -> bytes:
    """A detection validator of one view: 3 x 4 warp with 5 pixels, a rectifier and a pooling layer, 6 bins."""
    ids = np.array([[-1, 0, 0, -1], [-1, 1, 1, 0], [-1, -1, -1, -1]])
    data = struct.pack("<ii", 3, 1) + column([0.0, 20.0, 0.0], "f8")
    data += matrix(rng.random((1, 5)), "f8") + matrix(rng.random((1, 5)), "f8")
    data += struct.pack("<i", 4) + conv(rng, 1, 2, 2) + struct.pack("<ii", 3, 1) + dense(rng, 2, 6)
    data += struct.pack("<idd", 5, -2.5, 1.5) + column(rng.random(2 * N), "f8")
    data += matrix(np.array([[0, 1, 2], [1, 2, 3]]), "i4") + matrix(ids, "i4") + matrix(ids >= 0, "i4")
    return data + matrix(rng.random((2, 3)), "f8") + matrix(rng.random((2, 3)), "f8")


def predictor(rng: np.random.Generator, kind: int, features: int = FEATURES) -> bytes:
    """An action unit predictor: 0 and 1 intensity, 4 and 5 presence; odd kinds dynamic."""
    data = struct.pack("<i", kind) + (struct.pack("<d", rng.random()) if kind == 1 else b"")
    data += (
        matrix(rng.random((1, features)), "f8") + column(rng.random(features), "f8") + struct.pack("<d", rng.random())
    )
    return data + (struct.pack("<2d", 0.0, 1.0) if kind in (4, 5) else b"")


def write_pack(folder: Path, seed: int = 0) -> Path:
    """A complete models folder: CLNF with an eye part, CLM, CE-CLM, detector, validator, action units."""
    rng = np.random.default_rng(seed)
    triangles = text_matrix(np.array([[0, 1, 2], [1, 2, 3]]), "i4")
    files: dict[str, bytes | str] = {
        "model/main_clnf_general.txt": "LandmarkDetector clnf.txt\r\n\n"
        "LandmarkDetector_part eye/main_eye.txt left 0 1 2 3\nFaceDetConversion nothing.txt\n"
        "DetectionValidator validator.txt",
        "model/main_clm_general.txt": "LandmarkDetector clm.txt\n",
        "model/main_ceclm_general.txt": "LandmarkDetector cen.txt\nDetectionValidator validator.txt\n",
        "model/clnf.txt": "PDM pdm.txt\nTriangulations tris.txt\nPatchesCCNF ccnf_a.txt\nPatchesCCNF ccnf_b.txt",
        "model/clm.txt": "PDM pdm.txt\nPatchesIntensity svr.txt\n",
        "model/cen.txt": "PDM pdm.txt\nPatchesCEN cen_patches_a.dat\nPatchesCEN cen_patches_b.dat\n"
        "EarlyTermination early.txt",
        "model/early.txt": " ".join(str(v) for v in range(3 * VIEWS)) + " \n",
        "model/eye/main_eye.txt": "LandmarkDetector eye.txt",
        "model/eye/eye.txt": "PDM pdm_eye.txt\nPatchesCCNF ccnf_eye.txt",
        "model/eye/pdm_eye.txt": pdm(rng),
        "model/eye/ccnf_eye.txt": ccnf(rng, 1.0, (3, 5), 0),
        "model/pdm.txt": pdm(rng),
        "model/tris.txt": f"# views\n1\n# first\n{triangles}",
        "model/ccnf_a.txt": ccnf(rng, 0.25, (3, 5, 7)),
        "model/ccnf_b.txt": ccnf(rng, 0.5, (3, 7)),
        "model/svr.txt": svr(rng),
        "model/cen_patches_a.dat": cen(rng, 0.25),
        "model/cen_patches_b.dat": cen(rng, 0.5, "f8"),
        "model/validator.txt": validator(rng),
        "model/mtcnn_detector/MTCNN_detector.txt": "PNet PNet.dat\nRNet RNet.dat\nONet ONet.dat\n",
        **{f"model/mtcnn_detector/{name}Net.dat": net(rng) for name in "PRO"},
        "AU_predictors/pdm.txt": pdm(rng),
        "AU_predictors/tris.txt": triangles,
        "AU_predictors/main_dynamic_svms.txt": "AUPredictor dynamic.txt\nPDM pdm.txt\nTriangulation tris.txt",
        "AU_predictors/main_static_svms.txt": "AUPredictor static.txt\nPDM pdm.txt\nTriangulation tris.txt\r\n",
        "AU_predictors/dynamic.txt": "svm/AU_2_dyn.dat AU02\nsvm/AU_1.dat AU01,AU45\n"
        "svr/AU_2_dyn.dat AU02\nsvr/AU_1.dat AU01\n\n",
        "AU_predictors/static.txt": "svm/AU_1.dat AU01\nsvr/AU_1.dat AU01",
        **{f"AU_predictors/{name}.dat": predictor(rng, kind) for name, kind in PREDICTORS.items()},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


PREDICTORS = {"svm/AU_1": 4, "svm/AU_2_dyn": 5, "svr/AU_1": 0, "svr/AU_2_dyn": 1}
