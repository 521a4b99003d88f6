"""The page: verdict on top, a tab a record, in it tabs of tables and figures; everything in one file."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from reports import style, view
from reports.figures.base import Drawing
from reports.gallery import Shot
from reports.page import cards, tables
from reports.page.html import badge, definitions, identifier, tabs, tag

_WORST_FIRST = ("ERROR", "FAIL", "INCONCLUSIVE", "PASS")


@dataclass(frozen=True)
class Content:
    """What the page shows of one record. ``missing``: by section, figure and reason why there is none."""

    record: view.Record
    drawings: Sequence[Drawing]
    missing: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    shots: Sequence[Shot] = ()


def render(contents: Sequence[Content], shared: Sequence[Drawing]) -> str:
    """The page of these records; ``shared``: figures of all of them together."""
    here = Path(__file__)
    css = here.with_name("page.css").read_text(encoding="utf-8")
    script = here.with_name("page.js").read_text(encoding="utf-8")
    verdict = overall([content.record for content in contents])
    if len(contents) == 1:
        # One record needs no tab for what would be shown of several together.
        contents, shared = [replace(contents[0], drawings=[*contents[0].drawings, *shared])], []
    names = _names([content.record for content in contents])
    panels = [
        (f"r{i}", name, _record(c, f"r{i}", len(contents) > 1))
        for i, (name, c) in enumerate(zip(names, contents, strict=True))
    ]
    if shared:
        together = "".join(_figure(drawing, "shared") for drawing in shared)
        panels.append(("shared", "Speed against accuracy", together))
    body = tabs("Records", panels) if len(panels) > 1 else panels[0][2]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(verdict[0])}: pyfaceau against OpenFace 2.2</title>\n"
        # An empty picture, so that no browser asks a server for one.
        f'<link rel="icon" href="data:,">\n<style>\n{css}</style>\n</head>\n<body>\n'
        f"{_header(contents, verdict)}\n<main>{body}</main>\n"
        f"{tag('footer', 'Made by <code>python -m validation report</code> from the record(s) alone.')}\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def overall(records: Sequence[view.Record]) -> tuple[str, str]:
    """The worst verdict of the records and one sentence."""
    worst = min((r["verdict"] for r in records), key=lambda v: _WORST_FIRST.index(v["verdict"]))
    if len(records) == 1:
        return worst["verdict"], worst["sentence"]
    of_kind = [r for r in records if r["verdict"]["verdict"] == worst["verdict"]]
    if worst["verdict"] == "PASS":
        return "PASS", f"all {len(records)} records pass: {sum(len(r.get('gates', [])) for r in records)} checks"
    more = f" (and {len(of_kind) - 1} more record(s))" if len(of_kind) > 1 else ""
    return worst["verdict"], f"{view.title(of_kind[0])}: {worst['sentence']}{more}"


def _names(records: Sequence[view.Record]) -> list[str]:
    """Titles of the records, with their start where two are alike."""
    titles = [view.title(record) for record in records]
    return [f"{t} {r['started']}" if titles.count(t) > 1 else t for t, r in zip(titles, records, strict=True)]


def _header(contents: Sequence[Content], verdict: tuple[str, str]) -> str:
    sentence = tag("p", badge(verdict[0]), " ", escape(verdict[1]) + ".", class_="verdict", id="verdict")
    lines = []
    for content in contents:
        record, environment = content.record, content.record["environment"]
        commit = (environment["commit"] or "unknown commit")[:12] + (" (changed)" if environment["dirty"] else "")
        clips = view.measured(record)
        n = f"{len(clips)} clips, {view.frames(c for c in clips if c['series'])} frames; " if clips else ""
        lines.append(f"{view.title(record)}: {record['verdict']['verdict']}; {n}{record['started']}, {commit}, "
                     f"{environment['cpu']}, {environment['usable_cores']} cores")  # fmt: skip
    return tag("header", "<h1>pyfaceau against OpenFace 2.2</h1>", sentence,
               tag("ul", *(tag("li", escape(line)) for line in lines), class_="facts"))  # fmt: skip


def _record(content: Content, prefix: str, several: bool) -> str:
    record = content.record
    sections = [("overview", "Overview", _overview(record, prefix, several))]
    if record.get("clips"):
        sections += [
            ("clips", "Clips", tables.clips(record, prefix)),
            ("units", "Action units", _traces(record, prefix) + _section(content, prefix, "units")
             + _filtered(record, tables.action_units(record, prefix, "_r"), f"{prefix}-table-au_r")
             + _filtered(record, tables.action_units(record, prefix, "_c"), f"{prefix}-table-au_c")),
            ("landmarks", "Landmarks", _section(content, prefix, "landmarks")),
            ("speed", "Speed", _section(content, prefix, "speed") + tables.speed(record, prefix)),
            ("frames", "Worst frames", _frames(content, prefix)),
            ("all", "All figures", tables.everything(record, prefix) + tables.equivalence(record, prefix)),
        ]  # fmt: skip
    elif record["kind"] == "speed":
        sections.append(("speed", "Speed", _section(content, prefix, "speed")))
    sections += [
        ("checks", "Checks", tables.gates(record, prefix)),
        ("method", "Method", _method(record)),
    ]
    return tabs(f"Parts of {view.title(record)}", [(f"{prefix}-{i}", t, c) for i, t, c in sections if c])


def _overview(record: view.Record, prefix: str, several: bool) -> str:
    parts = []
    if several:
        parts.append(tag("p", badge(record["verdict"]["verdict"]), " ", escape(record["verdict"]["sentence"])))
    failed = [gate for gate in record.get("gates", []) if gate["verdict"] != "PASS"]
    if failed:
        items = "".join(f"<li>{badge(g['verdict'])} {escape(g['gate'])}: {escape(g['sentence'])}</li>" for g in failed)
        parts.append(f"<h3>Checks that did not pass</h3><ul>{items}</ul>")
    if record.get("totals"):
        parts.append(tables.headline(record, prefix))
        parts.append(
            "<p>Noise floor: the C++ program against another build of itself and against itself on another computer. "
            "No port can be expected to agree better than that.</p>"
        )
    if "sensitivity" in record:
        parts.append(tables.sensitivity(record, prefix))
        left_out = record["sensitivity"].get("left_out", {})
        if left_out:
            parts.append("<h3>Left out</h3>" + definitions(left_out.items()))
    return "".join(parts)


def _section(content: Content, prefix: str, section: str) -> str:
    """The figures of a tab, and why others are missing."""
    figures = "".join(_figure(drawing, prefix) for drawing in content.drawings if drawing.section == section)
    reasons = [f"{title}: {reason}." for title, reason in content.missing.get(section, ())]
    return figures + "".join(tag("p", escape(f"Not drawn. {reason}"), class_="missing") for reason in reasons)


def _figure(drawing: Drawing, prefix: str) -> str:
    svg = style.inline_svg(drawing.figure, f"{prefix}-{identifier(drawing.name)}", drawing.title)
    frame = tag("div", svg, class_="scroll drawing", tabindex=0, role="region", aria_label=drawing.title)
    caption = tag("figcaption", tag("b", escape(drawing.title)), ". ", escape(drawing.caption))
    return tag("figure", frame, caption, id=f"{prefix}-figure-{identifier(drawing.name)}")


def _filtered(record: view.Record, table: str, table_id: str) -> str:
    """A long table folded, with a choice of clip."""
    if not table:
        return ""
    names = [clip["clip"] for clip in view.measured(record) if clip["per_au"]]
    options = "".join(tag("option", escape(name), value=name) for name in names)
    choice = (
        f'<label>Clip <select class="filter" data-table="{table_id}"><option value="">all</option>{options}</select>'
        "</label>"
    )
    title = "AU intensity" if table_id.endswith("_r") else "AU presence"
    return f"<details><summary>Table: {title}, every AU in every clip</summary>{choice}{table}</details>"


def _traces(record: view.Record, prefix: str) -> str:
    """Traces of any clip and AU, drawn by the page itself from the record's series."""
    clips = view.with_series(record, "intensity")
    if not clips:
        return ""
    series = {
        clip["clip"]: {key: clip["series"].get(key) for key in ("frame", "intensity", "presence", "landmark_px")}
        for clip in clips
    }
    packed = base64.b64encode(zlib.compress(json.dumps(series, separators=(",", ":")).encode(), 9)).decode("ascii")
    first = (view.shown_clips(record) or clips)[0]["clip"]
    choices = "".join(tag("option", escape(name), value=name, selected=name == first) for name in series)
    return (
        f'<figure class="explorer" id="{prefix}-explorer"><div class="controls">'
        f'<label>Clip <select class="clip">{choices}</select></label> '
        '<label>AU <select class="au"></select></label></div>'
        '<div class="plot" tabindex="0" role="application" aria-label="Trace; left and right arrow move the cursor">'
        '</div><output class="read" aria-live="polite">Needs JavaScript.</output>'
        "<figcaption><b>Any clip, any action unit.</b> Above: intensity (0 to 5) of the C++ program (vermilion, "
        "wide) and of this run (blue); below: their difference. Point at a frame, or use the arrow keys.</figcaption>"
        f'<script type="text/plain" class="series">{packed}</script></figure>'
    )


def _frames(content: Content, prefix: str) -> str:
    pictures = sum(shot.jpeg is not None for shot in content.shots)
    intro = (
        "Vermilion: C++ OpenFace 2.2; blue: this run; yellow: their difference, stretched by the factor given so that "
        f"it can be seen. {len(content.shots)} frames, {pictures} with a picture: those are shown only of clips whose "
        "folder was named (--videos) or whose pictures the run kept (--pictures)."
    )
    missing = _section(content, prefix, "frames-missing")
    gallery = "".join(cards.card(shot, f"{prefix}-shot{i}") for i, shot in enumerate(content.shots))
    return tag("p", escape(intro)) + tag("div", gallery, class_="gallery") + missing


def _method(record: view.Record) -> str:
    environment = record["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items() if version)
    facts = [
        ("record", record["id"]), ("command", " ".join(Path(p).name for p in record["command"])),
        ("configuration", str(record.get("configuration", "–"))), ("threads", str(record.get("threads", "–"))),
        ("commit", f"{environment['commit']}{', with uncommitted changes' if environment['dirty'] else ''}"),
        ("machine", f"{environment['cpu']}, {environment['usable_cores']} cores, {environment['system']}"),
        ("Python", f"{environment['python']}; {libraries}"),
    ]  # fmt: skip
    weights = environment.get("weights")
    if weights:
        facts.append(("weights", f"{weights['files']} files, SHA-256 {weights['sha256']}"))
    speed = record.get("speed") or {}
    facts += [(name, view.significant(speed[name])) for name in ("load_ms", "warm_up_s", "peak_mb") if speed.get(name)]
    explained = [
        (name, f"{found['text']} ({found['unit'] or 'no unit'}; better: {found['better']})")
        for name, found in record["definitions"].items()
    ]
    return f"<h3>Run</h3>{definitions(facts)}<h3>Definitions</h3>{definitions(explained)}"
