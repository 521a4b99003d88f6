"""From records to files: draws every figure, writes figures and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reports import gallery, style, view
from reports.figures import FIGURES, Drawing, Spec
from reports.figures.speed import against_accuracy
from reports.page.html import identifier
from reports.page.page import Content, render
from reports.view import NotDrawn
from validation.files import write_atomically

PAGE = "index.html"
FIGURES_FOLDER = "figures"
FORMATS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class Source:
    """A record and where its pictures may be; ``None``: nowhere."""

    record: view.Record
    beside: Path | None = None
    videos: Path | None = None


def build(
    sources: Sequence[Source],
    folder: Path,
    formats: Sequence[str] = FORMATS,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write ``index.html`` and ``figures/<record>-<figure>.<format>`` into the folder; returns the page's path."""
    with style.applied():
        contents, shared = draw(sources)
        for number, content in enumerate(contents):
            # Two records of one configuration must not write over each other's figures.
            stem = identifier(view.title(content.record)) + (f"-{number + 1}" if number else "")
            _save(content.drawings, folder, stem, formats, progress)
        _save(shared, folder, "", formats, progress)
        page = folder / PAGE
        write_atomically(page, render(contents, shared).encode())
    return page


def draw(sources: Sequence[Source]) -> tuple[list[Content], list[Drawing]]:
    """The figures of each record, and those of all of them together; matplotlib's style must be applied."""
    contents = []
    for source in sources:
        shots = gallery.worst(source.record, source.beside, source.videos)
        frames = Spec("worst-frames", "frames", "Worst frames", partial(gallery.figure, shots=shots))
        drawings: list[Drawing] = []
        missing: dict[str, list[tuple[str, str]]] = {}
        for spec in (*FIGURES, frames):
            try:
                drawings += spec.draw(source.record)
            except NotDrawn as reason:
                if _expected(spec, source.record):
                    missing.setdefault(spec.section, []).append((spec.title, str(reason)))
        contents.append(Content(source.record, drawings, missing, shots))
    try:
        shared = against_accuracy([source.record for source in sources])
    except NotDrawn:
        shared = []
    return contents, shared


def _expected(spec: Spec, record: view.Record) -> bool:
    """Whether a reader would miss the figure: rounds of two trees are only in records of that kind, all else is not."""
    return (spec.name == "rounds") == (record["kind"] == "speed")


def _save(
    drawings: Sequence[Drawing], folder: Path, stem: str, formats: Sequence[str], progress: Callable[[str], None]
) -> None:
    for drawing in drawings:
        name = "-".join(part for part in (stem, identifier(drawing.name)) if part)
        for kind in formats:
            style.save(drawing.figure, folder / FIGURES_FOLDER / f"{name}.{kind}")
        if formats:
            progress(f"{FIGURES_FOLDER}/{name}: {', '.join(formats)}")
