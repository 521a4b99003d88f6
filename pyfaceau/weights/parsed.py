"""Parsed models in the user cache, so that only the first start reads OpenFace's formats.

A model is a tree of dataclasses, tuples and mappings with arrays as leaves. The tree goes into the
header of a cache file, the arrays into its blob; arrays that are views of a large mapped model
file (the CEN experts, up to 154 MB each) stay where they are and are noted as file and offset.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pyfaceau._jit import user_cache_dir
from pyfaceau.errors import ModelError
from pyfaceau.weights import models
from pyfaceau.weights.cache import load_or_build
from pyfaceau.weights.formats import MappedFile, map_file, mapped_place

T = TypeVar("T")
_CLASSES: dict[str, type] = {
    name: cls for name, cls in vars(models).items() if isinstance(cls, type) and dataclasses.is_dataclass(cls)
}


def cached_model(label: str, main: Path, files: Sequence[Path], read: Callable[[], T]) -> T:
    """The model of the list ``main``: from the cache if none of its ``files`` has changed, else ``read()``.

    A file counts as unchanged if its size and time of modification are the same, and a list file
    only if its content is the same too. ``label`` tells models of the same list apart.
    """
    path = user_cache_dir() / "weights" / f"{main.stem}-{_digest(label, str(main.resolve()))[:16]}.blob"
    key = _digest(label, _reader_version(), *(_state(file) for file in files))

    def build() -> tuple[dict[str, np.ndarray], Any]:
        packer = _Packer()
        tree = packer.pack(read())
        return packer.arrays, {"tree": tree, "mapped": packer.mapped}

    # The first run too uses the unpacked arrays, so that all runs have equally aligned read-only arrays
    # and kernels are compiled for one kind of array only.
    arrays, meta = load_or_build(path, key, build)
    model: T = _Unpacker(arrays, meta["mapped"]).unpack(meta["tree"])
    return model


def _state(file: Path) -> str:
    try:
        status = file.stat()
        content = hashlib.sha256(file.read_bytes()).hexdigest() if status.st_size < 4096 else ""
    except OSError as error:
        raise ModelError(f"{file}: cannot read the model file ({error.strerror}); check the folder's rights") from None
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns} {content}"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@cache
def _reader_version() -> str:
    """Digest of the readers' sources: an edited reader never meets what its former self has cached."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class _Packer:
    """Turns a tree into JSON, collecting its arrays."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.mapped: list[str] = []
        self._known: dict[int, Any] = {}

    def pack(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {"a": self._pack_array(value)}
        if isinstance(value, tuple):
            return [self.pack(item) for item in value]
        if isinstance(value, Mapping):
            return {"m": [[key, self.pack(item)] for key, item in value.items()]}
        if dataclasses.is_dataclass(value):
            fields = [field.name for field in dataclasses.fields(value) if field.init]
            return {"c": type(value).__name__, "f": {name: self.pack(getattr(value, name)) for name in fields}}
        return value

    def _pack_array(self, array: np.ndarray) -> Any:
        if id(array) not in self._known:
            place = mapped_place(array)
            if place is None:
                self._known[id(array)] = str(len(self.arrays))
                self.arrays[str(len(self.arrays))] = array
            else:
                path, offset = str(place[0].resolve()), place[1]
                if path not in self.mapped:
                    self.mapped.append(path)
                self._known[id(array)] = [self.mapped.index(path), offset, array.dtype.str, list(array.shape)]
        return self._known[id(array)]


class _Unpacker:
    """Rebuilds the tree from JSON and arrays."""

    def __init__(self, arrays: Mapping[str, np.ndarray], mapped: Sequence[str]) -> None:
        self._arrays = arrays
        self._mapped: list[MappedFile] = [map_file(Path(path)) for path in mapped]

    def unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple([self.unpack(item) for item in value])
        if not isinstance(value, dict):
            return value
        if "a" in value:
            place = value["a"]
            if isinstance(place, str):
                return self._arrays[place]
            file, offset, dtype, shape = place
            return np.ndarray(shape, np.dtype(dtype), self._mapped[file], offset)
        if "m" in value:
            return {key: self.unpack(item) for key, item in value["m"]}
        return _CLASSES[value["c"]](**{name: self.unpack(item) for name, item in value["f"].items()})
