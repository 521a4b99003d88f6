"""How figures look: sizes of a journal's columns, the colours of Okabe & Ito, and how they are saved.

Colours follow the thing, in every figure: vermilion is the reference (the C++ program), blue is the run, grey is the
noise floor. On the page the same drawing must be readable on dark and on light paper, so there the colours below are
replaced by CSS variables of the same name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.errors import HarnessError
from validation.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MM = 1 / 25.4
SINGLE, DOUBLE = 89 * MM, 183 * MM
"""Width of one and of two columns, inches."""

INK, MUTED, GRID, PAPER = "#1a1a1a", "#5f5f5f", "#dcdcdc", "#fefefe"
OURS, REFERENCE, FLOOR = "#0072b2", "#d55e00", "#9a9a9a"
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#d55e00")
"""Okabe & Ito (2008), "Color universal design": told apart with every common colour vision deficiency."""
SEQUENTIAL = "cividis"
"""Rises in lightness alike for all (Nuñez et al. 2018)."""

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", OURS: "ours", REFERENCE: "ref", FLOOR: "floor"}
_SETTINGS = {
    # Laid out once for all formats: letters must be as wide then as in the finest of them.
    "figure.dpi": 300,
    "text.hinting": "none",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6.5,
    "figure.titlesize": 8,
    "axes.linewidth": 0.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.minor.size": 1,
    "ytick.minor.size": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.4,
    "lines.linewidth": 0.8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "image.cmap": SEQUENTIAL,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "pyfaceau",
    "path.simplify_threshold": 0.25,
}


@contextmanager
def applied() -> Iterator[None]:
    """Within it, figures are made and saved in this style; settings of the caller's session are left as they were."""
    try:
        import matplotlib as mpl
        from matplotlib import font_manager
    except ImportError as error:
        raise HarnessError("figures need matplotlib: pip install 'pyfaceau[report]'") from error
    known = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans") if name in known]
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, **_SETTINGS, "font.family": fonts}
    with mpl.rc_context(settings):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix (pdf, svg, png), on white paper, whole or not at all."""
    kind = path.suffix[1:]
    stamp = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[kind]
    write_atomically(path, _rendered(figure, kind, dpi=300, facecolor="white", metadata=stamp))


def inline_svg(figure: Figure, name: str, label: str, dpi: int = 110) -> str:
    """The figure as an ``svg`` element for the page: ids of its own, colours as variables, ``label`` for a reader."""
    text = _rendered(figure, "svg", dpi=dpi, facecolor="none", metadata={"Date": None}).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable},{colour})")
    # Shorter coordinates; only inside of tags, as the text between them is what a reader takes for the value.
    text = re.sub(r"<[^>]*>", lambda element: _shortened(element.group()), text)
    text = re.sub(r"\n\s*", "\n", text)
    text = re.sub(r"<g((?: [^>]*)?)>\n((?:<use [^>]*/>\n)+)</g>", _same_style_once, text)
    head, rest = text.split(">", 1)
    width = re.search(r'width="([\d.]+)pt"', head)
    head = re.sub(r'\s(width|height)="[\d.]+pt"', "", head)
    # Text of 6 pt must stay readable on a phone, so the drawing scrolls in its frame rather than shrink further.
    least = int(float(width.group(1)) * 1.2) if width else 0
    return f'{head} role="img" aria-label="{escape(label)}" style="min-width:{least}px">{rest}'


def _same_style_once(group: re.Match[str]) -> str:
    """A group of markers; a style that all of them have is moved to the group."""
    own, markers = group[1], group[2]
    styles = set(re.findall(r' style="[^"]*"', markers))
    if len(styles) != 1 or markers.count(" style=") != markers.count("<use ") or "style=" in own:
        return group[0]
    shared = styles.pop()
    return f"<g{own}{shared}>\n{markers.replace(shared, '')}</g>"


def _shortened(element: str) -> str:
    """A tag with coordinates of paths to 0.1 pt, others to 0.01 pt, and its font left to the page's style."""
    element = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\d+\.\d)\d+", r"\1", path.group()), element)
    element = re.sub(r"(\d+\.\d\d)\d+", r"\1", element)
    return re.sub(r"font-family: [^;\"]*", "font-family: var(--metric,Arial,sans-serif)", element)


def _rendered(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with applied():
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
