"""Where the clips are: shipped in ``golden/``, in a folder of the user, beside the checkout, or downloaded.

Downloads come from the clips' public repositories at a pinned commit and are accepted by SHA-256 only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from validation.errors import HarnessError
from validation.files import SHARED, sha256_file
from validation.goldens import Clip, Store

RAW = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def download_folder() -> Path:
    """Where ``clips fetch`` puts clips, unless told otherwise: the user's cache."""
    import pooch

    return Path(pooch.os_cache("pyfaceau")) / "clips"


def folders(named: Path | None = None) -> list[Path]:
    """Folders to look in, the first wins."""
    if named is not None:
        if not named.is_dir():
            raise HarnessError(f"{named}: not a folder; name the one that holds the clips")
        return [named, SHARED / "videos", download_folder()]
    return [SHARED / "videos", download_folder()]


def locate(store: Store, clip: Clip, places: Iterable[Path]) -> Path | None:
    """The clip's file, ``None`` if it is nowhere. Its bytes are not looked at."""
    if clip.shipped:
        return store.folder / clip.shipped
    return next((place / clip.file for place in places if (place / clip.file).is_file()), None)


def require_same(clip: Clip, path: Path) -> None:
    """``HarnessError`` if the file's bytes are not those that the goldens were made from."""
    if sha256_file(path) != clip.sha256:
        raise HarnessError(f"{path}: not the bytes its golden was made from (SHA-256 differs); fetch the clip again")


def url(clip: Clip, base: str = RAW) -> str:
    """Where the clip is published."""
    if clip.source is None:
        raise HarnessError(f"{clip.name}: the manifest names no public source; put {clip.file} into a folder yourself")
    return base.format(**clip.source)


def fetch(clip: Clip, folder: Path, base: str = RAW) -> Path:
    """Download one clip; an existing file with the right bytes is kept. ``HarnessError`` if that fails.

    pooch writes a temporary file and renames it only when its SHA-256 is right.
    """
    import pooch
    import requests

    address = url(clip, base)
    try:
        got = pooch.retrieve(address, known_hash=clip.sha256, fname=clip.file, path=folder, progressbar=False)
    except ValueError as error:
        raise HarnessError(f"{address}: the downloaded bytes are not the expected ones; nothing was kept") from error
    except (requests.exceptions.RequestException, OSError) as error:
        raise HarnessError(f"{address}: cannot be downloaded ({_short(error)}); try again or place the file") from error
    return Path(got)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
