"""The goldens: reference CSVs with provenance, listed in ``golden/manifest.json``.

The manifest has four tables. ``programs``: what made the CSVs (version, build, libraries, machine). ``configurations``:
program, model and switches, and the ``settings`` of ``pyfaceau.Config`` that mean the same; one that ``repeats``
another is that one's noise floor and has none; one that was not repeated may borrow its floor (``floor_from``).
``clips``: file, digest, licence and where it is found. ``goldens``: one entry a CSV, with digests of the CSV and of the
packed file that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from validation import csvpack
from validation.errors import HarnessError
from validation.files import GOLDEN, read_json, sha256, sha256_file, write_atomically, write_json
from validation.reference import Table, parse_csv

SCHEMA = 1


@dataclass(frozen=True)
class Clip:
    """A video of the manifest. ``faces`` is "one", "several" or "none"; ``shipped`` a path below ``golden/``."""

    name: str
    file: str
    sha256: str
    bytes: int
    licence: str
    faces: str
    shipped: str | None = None
    source: dict[str, str] | None = None
    cuts: bool = False


@dataclass(frozen=True)
class Golden:
    """One reference CSV."""

    configuration: str
    clip: str
    file: str
    packed_sha256: str
    csv_sha256: str
    csv_bytes: int
    rows: int
    base: str | None = None


@dataclass
class Store:
    """The manifest with the folder that it describes."""

    folder: Path
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)
    goldens: list[Golden] = field(default_factory=list)
    log: list[dict[str, str]] = field(default_factory=list)
    _last_base: dict[str, bytes] = field(default_factory=dict, repr=False)

    def find(self, configuration: str, clips: str = "*") -> list[Golden]:
        """The goldens of a configuration whose clip name fits one of the shell patterns, which commas divide."""
        if configuration not in self.configurations:
            known = ", ".join(name for name, c in self.configurations.items() if not c.get("repeats"))
            raise HarnessError(f"no configuration {configuration!r} in {self.folder / 'manifest.json'}; known: {known}")
        patterns = clips.split(",")
        return [
            g for g in self.goldens if g.configuration == configuration and any(fnmatch(g.clip, p) for p in patterns)
        ]

    def get(self, configuration: str, clip: str) -> Golden | None:
        """The golden of this configuration and clip, if there is one."""
        return next((g for g in self.goldens if (g.configuration, g.clip) == (configuration, clip)), None)

    def repetitions(self, golden: Golden) -> dict[str, Golden]:
        """The reference's own repetitions of this golden, by name ("rebuild", "other-cpu")."""
        result = {}
        for name, configuration in self.configurations.items():
            if configuration.get("repeats") == golden.configuration:
                other = self.get(name, golden.clip)
                if other is not None:
                    result[configuration["as"]] = other
        return result

    def settings(self, configuration: str, models: Path | None) -> tuple[dict[str, Any], Path | None]:
        """What to run pyfaceau with: settings without the weights, and the weights that user or manifest name."""
        settings = dict(self.configurations.get(configuration, {}).get("settings") or {})
        if not settings:
            raise HarnessError(f"configuration {configuration!r} has no settings to run pyfaceau with; run another one")
        shipped = settings.pop("models", None)
        if models is None and shipped is not None:
            models = self.folder / shipped
        return settings, models

    def floor_source(self, golden: Golden) -> tuple[Golden, dict[str, Golden]]:
        """The golden whose repetitions give this one's floor: itself, or the same clip's of another configuration."""
        own = self.repetitions(golden)
        lender = self.configurations[golden.configuration].get("floor_from")
        other = self.get(lender, golden.clip) if lender and not own else None
        return (other, self.repetitions(other)) if other is not None else (golden, own)

    def csv(self, golden: Golden) -> bytes:
        """The golden's CSV, checked against both digests; the last one with no base of its own is kept unpacked."""
        path = self.folder / golden.file
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise HarnessError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from error
        if sha256(packed) != golden.packed_sha256:
            raise HarnessError(
                f"{path}: its bytes are not those of the manifest; restore it, or renew it with `golden regen`"
            )
        if not golden.file.endswith(".pack"):
            return packed
        if golden.csv_sha256 in self._last_base:
            return self._last_base[golden.csv_sha256]
        base = self._base_csv(golden) if golden.base else None
        text = csvpack.unpack(packed, base)
        if sha256(text) != golden.csv_sha256:
            raise HarnessError(f"{path}: unpacks to another CSV than the manifest's; restore it from the repository")
        if golden.base is None:
            self._last_base = {golden.csv_sha256: text}
        return text

    def table(self, golden: Golden) -> Table:
        """The golden's CSV, parsed."""
        return parse_csv(self.csv(golden), str(self.folder / golden.file))

    def _base_csv(self, golden: Golden) -> bytes:
        """The CSV that this one is packed against."""
        base = self.get(*golden.base.split("/", 1)) if golden.base else None
        if base is None:
            raise HarnessError(f"{self.folder / golden.file}: its base {golden.base!r} is not in the manifest")
        return self.csv(base)

    def put(self, configuration: str, clip: str, text: bytes) -> Golden:
        """Store a CSV under this configuration and clip, packed where that is possible, and list it."""
        rows = len(parse_csv(text, f"{configuration}/{clip}").values)
        base = self._choose_base(configuration, clip)
        try:
            packed, name = csvpack.pack(text, self.csv(base) if base else None), f"{configuration}/{clip}.csv.pack"
        except HarnessError:
            packed, name, base = text, f"{configuration}/{clip}.csv", None
        golden = Golden(
            configuration, clip, name, sha256(packed), sha256(text), len(text), rows,
            f"{base.configuration}/{base.clip}" if base else None,
        )  # fmt: skip
        write_atomically(self.folder / name, packed)
        old = self.get(configuration, clip)
        if old is not None and old.file != name:
            (self.folder / old.file).unlink(missing_ok=True)
        self.goldens = [g for g in self.goldens if (g.configuration, g.clip) != (configuration, clip)] + [golden]
        order = {name: i for i, name in enumerate(self.configurations)}
        self.goldens.sort(key=lambda g: (order[g.configuration], g.clip))
        return golden

    def _choose_base(self, configuration: str, clip: str) -> Golden | None:
        """What a repetition is packed against: the golden it repeats, or the one its configuration names."""
        settings = self.configurations[configuration]
        name = settings.get("repeats") or settings.get("packed_against")
        return self.get(name, clip) if name else None

    def dependants(self, golden: Golden) -> list[Golden]:
        """Goldens that are packed against this one."""
        return [g for g in self.goldens if g.base == f"{golden.configuration}/{golden.clip}"]

    def save(self) -> None:
        """Write ``manifest.json``."""
        write_json(
            self.folder / "manifest.json",
            {
                "schema": SCHEMA,
                "programs": self.programs,
                "configurations": self.configurations,
                "clips": {name: _without(clip, "name") for name, clip in sorted(self.clips.items())},
                "goldens": [_without(golden) for golden in self.goldens],
                "log": self.log,
            },
        )


def _without(item: Clip | Golden, *names: str) -> dict[str, Any]:
    return {k: v for k, v in vars(item).items() if k not in names and v not in (None, False)}


def load(folder: Path = GOLDEN) -> Store:
    """Read ``manifest.json``; ``HarnessError`` if it is missing, of another schema, or lists nothing."""
    data = read_json(folder / "manifest.json", "the list of goldens")
    if data.get("schema") != SCHEMA:
        raise HarnessError(f"{folder / 'manifest.json'}: schema {data.get('schema')!r}, this harness reads {SCHEMA}")
    try:
        clips = {name: Clip(name=name, **clip) for name, clip in data["clips"].items()}
        goldens = [Golden(**golden) for golden in data["goldens"]]
        store = Store(folder, data["programs"], data["configurations"], clips, goldens, data["log"])
    except (KeyError, TypeError) as error:
        raise HarnessError(f"{folder / 'manifest.json'}: an entry is incomplete or unknown ({error})") from error
    return store


def problems(store: Store) -> list[str]:
    """Everything that is wrong with the goldens, one sentence each; empty if they are as the manifest says.

    A golden whose configuration the harness cannot run (no ``settings``) has no test, which is a problem too.
    """
    found = [] if store.goldens else ["the manifest lists no golden"]
    for golden in store.goldens:
        where = f"{golden.configuration}/{golden.clip}"
        settings = store.configurations.get(golden.configuration)
        if settings is None:
            found.append(f"{where}: its configuration is not in the manifest")
            continue
        if settings["program"] not in store.programs:
            found.append(f"{where}: the program {settings['program']!r} that made it is not in the manifest")
        repeated = store.configurations.get(settings.get("repeats") or golden.configuration, {})
        if "settings" not in repeated:
            found.append(f"{where}: no test uses it, its configuration has no settings to run pyfaceau with")
        if golden.clip not in store.clips:
            found.append(f"{where}: its clip is not in the manifest")
        try:
            table = store.table(golden)
        except HarnessError as error:
            found.append(str(error))
            continue
        if len(table.values) != golden.rows:
            found.append(f"{where}: {len(table.values)} rows, the manifest says {golden.rows}")
    listed = {golden.file for golden in store.goldens}
    for name in store.configurations:
        found += [
            f"{path}: not in the manifest; add it with `golden add` or remove it"
            for path in sorted((store.folder / name).glob("*.csv*"))
            if f"{name}/{path.name}" not in listed
        ]
    return found


def clip_problems(store: Store, found: dict[str, Path]) -> list[str]:
    """Clips whose bytes are not those of the manifest, one sentence each."""
    return [
        f"{path}: its bytes are not those the goldens were made from; restore it or renew them with `golden regen`"
        for name, path in found.items()
        if sha256_file(path) != store.clips[name].sha256
    ]
