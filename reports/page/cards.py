"""A card of the gallery: the picture if there is one, both landmark sets, and their difference stretched."""

from __future__ import annotations

from html import escape

from reports.figures.landmarks import CONTOURS
from reports.gallery import Shot, data_uri, stretched
from reports.page.html import tag

_VIEW = 400
"""Side of the drawing's own coordinates."""


def card(shot: Shot, id_: str) -> str:
    """One frame as a ``figure``."""
    x, y, side = shot.box
    scale = _VIEW / side

    def place(point: list[float]) -> str:
        return f"{(point[0] - x) * scale:.1f},{(point[1] - y) * scale:.1f}"

    parts = []
    if shot.jpeg:
        parts.append(f'<image href="{data_uri(shot.jpeg)}" width="{_VIEW}" height="{_VIEW}"/>')
    for kind, points in (("ref", shot.reference), ("ours", shot.other)):
        lines = "".join("M" + "L".join(place(points[i]) for i in contour) for contour in CONTOURS)
        parts.append(f'<path class="{kind}" d="{lines}"/>')
    moves = "".join(
        f"M{place(a)}L{place(stretched(a, b, shot.stretch))}" for a, b in zip(shot.reference, shot.other, strict=True)
    )
    parts.append(f'<path class="move" d="{moves}"/>')
    floor = "" if shot.floor_px is None else f" Noise floor, worst frame of this clip: {shot.floor_px:.2f} px."
    label = f"{shot.clip}, frame {shot.frame}: landmarks of both programs, {shot.mean_px:.2f} px apart"
    svg = tag("svg", *parts, viewBox=f"0 0 {_VIEW} {_VIEW}", role="img", aria_label=label)
    text = (
        f"<b>{escape(shot.clip)}</b>, frame {shot.frame}: {shot.mean_px:.2f} px mean of 68 landmarks."
        f"{floor} Differences × {shot.stretch}."
    )
    return tag("figure", svg, tag("figcaption", text), id=id_, class_="card picture" if shot.jpeg else "card")
