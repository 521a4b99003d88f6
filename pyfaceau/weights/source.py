"""Where the weights are: the search order, the layouts of a models folder, which models it can load."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pyfaceau._jit import user_cache_dir
from pyfaceau.errors import ModelError
from pyfaceau.weights import lists

MODELS_VARIABLE = "PYFACEAU_MODELS"
DEMO = "demo"
DYNAMIC_LIST, STATIC_LIST = "main_dynamic_svms.txt", "main_static_svms.txt"
# Landmark models and action unit predictors, relative to the folder that is named: a models folder or an
# installed OpenFace; OpenFace's repository, built or not.
_LAYOUTS = (
    ("model", "AU_predictors"),
    ("bin/model", "bin/AU_predictors"),
    ("build/bin/model", "build/bin/AU_predictors"),
    ("LandmarkDetector/model", "FaceAnalyser/AU_predictors"),
    ("lib/local/LandmarkDetector/model", "lib/local/FaceAnalyser/AU_predictors"),
)
_FAMILIES = {"ceclm": "main_ceclm_general", "clnf": "main_clnf_general", "clm": "main_clm_general"}


@dataclass(frozen=True)
class ModelSource:
    """A folder of model files and how it was found."""

    path: Path
    origin: str

    @property
    def landmarks(self) -> Path:
        """Folder of the landmark models (``model/``)."""
        return self._folder(0)

    @property
    def action_units(self) -> Path:
        """Folder of the action unit predictors (``AU_predictors/``)."""
        return self._folder(1)

    def _folder(self, which: int) -> Path:
        layout = find_layout(self.path) or _LAYOUTS[0]
        return self.path / layout[which]


def find_layout(folder: Path) -> tuple[str, str] | None:
    """Relative paths of landmark models and action unit predictors in ``folder``, None without models."""
    return next((layout for layout in _LAYOUTS if (folder / layout[0]).is_dir()), None)


def models_cache() -> Path:
    """The folder to which ``pyfaceau models fetch`` and ``import`` bring OpenFace's files."""
    return user_cache_dir() / "models" / "openface-2.2.0"


def beside_checkout() -> Path:
    """Where a checkout of pyfaceau's repository looks for weights outside itself."""
    return Path(__file__).resolve().parents[3] / "shared" / "openface"


def demo_folders() -> list[Path]:
    """Where the demo pack may be: in the repository, or inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    return [package.parent / "golden" / "demo" / "pack", package / "weights" / "demo"]


def demo_source() -> ModelSource:
    """The demo pack that comes with pyfaceau: it knows the one face of the demo clips and no other."""
    for folder in demo_folders():
        if find_layout(folder):
            return ModelSource(folder, "demo pack: knows one person's face, that of the demo clips only")
    raise ModelError(
        "models 'demo': this installation does not contain the demo pack; run pyfaceau from a clone of its "
        "repository, where it is golden/demo/pack"
    )


def find_models(models: str | Path | None = None) -> ModelSource:
    """Find the weights: ``models``, $PYFACEAU_MODELS, the user cache, ../shared/openface beside the checkout.

    ``models`` (and the variable) may be a models folder, an OpenFace folder, a pack file, or ``demo``. Where one
    of these two is given but of no use, that is an error: the later places are not searched. Raises ModelError
    with the remedy.
    """
    if models is not None:
        return _named(models, "named by option or setting")
    if variable := os.environ.get(MODELS_VARIABLE):
        return _named(variable, f"named by ${MODELS_VARIABLE}")
    places = {models_cache(): "user cache", beside_checkout(): "beside the checkout"}
    for place, origin in places.items():
        source = ModelSource(place, origin)
        if is_usable(source):
            return source
    raise ModelError(
        f"no OpenFace weights found in {' or '.join(str(place) for place in places)}; run `pyfaceau models fetch`, "
        f"or name a folder with --models or ${MODELS_VARIABLE}. The demo weights that come with pyfaceau know one "
        "person's face only, that of the demo clips, and are used for nothing unless asked for (`--models demo`)"
    )


def _named(models: str | Path, origin: str) -> ModelSource:
    if str(models) == DEMO:
        return demo_source()
    path = Path(models).expanduser()
    if path.is_file():
        from pyfaceau.weights.pack import unpacked  # only here: needs lzma and tarfile

        return ModelSource(unpacked(path), f"pack {path}, {origin}")
    if not path.is_dir():
        raise ModelError(f"{path}: no such models folder or pack ({origin}); name another or `pyfaceau models fetch`")
    if find_layout(path) is None:
        raise ModelError(
            f"{path}: holds no OpenFace models, no folder 'model' ({origin}); name the folder that holds 'model' and "
            "'AU_predictors', or run `pyfaceau models fetch`"
        )
    return ModelSource(path, origin)


def is_usable(source: ModelSource) -> bool:
    """Whether a source holds a whole landmark model, the face detector and the action unit predictors."""
    if all(landmark_models(source).values()):  # also where there is no landmark model
        return False
    detector = source.landmarks / "mtcnn_detector" / "MTCNN_detector.txt"
    try:
        files = [*lists.read_mtcnn_list(detector).values(), *lists.au_files(source.action_units / DYNAMIC_LIST)]
    except ModelError:
        return False
    return all(path.is_file() for path in files)


def landmark_models(source: ModelSource) -> dict[str, list[Path]]:
    """The main lists of a source by name, each with the files that it lacks (none: it can be loaded)."""
    found = {}
    for main in sorted(source.landmarks.glob("main_*.txt")):
        found[main.stem] = [path for path in lists.model_files(main) if not path.is_file()]
    return found


def choose_landmark_model(source: ModelSource, wanted: str = "auto") -> str:
    """Name of the main list to use: ``wanted`` as a family (``ceclm``, ``clnf``, ``clm``) or a name, or ``auto``.

    ``auto`` is OpenFace's default, CE-CLM, where all its files are found, then CLNF, then CLM, then any other
    model that is complete. Raises ModelError if there is none.
    """
    if wanted != "auto":
        return _FAMILIES.get(wanted, wanted)
    loadable = [name for name, missing in landmark_models(source).items() if not missing]
    if not loadable:
        raise ModelError(f"{source.landmarks}: no landmark model there is complete; run `pyfaceau models list`")
    return next((name for name in _FAMILIES.values() if name in loadable), loadable[0])
