"""The worst frames: where they come from, how they are cut, and both landmark sets drawn as a figure and for the page.

Pictures are of people, so none is looked for unless asked: they are taken from files that ``validation run --pictures``
left beside the record, or from clips in a folder that the user names. Without a picture the landmarks are drawn alone.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import style, view
from reports.figures.base import Drawing, floor_note, grid, legend, line_key
from reports.figures.landmarks import CONTOURS
from reports.view import NotDrawn
from validation.files import sha256_file

if TYPE_CHECKING:
    import numpy as np

MOST, OF_ONE_CLIP = 9, 2
SIDE = 360
"""Pixels of a picture's side on the page, at most."""
MARGIN = 0.25
"""Room around the face, as a share of its size."""
VISIBLE = 0.04
"""Differences are stretched until the largest is this share of the picture, so that 0.05 px can be seen."""


@dataclass(frozen=True)
class Shot:
    """One of the worst frames. ``box``: the square shown, x, y, side in px of the frame; ``jpeg``: that square."""

    clip: str
    frame: int
    mean_px: float
    floor_px: float | None
    reference: list[list[float]]
    other: list[list[float]]
    box: tuple[float, float, float]
    stretch: int
    jpeg: bytes | None


def worst(record: view.Record, beside: Path | None, videos: Path | None) -> list[Shot]:
    """The worst frames over all clips, worst first; pictures from ``beside`` (the record's folder) or ``videos``."""
    found = []
    for clip in view.measured(record):
        entries = clip["worst_frames"][:OF_ONE_CLIP]
        found += [(clip, entry) for entry in entries]
    found = sorted(found, key=lambda pair: -pair[1]["mean_px"])[:MOST]
    images = _images([clip for clip, _ in found], found, beside, videos)
    return [_shot(clip, entry, images.get((clip["clip"], entry["frame"]))) for clip, entry in found]


def _images(
    clips: list[view.Clip], found: list[tuple[view.Clip, dict[str, Any]]], beside: Path | None, videos: Path | None
) -> dict[tuple[str, int], np.ndarray]:
    """The frames as BGR u8 (height, width, 3), of those that are at hand."""
    images: dict[tuple[str, int], np.ndarray] = {}
    for clip, entry in found:
        kept = beside / entry["picture"] if beside and entry["picture"] else None
        if kept and kept.is_file():
            import cv2

            image = cv2.imread(str(kept))
            if image is not None:
                images[clip["clip"], entry["frame"]] = image
    for clip in {clip["clip"]: clip for clip in clips}.values():
        video = videos / clip["file"] if videos else None
        missing = [e["frame"] for c, e in found if c is clip and (clip["clip"], e["frame"]) not in images]
        # Another file under this name would show other people under these landmarks.
        if missing and video and video.is_file() and sha256_file(video) == clip["sha256"]:
            from validation.adapter import pictures

            images.update({(clip["clip"], n): image for n, image in pictures(video, missing).items()})
    return images


def _shot(clip: view.Clip, entry: dict[str, Any], image: np.ndarray | None) -> Shot:
    points = [*entry["reference"], *entry["other"]]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    side = max(max(xs) - min(xs), max(ys) - min(ys), 1.0) * (1 + 2 * MARGIN)
    box = ((min(xs) + max(xs) - side) / 2, (min(ys) + max(ys) - side) / 2, side)
    moves = [_distance(a, b) for a, b in zip(entry["reference"], entry["other"], strict=True)]
    stretch = max(int(VISIBLE * side / max(*moves, 1e-3)), 1)
    jpeg = None if image is None else _cut(image, box)
    floor = view.floor_value(clip, "landmarks.max_px")
    return Shot(clip["clip"], entry["frame"], entry["mean_px"], floor, entry["reference"], entry["other"], box, stretch,
                jpeg)  # fmt: skip


def _distance(a: list[float], b: list[float]) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)


def _cut(image: np.ndarray, box: tuple[float, float, float]) -> bytes:
    """The square of the picture as JPEG, black where it leaves the frame."""
    import cv2
    import numpy as np

    scale = min(SIDE / box[2], 2.0)
    move = np.array([[scale, 0, -box[0] * scale], [0, scale, -box[1] * scale]])
    size = max(round(box[2] * scale), 1)
    square = cv2.warpAffine(image, move, (size, size), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def figure(record: view.Record, shots: list[Shot]) -> list[Drawing]:
    """The gallery as one figure."""
    if not shots:
        raise NotDrawn("no clip has landmarks of both programs")
    drawn, panels = grid(len(shots), 3, 2.3)
    for axes, shot in zip(panels, shots, strict=True):
        _panel(axes, shot)
    legend(drawn, [
        ("C++ OpenFace 2.2", line_key(style.REFERENCE, 1.2)),
        ("pyfaceau", line_key(style.OURS, 1.2)),
        ("difference, stretched as noted", line_key("#f0e442", 1.2)),
    ])  # fmt: skip
    clips = {shot.clip for shot in shots}
    caption = (
        f"n = {len(shots)} frames, at most {OF_ONE_CLIP} of one clip, worst first: mean distance of the 68 landmarks. "
        + floor_note(
            [clip for clip in view.measured(record) if clip["clip"] in clips],
            "Noise floor: the worst frame of the same clip, reference against {}.",
        )
    )
    return [Drawing("worst-frames", "frames", "Worst frames", caption, drawn)]


def _panel(axes: Any, shot: Shot) -> None:
    x, y, side = shot.box
    if shot.jpeg:
        import cv2
        import numpy as np

        image = cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None, "we encoded it"
        axes.imshow(image[:, :, ::-1], extent=(x, x + side, y + side, y), zorder=0)
    for points, colour, width in ((shot.reference, style.REFERENCE, 1.3), (shot.other, style.OURS, 0.7)):
        for contour in CONTOURS:
            axes.plot([points[i][0] for i in contour], [points[i][1] for i in contour], color=colour, linewidth=width)
    for a, b in zip(shot.reference, shot.other, strict=True):
        end = stretched(a, b, shot.stretch)
        axes.plot([a[0], end[0]], [a[1], end[1]], color="#f0e442", linewidth=0.7)
    axes.set(xlim=(x, x + side), ylim=(y + side, y), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    floor = "" if shot.floor_px is None else f" (floor {shot.floor_px:.2f})"
    text = f"{shot.clip}\nframe {shot.frame}: {shot.mean_px:.2f} px{floor}, differences × {shot.stretch}"
    axes.set_title(text, loc="left", fontsize=6, pad=2)


def stretched(a: list[float], b: list[float], factor: int) -> list[float]:
    """The end of the difference from ``a`` to ``b``, so many times as long."""
    return [a[0] + factor * (b[0] - a[0]), a[1] + factor * (b[1] - a[1])]


def data_uri(jpeg: bytes) -> str:
    """The picture as text for the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
