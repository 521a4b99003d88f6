"""Loads whole models from a folder that holds ``model/`` and ``AU_predictors/``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pyfaceau.errors import ModelError
from pyfaceau.weights import lists
from pyfaceau.weights.formats import REMEDY
from pyfaceau.weights.models import AUPredictors, CCNFPatches, LandmarkModel, MTCNNWeights, Part, Patches
from pyfaceau.weights.networks import read_cnn, read_validator
from pyfaceau.weights.parsed import cached_model
from pyfaceau.weights.patches import read_ccnf, read_cen, read_svr
from pyfaceau.weights.pdm import read_early_termination, read_pdm, read_triangles, read_triangulations
from pyfaceau.weights.predictors import read_predictors

_PATCH_READERS = {"ccnf": read_ccnf, "cen": read_cen, "svr": read_svr}


@dataclass(frozen=True)
class ModelSource:
    """A folder of model files and how it was found."""

    path: Path
    origin: str

    @property
    def landmarks(self) -> Path:
        """Folder of the landmark models."""
        return self.path / "model"

    @property
    def action_units(self) -> Path:
        """Folder of the action unit predictors."""
        return self.path / "AU_predictors"


def find_models(models: Path | None = None) -> ModelSource:
    """The folder ``models``, or ../shared/openface beside the checkout."""
    path = models or Path(__file__).resolve().parents[3] / "shared" / "openface"
    if not (path / "model").is_dir():
        raise ModelError(f"{path}: holds no OpenFace models (no folder 'model'); run `pyfaceau models fetch`")
    return ModelSource(path, "named" if models else "beside the checkout")


def load_landmark_model(source: ModelSource | Path, name: str = "main_clnf_general") -> LandmarkModel:
    """Load the main list ``name`` (with or without ``.txt``) and everything it names.

    Raises ModelError if a file is missing or damaged, or if the files do not fit each other.
    """
    folder = _source(source).landmarks
    main = folder / f"{name.removesuffix('.txt')}.txt"
    if not main.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("main_*.txt"))) or "none"
        raise ModelError(f"{main}: no such landmark model (here: {known}); name one of them, or {REMEDY}")
    missing = [path for path in lists.model_files(main) if not path.is_file()]
    if missing:
        raise ModelError(_missing_message(main, missing))
    return cached_model("landmarks", main, lists.model_files(main), lambda: _read_model(main))


def _missing_message(main: Path, missing: list[Path]) -> str:
    names = ", ".join(path.name for path in missing)
    message = f"{main}: needs files that are missing from {missing[0].parent}: {names}; "
    if any(path.name.startswith("cen_patches_") for path in missing):
        return message + (
            "`pyfaceau models fetch --cen` downloads the CE-CLM patch experts (430 MB), `pyfaceau models import DIR` "
            "takes them from an OpenFace folder, `--landmarks clnf` does without"
        )
    return message + "get them with `pyfaceau models fetch` or `pyfaceau models import DIR`"


def _read_model(main: Path) -> LandmarkModel:
    entries = lists.read_main_list(main)
    inner = lists.read_inner_list(entries.detector)
    pdm = read_pdm(inner.pdm)
    patches = _read_patches(inner)
    views, n = patches[-1].visible.shape
    if n != pdm.n:
        raise ModelError(f"{inner.path}: its PDM has {pdm.n} landmarks, its patch experts {n}; {REMEDY}")
    parts = []
    for entry in entries.parts:
        part = _read_model(entry.main)
        pairs = lists.pair_array(entry.pairs)
        if len(pairs) and not ((pairs >= 0).all() and (pairs < (pdm.n, part.pdm.n)).all()):
            raise ModelError(f"{main}: part {entry.name} pairs a landmark that does not exist; {REMEDY}")
        parts.append(Part(entry.name, pairs, part))
    return LandmarkModel(
        name=main.stem,
        kind=inner.kind,  # type: ignore[arg-type]
        pdm=pdm,
        patches=patches,
        parts=tuple(parts),
        validator=read_validator(entries.validator) if entries.validator else None,
        early_termination=read_early_termination(inner.early_termination, views) if inner.early_termination else None,
        triangulations=read_triangulations(inner.triangulations) if inner.triangulations else (),
    )


def _read_patches(inner: lists.InnerList) -> tuple[Patches, ...]:
    patches: list[Patches] = [_PATCH_READERS[inner.kind](path) for path in inner.patches]
    if len({scale.visible.shape for scale in patches}) != 1:
        raise ModelError(f"{inner.path}: its patch files differ in views or landmarks; {REMEDY}")
    last = patches[-1]
    if isinstance(last, CCNFPatches):
        # One set of sigma components serves the whole model: each file that is read replaces it.
        for path, scale in zip(inner.patches, patches, strict=True):
            if any(len(c) > scale.betas.shape[2] for c in last.sigma_components.values()):  # type: ignore[union-attr]
                raise ModelError(f"{path}: has fewer betas than the model has sigma components; {REMEDY}")
        return tuple(replace(scale, sigma_components=last.sigma_components) for scale in patches)  # type: ignore[type-var]
    return tuple(patches)


def load_mtcnn(source: ModelSource | Path) -> MTCNNWeights:
    """Load the three networks of the face detector."""
    main = _source(source).landmarks / "mtcnn_detector" / "MTCNN_detector.txt"
    nets = lists.read_mtcnn_list(main)
    return cached_model(
        "mtcnn",
        main,
        [main, *nets.values()],
        lambda: MTCNNWeights(read_cnn(nets["PNet"]), read_cnn(nets["RNet"]), read_cnn(nets["ONet"])),
    )


def load_au_predictors(source: ModelSource | Path, static: bool = False) -> AUPredictors:
    """Load the action unit predictors for videos (``static=False``) or for single images."""
    main = _source(source).action_units / ("main_static_svms.txt" if static else "main_dynamic_svms.txt")
    files = lists.read_au_main_list(main)
    predictors = [path for path, _ in lists.read_au_list(files["AUPredictor"])]
    return cached_model("action units", main, [main, *files.values(), *predictors], lambda: _read_au_predictors(files))


def _read_au_predictors(files: dict[str, Path]) -> AUPredictors:
    pdm = read_pdm(files["PDM"])
    intensity, presence = read_predictors(files["AUPredictor"])
    return AUPredictors(pdm, read_triangles(files["Triangulation"]), intensity, presence)


def _source(source: ModelSource | Path) -> ModelSource:
    return source if isinstance(source, ModelSource) else ModelSource(Path(source), "named")
