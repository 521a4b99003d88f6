"""A few functions that write HTML; text is escaped in one place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


def tag(name: str, *content: str, **attributes: str | int | bool | None) -> str:
    """An element with this content (HTML). ``class_`` is class, ``data_x`` data-x; ``None`` and False are left out."""
    parts = [name]
    for key, setting in attributes.items():
        if setting is None or setting is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(label if setting is True else f'{label}="{escape(str(setting))}"')
    return f"<{' '.join(parts)}>{''.join(content)}</{name}>"


def identifier(text: str) -> str:
    """The text as an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is read, what it is sorted by (``None`` sorts last), and a remark such as a reason."""

    text: str
    key: float | str | None = None
    title: str | None = None
    note: str | None = None
    mark: str | None = None
    """class of the cell"""


def sortable(caption: str, heads: Sequence[tuple[str, str | None]], rows: Iterable[Sequence[Cell]], id_: str) -> str:
    """A table whose heads are buttons; ``heads``: text and explanation. The first cell of a row is its head."""
    head = "".join(
        tag("th", tag("button", escape(text), type="button", title=help_), scope="col", aria_sort="none")
        for text, help_ in heads
    )
    body = "".join(tag("tr", *(_cell(cell, i == 0) for i, cell in enumerate(row))) for row in rows)
    table = tag("table", tag("caption", escape(caption)), f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>",
                id=id_, class_="sortable")  # fmt: skip
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(cell: Cell, first: bool) -> str:
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    # Without a key, a cell is sorted by its text, or last if it holds no value.
    key = cell.key if cell.key is not None else ("" if cell.text == "–" else None)
    sort = f"{key:.6g}" if isinstance(key, float) else key
    kind = cell.mark or ("n" if isinstance(cell.key, float | int) or cell.text == "–" else None)
    content = escape(cell.text) + note
    if first:
        return tag("th", content, scope="row", data_k=sort, title=cell.title)
    return tag("td", content, data_k=sort, class_=kind, title=cell.title)


def tabs(label: str, panels: Sequence[tuple[str, str, str]]) -> str:
    """Tabs by the ARIA pattern; ``panels``: id, title, content. Without JavaScript all panels are shown in a row."""
    buttons = "".join(
        tag(
            "button", escape(title), type="button", role="tab", id=f"tab-{id_}", aria_controls=id_,
            aria_selected="true" if i == 0 else "false", tabindex=0 if i == 0 else -1,
        )
        for i, (id_, title, _) in enumerate(panels)
    )  # fmt: skip
    bodies = "".join(
        tag("section", content, role="tabpanel", id=id_, aria_labelledby=f"tab-{id_}", class_="panel")
        for id_, _, content in panels
    )
    return tag("div", tag("div", buttons, role="tablist", aria_label=label), bodies, class_="tabs")


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Names and what they are."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f"<dl>{rows}</dl>"


def badge(verdict: str) -> str:
    """A verdict, told by its word and a sign, not by colour alone."""
    sign = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "ERROR": "!"}.get(verdict, "")
    return tag("strong", f"<span aria-hidden=true>{sign}</span> {escape(verdict)}", class_=f"badge {verdict.lower()}")
