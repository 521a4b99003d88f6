"""A record's checks for other programs: JUnit XML, Markdown for a pull request, GitHub Actions annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from validation.files import write_atomically
from validation.terminal import COLUMNS


def write_outputs(record: dict[str, Any], junit: Path | None, markdown: Path | None, annotate: bool) -> None:
    """Write what was asked for."""
    if junit is not None:
        write_atomically(junit, junit_xml(record))
    if markdown is not None:
        write_atomically(markdown, markdown_summary(record).encode())
    if annotate:
        for line in github_annotations(record):
            print(line)


def junit_xml(record: dict[str, Any]) -> bytes:
    """One test case a check: FAIL as failure, ERROR as error, INCONCLUSIVE as skipped."""
    checks = record["gates"]
    kinds = {"FAIL": "failure", "ERROR": "error", "INCONCLUSIVE": "skipped"}
    counts = {tag: str(sum(kinds.get(c["verdict"]) == tag for c in checks)) for tag in kinds.values()}
    suite = ElementTree.Element(
        "testsuite",
        name=f"validation {record.get('configuration', record['kind'])}",
        tests=str(len(checks)),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
        time=f"{record.get('seconds', 0.0):.3f}",
        timestamp=record["started"].rstrip("Z"),
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=check["clip"] or "all clips", name=check["gate"])
        if check["verdict"] in kinds:
            ElementTree.SubElement(case, kinds[check["verdict"]], message=check["sentence"])
        else:
            ElementTree.SubElement(case, "system-out").text = check["sentence"]
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


def markdown_summary(record: dict[str, Any]) -> str:
    """Verdict, what did not pass, and the table of clips, for a pull request."""
    verdict = record["verdict"]
    lines = [f"## Validation: {verdict['verdict']}", "", verdict["sentence"], ""]
    failing = [c for c in record["gates"] if c["verdict"] != "PASS"]
    if failing:
        lines += ["| check | verdict | |", "|---|---|---|"]
        lines += [f"| {_cell(c['gate'])} | {c['verdict']} | {_cell(c['sentence'])} |" for c in failing[:20]]
        lines += [f"\n{len(failing) - 20} more in the record."] if len(failing) > 20 else []
        lines.append("")
    lines += [
        "| clip | frames | " + " | ".join(title for title, *_ in COLUMNS) + " | FPS |",
        "|---|" + "---:|" * (len(COLUMNS) + 2),
    ]
    for clip in record.get("clips", []):
        if clip["error"]:
            lines.append(f"| {clip['clip']} | - |{' - |' * len(COLUMNS)} {_cell(clip['error'])} |")
            continue
        cells = [_with_floor(clip, name, form, factor) for _, name, form, factor in COLUMNS]
        fps = f"{clip['speed']['fps']:.1f}" if clip["speed"] else "-"
        lines.append(f"| {clip['clip']} | {clip['counts']['both_succeed']} | {' | '.join(cells)} | {fps} |")
    commit = record["environment"]["commit"] or "unknown commit"
    dirty = " with uncommitted changes" if record["environment"]["dirty"] else ""
    lines += ["", f"In brackets: the reference against itself. {commit[:12]}{dirty}, {record['environment']['cpu']}."]
    return "\n".join(lines) + "\n"


def _with_floor(clip: dict[str, Any], name: str, form: str, factor: float) -> str:
    value = clip["figures"][name]["value"]
    if value is None:
        return "-"
    text = form.format(value * factor)
    floor = clip["floor"]["worst"][name]["value"] if clip["floor"] else None
    return text if floor is None else f"{text} ({form.format(floor * factor)})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def github_annotations(record: dict[str, Any]) -> list[str]:
    """Lines that GitHub Actions shows at a run: errors for FAIL and ERROR, warnings for INCONCLUSIVE, then a notice."""
    kinds = {"FAIL": "error", "ERROR": "error", "INCONCLUSIVE": "warning"}
    lines = [
        f"::{kinds[c['verdict']]} title={_escape(c['gate'], True)}::{_escape(c['sentence'])}"
        for c in record["gates"]
        if c["verdict"] in kinds
    ]
    verdict = record["verdict"]
    return [*lines, f"::notice title=Validation {verdict['verdict']}::{_escape(verdict['sentence'])}"]


def _escape(text: str, in_property: bool = False) -> str:
    """GitHub's escapes of workflow commands; commas and colons matter only within properties."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text
