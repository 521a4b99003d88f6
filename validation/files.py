"""Small helpers for files: whole-or-nothing writes, digests, TOML."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from validation.errors import HarnessError

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "golden"
SHARED = REPOSITORY.parent / "shared"


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path`` and rename, so that a file under this name is always whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HarnessError(f"{path}: cannot be written ({error.strerror}); name another place") from error


def write_json(path: Path, data: object, indent: int | None = 1) -> None:
    """JSON with a newline at the end; numbers that are not finite are refused, as JSON has none."""
    write_atomically(path, (json.dumps(data, indent=indent, allow_nan=False) + "\n").encode())


def read_text(path: Path, what: str) -> str:
    """The file's text; ``HarnessError`` names ``what`` the file should hold."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{path}: cannot be read ({error.strerror}); it should hold {what}") from error
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path}: not a text file; it should hold {what}") from error


def read_json(path: Path, what: str) -> Any:
    """Parsed JSON; ``HarnessError`` names ``what`` the file should be."""
    text = read_text(path, what)
    try:
        return json.loads(text)
    except ValueError as error:
        raise HarnessError(f"{path}: not JSON ({error}); it should hold {what}") from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Parsed TOML; ``HarnessError`` names ``what`` the file should be."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = read_text(path, what)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(f"{path}: not TOML ({error}); it should hold {what}") from error


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes; ``HarnessError`` if it cannot be read."""
    from pyfaceau.errors import PyfaceauError
    from pyfaceau.weights.registry import file_digest

    try:
        return file_digest(path)
    except PyfaceauError as error:
        raise HarnessError(str(error)) from error
