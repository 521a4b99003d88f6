"""Injects every defect into the recorded run of every clip, and measures what the figures become.

One clip after the other: its tables are read once, its analysis stage is recorded once, and only the figures that
somebody asks for are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.assemble import NO_PIXELS
from validation.compare import counts_dict, join
from validation.defects import Defect
from validation.errors import HarnessError
from validation.figures import Figure, evaluate
from validation.floor import worse
from validation.goldens import Golden, Store
from validation.reference import Table, read_csv

if TYPE_CHECKING:
    from validation.replay import Recorder


@dataclass(frozen=True)
class Measured:
    """A table against its reference."""

    figures: dict[str, Figure]
    counts: dict[str, int]

    @property
    def values(self) -> dict[str, float]:
        """The figures that have a value."""
        return {name: figure.value for name, figure in self.figures.items() if figure.value is not None}


Run = dict[str, Measured]
"""One run: by clip."""


@dataclass
class Injected:
    """``plain``: runs without a defect, the one that the defects go into first; ``floors``: by clip and figure."""

    plain: list[Run]
    floors: dict[str, dict[str, Figure]]
    defects: dict[str, dict[float, Run]] = field(default_factory=dict)
    """by name and size"""

    def entries(self, run: Run) -> list[dict[str, Any]]:
        """The run's clips as gates and tripwires want them."""
        return [self._entry(clip, measured) for clip, measured in run.items()]

    def _entry(self, clip: str, measured: Measured) -> dict[str, Any]:
        return {
            "clip": clip, "file": f"{clip}.csv", "faces": "one", "cuts": False, "error": None, "pixels": NO_PIXELS,
            "counts": measured.counts, "figures": _json(measured.figures), "speed": None,
            "floor": {"worst": _json(self.floors[clip])},
        }  # fmt: skip


def _json(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def measure(reference: Table, table: Table, wanted: Collection[str]) -> Measured:
    """The wanted figures of a table."""
    pair = join(reference, table)
    return Measured(evaluate(pair, wanted).figures, counts_dict(pair.counts))


def stand_in(store: Store, goldens: list[Golden]) -> tuple[str, list[str]]:
    """Names of the reference's repetitions: the one that can stand in for a run of pyfaceau, and all."""
    names = sorted({name for golden in goldens for name in store.repetitions(golden)})
    if not names:
        raise HarnessError("the configuration has no repetitions of the reference, so its noise is unknown")
    return names[0], names


def inject(
    store: Store,
    goldens: list[Golden],
    defects: Collection[Defect],
    wanted: Collection[str],
    folder: Path | None,
    recorder: Recorder | None,
    report: Callable[[str], None],
) -> Injected:
    """Every defect in every clip.

    ``folder``: CSVs of pyfaceau, or ``None``: a repetition of the reference stands in. Without a ``recorder`` the
    defects of the analysis stage are left out.
    """
    first, names = stand_in(store, goldens)
    others = names if folder else [name for name in names if name != first]
    if not others:
        raise HarnessError("two runs without a defect are needed; give --run DIR")
    chosen = [defect for defect in defects if defect.inject is not None or recorder is not None]
    found = Injected([{} for _ in range(1 + len(others))], {}, {d.name: {size: {} for size in d.sizes} for d in chosen})
    for number, golden in enumerate(goldens):
        clip = golden.clip
        reference, repetitions = store.table(golden), store.repetitions(golden)
        if missing := [name for name in names if name not in repetitions]:
            raise HarnessError(f"{clip}: the reference was not repeated as {missing[0]!r}; leave it out with --clips")
        tables = {name: store.table(other) for name, other in repetitions.items()}
        again = {name: measure(reference, table, wanted) for name, table in tables.items()}
        found.floors[clip] = {name: worse(name, [m.figures[name] for m in again.values()]) for name in wanted}
        ours = read_csv(folder / f"{clip}.csv") if folder else tables[first]
        found.plain[0][clip] = measure(reference, ours, wanted)
        for run, name in zip(found.plain[1:], others, strict=True):
            run[clip] = again[name]
        recording = recorder.record(store.clips[clip]) if recorder else None
        for defect in chosen:
            for size in defect.sizes:
                if defect.inject is not None:
                    table = defect.inject(ours, size)
                else:
                    assert recording is not None
                    table = recording.replay(ours, defect.name, size, seed=number)
                found.defects[defect.name][size][clip] = measure(reference, table, wanted)
        report(f"{number + 1} of {len(goldens)}: {clip}")
    return found
