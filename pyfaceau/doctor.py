"""What is installed, which weights were found where, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pyfaceau import __version__
from pyfaceau.errors import PyfaceauError

_PACKAGES = ("numpy", "numba", "opencv-python-headless", "opencv-python", "pandas", "pooch", "matplotlib")
_OPTIONAL = ("opencv-python", "matplotlib")


def report(models: str | None = None) -> tuple[str, bool]:
    """Text of the findings, and whether ``pyfaceau extract`` can work.

    Parameters
    ----------
    models : look for weights here instead of the usual places.
    """
    lines = [
        f"pyfaceau {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"processors: {_processors()}",
        *_packages(),
        *_kernels(),
    ]
    weights, healthy = _weights(models)
    return "\n".join([*lines, *weights]), healthy


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _packages() -> list[str]:
    lines = []
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name not in _OPTIONAL:
                lines.append(f"{name} is missing: python -m pip install {name}")
    return [*lines, *_opencv_warning()]


def _opencv_warning() -> list[str]:
    import cv2

    if tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 13):
        return []
    return [f"warning: OpenCV {cv2.__version__} decodes some videos to other pixels than OpenFace: use one below 4.13"]


def _kernels() -> list[str]:
    from pyfaceau._jit import kernel_cache_dir
    from pyfaceau._simd import WIDE
    from pyfaceau.warmup import compiled_kinds

    folder = kernel_cache_dir()
    kinds = ", ".join(sorted(compiled_kinds())) or "none yet: `pyfaceau warmup` does it, or the first run"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    writable = _is_writable(folder)
    lines = [f"compiled kernels: {kinds}, vectors of {WIDE} numbers ({size / 1e6:.1f} MB in {folder})"]
    if not writable:
        lines.append(f"warning: {folder} cannot be written: kernels are compiled anew in each run; set PYFACEAU_CACHE")
    return lines


def _is_writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _weights(models: str | None) -> tuple[list[str], bool]:
    from pyfaceau import weights

    try:
        source = weights.find_models(models)
    except PyfaceauError as error:
        return [f"weights: {error}"], False
    lines = [f"weights: {source.path} ({source.origin})"]
    healthy = False
    for name, missing in weights.landmark_models(source).items():
        healthy |= not missing
        lines.append(f"  {name}: " + ("complete" if not missing else f"lacks {', '.join(p.name for p in missing)}"))
    try:
        lines.append(f"  used by default: {weights.choose_landmark_model(source)}")
        for static in (False, True):
            names = weights.load_au_predictors(source, static=static).intensity.names
            lines.append(f"  action units, {'static' if static else 'dynamic'}: {len(names)} intensities")
        weights.load_mtcnn(source)
        lines.append("  face detector: complete")
    except PyfaceauError as error:
        return [*lines, f"  {error}"], False
    return lines, healthy
