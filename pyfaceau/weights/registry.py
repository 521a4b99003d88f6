"""What OpenFace 2.2 publishes: every model file with its SHA-256, and where it is published.

The addresses are those of OpenFace 2.2 specification, part 1 §13; every one of them can be replaced by
an option of `pyfaceau models fetch` or by an environment variable.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pyfaceau.errors import ModelError

BASE_URL = "https://raw.githubusercontent.com/TadasBaltrusaitis/OpenFace/OpenFace_2.2.0/lib/local/"
BASE_URL_VARIABLE = "PYFACEAU_MODELS_URL"
CEN_URL_VARIABLE = "PYFACEAU_CEN_URL"  # folders, separated by blanks
LICENCE = (
    "OpenFace's weights are free for academic or non-profit, non-commercial research only; commercial use needs a "
    "licence from their authors: https://github.com/TadasBaltrusaitis/OpenFace"
)
_DIGESTS = Path(__file__).with_name("openface-2.2.0.sha256")


@dataclass(frozen=True)
class CENFile:
    """One file of CE-CLM patch experts. Their digests are not published; size and head are known."""

    name: str  # path in a models folder
    size: int
    head: bytes  # scale (f64) and number of views (i32)
    urls: tuple[str, ...]


def _cen(scale: str, size: int, key: str) -> CENFile:
    name = f"cen_patches_{scale}_of.dat"
    return CENFile(
        f"model/patch_experts/{name}",
        size,
        struct.pack("<di", float(scale), 7),
        (f"https://www.dropbox.com/s/{key}/{name}?dl=1",),
    )


CEN_FILES = (
    _cen("0.25", 60_602_360, "7na5qsjzz8yfoer"),
    _cen("0.35", 60_602_360, "k7bj804cyiu474t"),
    _cen("0.50", 154_289_792, "ixt4vkbmxgab1iu"),
    _cen("1.00", 154_289_792, "2t5t1sdpshzfhpj"),
)


@cache
def _published() -> dict[str, str]:
    """SHA-256 by published path (``LandmarkDetector/model/...``)."""
    return read_digests(_DIGESTS)


def official_digests() -> dict[str, str]:
    """SHA-256 by path in a models folder (``model/...``, ``AU_predictors/...``); without the CEN files."""
    return {local_path(path): digest for path, digest in _published().items()}


def local_path(published: str) -> str:
    """Path in a models folder of a published path: without LandmarkDetector/ or FaceAnalyser/."""
    return published.partition("/")[2]


def published_paths() -> dict[str, str]:
    """Published path by path in a models folder."""
    return {local_path(path): path for path in _published()}


def base_url(option: str | None = None) -> str:
    """The address below which the published paths lie: option, environment variable, or the repository."""
    return (option or os.environ.get(BASE_URL_VARIABLE) or BASE_URL).rstrip("/") + "/"


def cen_urls(file: CENFile, options: Sequence[str] = ()) -> tuple[str, ...]:
    """Addresses of a CEN file, in the order in which they are tried: options, environment variable, published."""
    folders = [*options, *os.environ.get(CEN_URL_VARIABLE, "").split()]
    name = file.name.rpartition("/")[2]
    own = tuple(folder.rstrip("/") + "/" + name for folder in folders)
    return own or file.urls


def read_digests(path: Path) -> dict[str, str]:
    """Read a list of SHA-256 digests as ``sha256sum`` writes it: digest by path."""
    digests = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise ModelError(f"{path}: line {number} is not 'SHA-256  path'; delete the file or write it anew")
        digests[name] = digest
    return digests


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the file ({error.strerror}); check the folder's rights") from None
    return digest.hexdigest()
