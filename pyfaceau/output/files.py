"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pyfaceau.errors import PyfaceauError


class writing:
    """Turns the operating system's refusal to write ``path`` into one line with a remedy."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise PyfaceauError(
                f"cannot write {self._path}: {reason}: choose another place with -o or --out-dir"
            ) from error


def prepare_folder(folder: Path) -> None:
    """Make ``folder`` if need be and prove that files can be written there; `PyfaceauError` if not."""
    probe = folder / f".pyfaceau-{os.getpid()}.part"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def part_of(path: Path) -> Path:
    """Where the file or folder ``path`` is while it is not complete."""
    return path.with_name(path.name + ".part")


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders, as far as they are there; never fails."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class PartFile:
    """A binary file written as ``<path>.part``; `publish` gives it its name, `discard` removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_of(path)
        with writing(path):
            self.file = open(self.part, "wb", buffering=1 << 20)  # noqa: SIM115 - lives as long as the writer

    def close(self) -> None:
        """Flush to disk; the file still has no final name."""
        with writing(self.path):
            self.file.close()

    def publish(self) -> None:
        """Rename to the final name, replacing what was there."""
        self.close()
        with writing(self.path):
            os.replace(self.part, self.path)

    def discard(self) -> None:
        """Remove the unfinished file; never fails."""
        with contextlib.suppress(OSError):
            self.file.close()
        remove([self.part])


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 text file in one step, "\\n" line ends."""
    part = PartFile(path)
    try:
        with writing(path):
            part.file.write(text.encode())
        part.publish()
    except BaseException:
        part.discard()
        raise


def replace_folder(part: Path, final: Path) -> None:
    """Give the folder ``part`` the name ``final``; a folder of that name is removed first."""
    with writing(final):
        if final.exists():
            shutil.rmtree(final)
        os.replace(part, final)
