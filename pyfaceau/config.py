"""One frozen object that says what to do; every option is honoured by the stage that it names."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pyfaceau.errors import PyfaceauError

#: Groups of CSV columns, in the file's order.
COLUMN_GROUPS = ("gaze", "pose", "2d", "3d", "pdm", "aus")

#: Short names of landmark models and the main lists that they stand for.
LANDMARK_MODELS = {"clnf": "main_clnf_general", "ceclm": "main_ceclm_general", "clm": "main_clm_general"}

_PRESETS: dict[str, dict[str, Any]] = {
    "openface-2.2": {},
    "wild": {
        "windows_init": (15, 13, 11, 11),
        "sigma": 1.25,
        "reg": 35.0,
        "w_reg": 2.5,
        "n_iter": 10,
    },
}


@dataclass(frozen=True)
class Config:
    """Settings of a run. The defaults are those of OpenFace 2.2's FeatureExtraction.

    Landmark fitting follows OpenFace 2.2 specification, part 2 §2; outputs follow part 3 §12-13. Invalid settings
    raise `PyfaceauError`.
    """

    models: str | Path | None = None  #: folder, pack or named source of weights; ``None`` searches the usual places
    landmarks: str = "auto"  #: "ceclm", "clnf", "clm", a main list's name, or "auto": ceclm if there, else clnf
    au: str = "dynamic"  #: "dynamic" (person-calibrated) or "static" action unit models

    sigma: float = 1.5  #: width of the mean-shift kernel, response pixels
    reg: float = 25.0  #: weight of the shape prior
    w_reg: float = 0.0  #: weight of the patch experts' confidences; 0 trusts all alike
    n_iter: int = 5  #: most steps per scale
    windows_init: tuple[int, ...] = (11, 9, 7, 5)  #: response sizes per scale when a face is new or was lost
    windows_small: tuple[int, ...] = (0, 9, 7, 0)  #: the same while tracking; 0 skips the scale
    validate: bool = True  #: let the validator decide whether a fit is a face

    fx: float | None = None  #: focal lengths in px; ``None`` estimates them from the picture's size
    fy: float | None = None
    cx: float | None = None  #: optical centre in px; ``None``: the middle of the picture
    cy: float | None = None
    camera_width: int = 640  #: size asked of a camera
    camera_height: int = 480

    columns: tuple[str, ...] = COLUMN_GROUPS  #: groups of CSV columns
    dialect: str = "source"  #: separators of the CSV: "source" or "release"
    hog: bool = False  #: write the descriptors (``.hog``)
    aligned: bool = False  #: write the aligned faces
    aligned_size: int = 112  #: width and height of a written aligned face, px
    aligned_scale: float | None = None  #: px per mm of a written aligned face; ``None``: in proportion to the size
    aligned_mask: bool = True  #: black outside the face
    aligned_gray: bool = False
    aligned_failed: bool = True  #: write a black picture for frames without a face
    aligned_format: str = "bmp"
    tracked: bool = False  #: write a video with the face drawn into it

    threads: int = 2  #: the one knob for all threads of a run; results do not depend on it

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        for name in ("windows_init", "windows_small"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_choices()
        self._check_numbers()

    def _check_choices(self) -> None:
        _require(self.au in ("dynamic", "static"), f"au={self.au!r}: choose dynamic or static")
        _require(self.dialect in ("source", "release"), f"dialect={self.dialect!r}: choose source or release")
        unknown = [name for name in self.columns if name not in COLUMN_GROUPS]
        _require(not unknown, f"columns={','.join(unknown)}: choose from {','.join(COLUMN_GROUPS)}")
        formats = ("bmp", "png", "jpg")
        _require(self.aligned_format in formats, f"aligned_format={self.aligned_format!r}: choose from {formats}")
        _require(bool(self.landmarks), "landmarks is empty: name a model, for example clnf")

    def _check_numbers(self) -> None:
        for name in ("sigma", "reg", "n_iter", "threads", "aligned_size", "camera_width", "camera_height"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, f"{name}={value}: must be greater than 0")
        _require(math.isfinite(self.w_reg) and self.w_reg >= 0, f"w_reg={self.w_reg}: must not be negative")
        scale = self.aligned_scale
        _require(scale is None or scale > 0, f"aligned_scale={scale}: must be greater than 0")
        for windows in (self.windows_init, self.windows_small):
            odd = all(w == 0 or (w > 0 and w % 2 == 1) for w in windows)
            _require(odd and any(windows), f"windows {windows}: odd sizes, or 0 to skip a scale")
        # One of a pair alone would leave the other at a senseless value in OpenFace; here it is an error.
        _require((self.fx is None) == (self.fy is None), "give both fx and fy, or none")
        _require((self.cx is None) == (self.cy is None), "give both cx and cy, or none")
        _require(self.fx is None or (self.fx > 0 and (self.fy or 0) > 0), "fx and fy must be greater than 0")

    @classmethod
    def preset(cls, name: str = "openface-2.2", **changes: Any) -> Config:
        """A named set of settings: "openface-2.2" (the defaults) or "wild" (OpenFace's ``-wild``), with changes.

        ``-wild`` also sets OpenFace's ``multi_view``, which does nothing in videos: a new face is always tried in
        all eleven start orientations (part 2 §3).
        """
        if name not in _PRESETS:
            raise PyfaceauError(f"preset {name!r} is unknown: choose from {', '.join(_PRESETS)}")
        return cls(**{**_PRESETS[name], **changes})

    def with_changes(self, **changes: Any) -> Config:
        """A copy with some settings changed."""
        known = {field.name for field in fields(self)}
        if unknown := sorted(changes.keys() - known):
            raise PyfaceauError(f"unknown setting {', '.join(unknown)}: see pyfaceau.Config")
        return replace(self, **changes)

    @property
    def landmark_model(self) -> str | None:
        """Name of the main list, or ``None`` if it is to be chosen by what is there."""
        return None if self.landmarks == "auto" else LANDMARK_MODELS.get(self.landmarks, self.landmarks)

    @property
    def output_scale(self) -> float:
        """Pixels per mm of a written aligned face."""
        return self.aligned_size * 0.7 / 112 if self.aligned_scale is None else self.aligned_scale

    @property
    def needs_analysis(self) -> bool:
        """Whether anything that is wanted needs the aligned face (part 3 §0, step 4)."""
        return "aus" in self.columns or self.hog or self.aligned


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PyfaceauError(message)
