"""Loads whole models from a source of model files, through the cache of parsed weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pyfaceau.errors import ModelError
from pyfaceau.weights import lists
from pyfaceau.weights.formats import REMEDY
from pyfaceau.weights.models import (
    AUPredictors,
    CCNFPatches,
    CENPatches,
    LandmarkModel,
    LinearModels,
    MTCNNWeights,
    Part,
    SVRPatches,
)
from pyfaceau.weights.networks import read_cnn, read_validator
from pyfaceau.weights.parsed import cached_model
from pyfaceau.weights.patches import read_ccnf, read_cen, read_svr
from pyfaceau.weights.pdm import read_early_termination, read_pdm, read_triangles, read_triangulations
from pyfaceau.weights.predictors import read_predictors
from pyfaceau.weights.source import DYNAMIC_LIST, STATIC_LIST, ModelSource, find_models

__all__ = ["ModelSource", "find_models", "load_au_predictors", "load_landmark_model", "load_mtcnn"]
HOG_FEATURES = 12 * 12 * 31  # fixed in OpenFace, not in its files (part 1 §0)


def load_landmark_model(
    source: ModelSource | Path | str, name: str = "main_clnf_general", validator: bool = True
) -> LandmarkModel:
    """Load the main list ``name`` (with or without ``.txt``) and everything it names.

    ``validator=False`` is for runs without validation: the validator's file is then neither needed nor loaded.
    Raises ModelError if a file is missing or damaged, or if the files do not fit each other.
    """
    folder = _source(source).landmarks
    main = folder / f"{name.removesuffix('.txt')}.txt"
    if not main.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("main_*.txt"))) or "none"
        raise ModelError(f"{main}: no such landmark model (here: {known}); name one of them, or {REMEDY}")
    files = lists.model_files(main, validator)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise ModelError(_missing_message(main, missing))
    label = "landmarks" if validator else "landmarks without validator"
    return cached_model(label, main, files, lambda: read_model(main, validator))


def _missing_message(main: Path, missing: list[Path]) -> str:
    names = ", ".join(path.name for path in missing)
    message = f"{main}: needs files that are missing from {missing[0].parent}: {names}; "
    if any(path.name.startswith("cen_patches_") for path in missing):
        return message + (
            "`pyfaceau models fetch --cen` downloads the CE-CLM patch experts (430 MB), `pyfaceau models import DIR` "
            f"takes them from an OpenFace folder, ${lists.CEN_VARIABLE} names a folder that holds them, "
            "`--landmarks clnf` does without"
        )
    return message + "get them with `pyfaceau models fetch` or `pyfaceau models import DIR`"


def read_model(main: Path, validator: bool = True) -> LandmarkModel:
    """Read a main list and everything it names, past the cache."""
    entries = lists.read_main_list(main)
    inner = lists.read_inner_list(entries.detector)
    pdm = read_pdm(inner.pdm)
    patches = _read_patches(inner)
    views, n = patches[-1].visible.shape
    if n != pdm.n:
        raise ModelError(f"{inner.path}: its PDM has {pdm.n} landmarks, its patch experts {n}; {REMEDY}")
    parts = []
    for entry in entries.parts:
        part = read_model(entry.main)
        pairs = lists.pair_array(entry.pairs)
        if len(pairs) and not ((pairs >= 0).all() and (pairs < (pdm.n, part.pdm.n)).all()):
            raise ModelError(f"{main}: part {entry.name} pairs a landmark that does not exist; {REMEDY}")
        parts.append(Part(entry.name, pairs, part))
    validation = read_validator(entries.validator) if validator and entries.validator else None
    if validation is not None and any(len(view.destination) != 2 * n for view in validation.views):
        raise ModelError(f"{entries.validator}: is not made for {n} landmarks as {inner.pdm.name} is; {REMEDY}")
    return LandmarkModel(
        name=main.stem,
        kind=inner.kind,
        pdm=pdm,
        patches=patches,
        parts=tuple(parts),
        validator=validation,
        early_termination=read_early_termination(inner.early_termination, views) if inner.early_termination else None,
        triangulations=read_triangulations(inner.triangulations) if inner.triangulations else (),
    )


def _read_patches(inner: lists.InnerList) -> tuple[CCNFPatches, ...] | tuple[CENPatches, ...] | tuple[SVRPatches, ...]:
    if inner.kind == "ccnf":
        ccnf = tuple(read_ccnf(path) for path in inner.patches)
        _check_scales(inner, ccnf)
        # One set of sigma components serves the whole model: each file that is read replaces it.
        components = ccnf[-1].sigma_components
        needed = max((len(component) for component in components.values()), default=0)
        for path, scale in zip(inner.patches, ccnf, strict=True):
            if scale.betas.shape[2] < needed:
                raise ModelError(f"{path}: has fewer betas than the model's {needed} sigma components; {REMEDY}")
        return tuple(replace(scale, sigma_components=components) for scale in ccnf)
    if inner.kind == "cen":
        cen = tuple(read_cen(path) for path in inner.patches)
        _check_scales(inner, cen)
        return cen
    svr = tuple(read_svr(path) for path in inner.patches)
    _check_scales(inner, svr)
    return svr


def _check_scales(inner: lists.InnerList, patches: tuple[CCNFPatches | CENPatches | SVRPatches, ...]) -> None:
    if len({scale.visible.shape for scale in patches}) != 1:
        raise ModelError(f"{inner.path}: its patch files differ in views or landmarks; {REMEDY}")


def load_mtcnn(source: ModelSource | Path | str) -> MTCNNWeights:
    """Load the three networks of the face detector."""
    main = _source(source).landmarks / "mtcnn_detector" / "MTCNN_detector.txt"
    nets = lists.read_mtcnn_list(main)
    return cached_model("mtcnn", main, [main, *nets.values()], lambda: read_mtcnn(nets))


def read_mtcnn(nets: dict[str, Path]) -> MTCNNWeights:
    """Read the three networks, past the cache."""
    return MTCNNWeights(read_cnn(nets["PNet"]), read_cnn(nets["RNet"]), read_cnn(nets["ONet"]))


def load_au_predictors(source: ModelSource | Path | str, static: bool = False) -> AUPredictors:
    """Load the action unit predictors for videos (``static=False``) or for single images."""
    main = _source(source).action_units / (STATIC_LIST if static else DYNAMIC_LIST)
    return cached_model("action units", main, lists.au_files(main), lambda: read_action_units(main))


def read_action_units(main: Path, used: set[Path] | None = None) -> AUPredictors:
    """Read a main list of predictors and all it names, past the cache; notes the files in ``used``."""
    if used is not None:
        used.update(lists.au_files(main))
    files = lists.read_au_main_list(main)
    pdm = read_pdm(files["PDM"])
    triangles = read_triangles(files["Triangulation"])
    if triangles.min() < 0 or triangles.max() >= pdm.n:
        raise ModelError(f"{files['Triangulation']}: names a landmark that {files['PDM'].name} lacks; {REMEDY}")
    intensity, presence = read_predictors(files["AUPredictor"])
    for models in (intensity, presence):
        _check_features(files["AUPredictor"], models, HOG_FEATURES + 3 * pdm.n + pdm.m)
    return AUPredictors(pdm, triangles, intensity, presence)


def _check_features(path: Path, models: LinearModels, features: int) -> None:
    if models.names and models.weights.shape[1] != features:
        raise ModelError(
            f"{path}: its predictors have {models.weights.shape[1]} features, {features} expected "
            f"({HOG_FEATURES} of the image and the rest of the PDM beside it); {REMEDY}"
        )


def _source(source: ModelSource | Path | str) -> ModelSource:
    return source if isinstance(source, ModelSource) else find_models(source)
