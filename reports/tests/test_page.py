"""The page by parsing it, and the command that writes it."""

from __future__ import annotations

import base64
import copy
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reports import cli, style, view
from reports.build import Source, build, draw
from reports.page.html import Cell, sortable, tabs
from reports.page.page import Content, overall, render
from validation import record
from validation.cli import main
from validation.errors import HarnessError

_VOID = {"meta", "link", "br", "input", "image"}


class Page(HTMLParser):
    """Elements of a page, and whether they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]


@pytest.fixture
def html(page_path: Path) -> str:
    return page_path.read_text(encoding="utf-8")


def test_page_is_whole_and_needs_no_network(html: str) -> None:
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            target = attributes.get(name)
            assert not target or target.startswith(("#", "data:")), (tag, target)
    # Names of XML dialects are not fetched; nothing else may look like an address.
    rest = re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]*"', "", html)
    assert "http" not in rest and "@import" not in rest
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', html):
        assert target in ids


def test_verdict_is_on_top_in_one_sentence(html: str) -> None:
    text = " ".join("".join(Page(html).text).split())
    assert text.index("FAIL second: too far <off>.") < text.index("Overview")
    assert "<off>" not in html


def test_structure_for_readers_of_the_screen(html: str) -> None:
    page = Page(html)
    assert page.all("html", lang="en") and page.all("meta", name="viewport")
    assert [len(page.all(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    controlled = [tab["aria-controls"] for tab in page.all("button", role="tab")]
    panels = page.all("section", role="tabpanel")
    assert [panel["id"] for panel in panels] == controlled
    assert [panel["aria-labelledby"] for panel in panels] == [f"tab-{name}" for name in controlled]
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(head.get("scope") for head in page.all("th"))


def test_tables_hold_the_records_figures_and_floors(html: str, made: dict[str, Any]) -> None:
    clip = made["clips"][0]
    for name in view.HEADLINE:
        assert view.number(made, name, clip["figures"][name]["value"]) in html
    floor = view.number(made, "intensity.ccc", view.floor_value(clip, "intensity.ccc"))
    assert f"<small>floor {floor}</small>" in html
    assert "ERROR: absent.mp4 is in no folder of clips" in html
    assert html.count('<option value="second &lt;b&gt;&amp;amp;"') == 3
    assert "second <b>" not in html


def test_page_carries_the_series_unchanged(html: str, made: dict[str, Any]) -> None:
    packed = re.search(r'<script type="text/plain" class="series">([^<]+)', html)
    assert packed
    series = json.loads(zlib.decompress(base64.b64decode(packed.group(1))))
    for clip in view.with_series(made, "intensity"):
        assert series[clip["clip"]]["intensity"] == clip["series"]["intensity"]
        assert series[clip["clip"]]["frame"] == clip["series"]["frame"]


def test_a_value_that_is_not_defined_keeps_its_reason(made: dict[str, Any]) -> None:
    made["clips"][0]["figures"]["gaze.angle_deg"] = {"value": None, "n": 0, "reason": "a file has no gaze columns"}
    html = render([Content(made, [])], [])
    assert '<td data-k="" class="n" title="a file has no gaze columns">–' in html


def test_several_records_have_a_tab_each(made: dict[str, Any]) -> None:
    other = {
        **copy.deepcopy(made),
        "configuration": "another",
        "verdict": {"verdict": "PASS", "sentence": "fine", "exit_code": 0},
    }
    speed = {k: v for k, v in made.items() if k not in ("clips", "totals")}
    speed |= {"kind": "speed", "speed": {"comparisons": {}}}
    del made["clips"][1:], other["clips"][1:]
    with style.applied():
        contents, shared = draw([Source(record) for record in (made, other, speed)])
        page = Page(render(contents, shared))
    text = " ".join(page.text)
    assert page.open == []
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"r0", "r1", "r2", "shared"} <= set(ids)
    assert "this record does not compare two trees" in text
    assert "made-up: second: too far <off> (and 1 more record(s))" in text


def test_overall_verdict() -> None:
    def one(verdict: str, sentence: str = "s") -> dict[str, Any]:
        return {
            "kind": "run",
            "configuration": "c",
            "verdict": {"verdict": verdict, "sentence": sentence},
            "gates": [1],
        }

    assert overall([one("INCONCLUSIVE", "noisy")]) == ("INCONCLUSIVE", "noisy")
    assert overall([one("PASS"), one("PASS")]) == ("PASS", "all 2 records pass: 2 checks")
    assert overall([one("PASS"), one("INCONCLUSIVE"), one("ERROR", "gone")]) == ("ERROR", "c: gone")


def test_cells_are_sorted_by_value_and_empty_ones_are_known() -> None:
    rows = [[Cell("a"), Cell("10 px", 10.0)], [Cell("b"), Cell("–", title="why")]]
    table = Page(sortable("t", [("name", None), ("value", None)], rows, "t"))
    assert [td.get("data-k") for td in table.all("td")] == ["10", ""]
    assert Page(tabs("x", [("a", "A", ""), ("b", "B", "")])).all("button", role="tab")[1]["tabindex"] == "-1"


def test_numbers_as_text(made: dict[str, Any]) -> None:
    assert view.number(made, "presence.agreement", 0.98765) == "98.77 %"
    assert view.number(made, "landmarks.nme", 0.000213) == "0.021 %"
    assert view.number(made, "landmarks.mean_px", None) == "–"
    assert view.significant(-0.00012345) == "−0.0001234" or view.significant(-0.00012345) == "−0.0001235"
    assert view.significant(0.00001) == "0.000010"
    assert view.significant(123456.7) == "123457"


def test_command(made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record.save(made, tmp_path / "record.json")
    assert main(["report", str(path), "-o", str(tmp_path / "out"), "--formats", "svg"]) == 0
    names = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"made-up-traces-first.svg", "made-up-ced.svg", "made-up-worst-frames.svg", "speed-accuracy.svg"} <= names
    assert all(name.endswith(".svg") for name in names)
    assert "index.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{record}", "-o", "{out}", "--formats", "gif"], "'gif' is none of pdf, svg, png"),
        (["{record}", "-o", "{out}", "--videos", "{out}/none"], "no such folder of clips"),
        (["{out}/none.json", "-o", "{out}"], "cannot be read"),
    ],
)
def test_command_says_what_is_wrong(
    made: dict[str, Any], tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record.save(made, tmp_path / "record.json")
    filled = [text.format(record=path, out=tmp_path / "out") for text in arguments]
    assert main(["report", *filled]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_it_says_what_to_install(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(HarnessError, match=r"pip install 'pyfaceau\[report\]'"):
        build([Source(made)], tmp_path)
    assert cli.FORMATS == ("pdf", "svg", "png")
