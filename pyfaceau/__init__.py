"""Facial action units in video as OpenFace 2.2 measures them.

`extract` turns a video into OpenFace's table, `Pipeline` gives faces frame by frame, `Config` holds the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfaceau.config import Config
    from pyfaceau.errors import ModelError, PyfaceauError
    from pyfaceau.extraction import extract
    from pyfaceau.face import Face
    from pyfaceau.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Config", "Face", "ModelError", "Pipeline", "PyfaceauError", "extract"]

_HOMES = {
    "Config": "config",
    "Face": "face",
    "ModelError": "errors",
    "Pipeline": "pipeline",
    "PyfaceauError": "errors",
    "extract": "extraction",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing pyfaceau alone costs next to nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'pyfaceau' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"pyfaceau.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
