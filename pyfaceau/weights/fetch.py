"""Downloads OpenFace's files: the small ones by SHA-256 with pooch, the big CEN files with resume.

Nothing appears under its final name before it is checked, and what is there already is not fetched
again, so an interrupted or repeated fetch is harmless. One process at a time works on a folder.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from pyfaceau.errors import ModelError
from pyfaceau.weights import registry
from pyfaceau.weights.cache import atomic_file
from pyfaceau.weights.patches import read_cen

Progress = Callable[[str, int, int], None]  # what, done, total
_TIMEOUT_S = 30.0
_BLOCK = 1 << 14  # bytes: of what came before an interruption, up to a block is lost
_ATTEMPTS = 3  # per address, and again after every attempt that brought new bytes of a CEN file
CEN_DIGESTS = "cen.sha256"  # in the models folder: digests of the CEN files as they were installed


def silent(what: str, done: int, total: int) -> None:
    """The progress of a caller who does not want to know."""


def fetch_models(folder: Path, base_url: str | None = None, progress: Progress = silent) -> list[str]:
    """Fetch every published file that ``folder`` lacks or holds damaged; returns their paths in the folder.

    Raises ModelError naming address and remedy; files that were complete by then stay.
    """
    with folder_lock(folder):
        expected = registry.official_digests()
        wanted = [name for name in expected if not _is_intact(folder / name, expected[name])]
        _download_all(folder, wanted, registry.base_url(base_url), progress)
    return wanted


def _is_intact(path: Path, digest: str) -> bool:
    return path.is_file() and registry.file_digest(path) == digest


def _download_all(folder: Path, names: Sequence[str], base_url: str, progress: Progress) -> None:
    digests, published = registry.official_digests(), registry.published_paths()
    failures: list[ModelError] = []
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(_download, folder / name, base_url + published[name], digests[name], failures) for name in names
        ]
        for number, (name, job) in enumerate(zip(names, jobs, strict=True), 1):
            job.result()
            progress(name, number, len(names))
    if failures:
        more = f" (and {len(failures) - 1} more files failed)" if len(failures) > 1 else ""
        raise ModelError(f"{failures[0]}{more}")


def _download(path: Path, url: str, digest: str, failures: list[ModelError]) -> None:
    """One file, tried several times. Failures are collected."""
    if len(failures) >= 3:  # the network is down or the address wrong: the rest would fail alike
        return
    for _ in range(_ATTEMPTS):
        try:
            problem, again = _try_download(path, url, digest)
        except OSError as error:
            failures.append(ModelError(f"{path}: cannot write ({error.strerror}); check space and rights"))
            return
        if not again:
            break
    if problem:
        failures.append(
            ModelError(
                f"{url}: {problem}; try again, name another address with --base-url or "
                f"${registry.BASE_URL_VARIABLE}, or use `pyfaceau models import DIR`"
            )
        )


def _try_download(path: Path, url: str, digest: str) -> tuple[str, bool]:
    """Download by pooch into a temporary file beside ``path``, check, rename: the problem, and whether to try again."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_S)
    try:
        pooch.retrieve(url, f"sha256:{digest}", path.name, path.parent, downloader=downloader)
        path.chmod(0o644)
    except requests.exceptions.HTTPError as error:
        return _answer(error), False
    except requests.exceptions.ConnectionError:
        return "the server cannot be reached or broke off", True
    except requests.exceptions.RequestException as error:
        return f"the download broke off ({type(error).__name__})", True
    except ValueError:
        return "the file that came has another SHA-256 than the published one", True
    return "", False


def _answer(error: Any) -> str:
    """What the server said, of a requests HTTPError."""
    return f"the server answers {error.response.status_code} {error.response.reason}"


def fetch_cen(folder: Path, urls: Sequence[str] = (), progress: Progress = silent) -> list[str]:
    """Fetch the CE-CLM patch experts that ``folder`` lacks, 430 MB in all; returns their paths in the folder.

    ``urls`` are addresses of folders that hold the four files; they replace the published addresses. An
    interrupted download is resumed, from another address too. Raises ModelError if no address serves a file.
    """
    fetched = []
    with folder_lock(folder):
        for file in registry.CEN_FILES:
            path = folder / file.name
            if cen_is_intact(folder, file):
                continue
            _fetch_one_cen(path, file, registry.cen_urls(file, urls), progress)
            fetched.append(file.name)
        if fetched:
            note_cen_digests(folder)
    return fetched


def cen_is_intact(folder: Path, file: registry.CENFile) -> bool:
    """Whether a CEN file is there, has its size, and still is what was installed."""
    path, digests = folder / file.name, folder / CEN_DIGESTS
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    noted = registry.read_digests(digests).get(file.name) if digests.is_file() else None
    return noted is None or registry.file_digest(path) == noted


def _fetch_one_cen(path: Path, file: registry.CENFile, urls: Sequence[str], progress: Progress) -> None:
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    for url in urls:
        if _fetched_from(url, part, path, file, progress, problems):
            return
    raise ModelError(
        f"{'; '.join(problems)}; try again (what came is kept and resumed), name a mirror with --cen-url or "
        f"${registry.CEN_URL_VARIABLE}, or copy the file into {path.parent} from an OpenFace installation"
    )


def _fetched_from(
    url: str, part: Path, path: Path, file: registry.CENFile, progress: Progress, problems: list[str]
) -> bool:
    try:
        _resume(part, file, url, progress)
        install_cen(part, path, file)
    except ModelError as error:
        problems.append(str(error))
        return False
    except OSError as error:
        raise ModelError(f"{path}: cannot write ({error.strerror}); check space and rights") from None
    return True


def install_cen(part: Path, path: Path, file: registry.CENFile) -> None:
    """Give a complete CEN file its final name; a file that does not parse is removed and ModelError raised."""
    try:
        if part.stat().st_size != file.size:
            raise ModelError(f"{part}: {part.stat().st_size} bytes found, {file.size} expected")
        read_cen(part)
    except ModelError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def _resume(part: Path, file: registry.CENFile, url: str, progress: Progress) -> None:
    """Bring ``part`` to the size of ``file``, going on where an earlier attempt stopped."""
    attempts = 0
    while (have := _size(part)) != file.size:
        if have > file.size:
            part.unlink()
            have = 0
        problem = _get_rest(part, have, file, url, progress)
        now = _size(part)
        attempts = 0 if now > have else attempts + 1
        if now < file.size and attempts >= _ATTEMPTS:
            raise ModelError(f"{url}: {problem}: {now} bytes came, {file.size} expected")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _get_rest(part: Path, have: int, file: registry.CENFile, url: str, progress: Progress) -> str:
    """One request for the bytes from ``have`` on; says how it ended. Another file than expected is not kept."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT_S, headers=headers) as answer:
            answer.raise_for_status()
            _append(part, have if answer.status_code == 206 else 0, answer, file, url, progress)
    except ModelError:
        part.unlink(missing_ok=True)
        raise
    except requests.exceptions.HTTPError as error:
        raise ModelError(f"{url}: {_answer(error)}") from None
    except requests.exceptions.RequestException:
        return "the server cannot be reached or broke off"
    return "the download is cut off"


def _append(part: Path, start: int, answer: Any, file: registry.CENFile, url: str, progress: Progress) -> None:
    """Write the answer's bytes from byte ``start`` of the part file; check the first bytes and the length."""
    total = start + int(answer.headers.get("Content-Length", file.size - start))
    head = b""
    with part.open("r+b" if part.is_file() else "wb") as out:
        out.seek(start)
        out.truncate()
        for block in answer.iter_content(_BLOCK):
            if start == 0 and len(head) < len(file.head):
                head += block[: len(file.head)]
                _check_head(head, file, url, answer)
            if total != file.size or out.tell() + len(block) > file.size:
                raise ModelError(f"{url}: serves a file of {total} bytes, {file.size} expected")
            out.write(block)
            progress(file.name, out.tell(), file.size)


def _check_head(head: bytes, file: registry.CENFile, url: str, answer: Any) -> None:
    if file.head.startswith(head[: len(file.head)]):
        return
    if head.lstrip()[:1] == b"<" or "html" in answer.headers.get("Content-Type", ""):
        raise ModelError(f"{url}: answers with a web page instead of the file")
    raise ModelError(f"{url}: serves another file: its first bytes are not those of CEN patch experts of this scale")


def note_cen_digests(folder: Path) -> None:
    """Write the digests of the installed CEN files, so that later damage is noticed: none are published."""
    present = [file.name for file in registry.CEN_FILES if (folder / file.name).is_file()]
    lines = [f"{registry.file_digest(folder / name)}  {name}\n" for name in present]
    with atomic_file(folder / CEN_DIGESTS) as out:
        out.write("".join(lines).encode())


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Wait until no other process works on ``folder``, then keep others waiting. Ends with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+b")
    except OSError as error:
        raise ModelError(f"{folder}: cannot write there ({error.strerror}); choose another folder with --to") from None
    with lock:
        _lock(lock)
        yield


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        while True:
            with contextlib.suppress(OSError):  # LK_LOCK gives up after ten seconds
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                return
    else:
        fcntl.flock(file, fcntl.LOCK_EX)
