"""A copy of the working tree in which one stage really takes longer: does ``speed`` see it, from end to end?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from validation.errors import HarnessError
from validation.files import REPOSITORY

STAGES = (
    "decode", "gray", "landmarks", "landmarks.detect", "landmarks.face", "landmarks.parts", "landmarks.validator",
    "pose", "gaze", "analysis", "record", "finish",
)  # fmt: skip
"""The stages that pyfaceau times."""

_BUSY = '''

_add = StageClock.add


def _busy_add(self: StageClock, stage: str, frame: int, nanoseconds: int) -> None:
    """Be busy for {share} of the time that the stage took, then record both."""
    if stage == "{stage}":
        start = perf_counter_ns()
        while perf_counter_ns() - start < {share} * nanoseconds:
            pass
        nanoseconds += perf_counter_ns() - start
    _add(self, stage, frame, nanoseconds)


StageClock.add = _busy_add  # type: ignore[method-assign]
'''


def parse(text: str) -> tuple[str, float]:
    """Stage and share of ``STAGE=PERCENT``; ``HarnessError`` if it is not one."""
    stage, _, percent = text.partition("=")
    if stage not in STAGES:
        raise HarnessError(f"no stage {stage!r} to slow down; stages: {', '.join(STAGES)}")
    try:
        share = float(percent) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 10:
        raise HarnessError(f"{text!r}: give the slowdown as STAGE=PERCENT with 0 to 1000 per cent")
    return stage, share


@contextmanager
def slowed_copy(stage: str, share: float, tree: Path = REPOSITORY) -> Iterator[Path]:
    """A temporary folder with the tree's pyfaceau, which spends this share of the stage's time once more in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "slowed"
        ignored = shutil.ignore_patterns("__pycache__", "tests")
        shutil.copytree(tree / "pyfaceau", copy / "pyfaceau", ignore=ignored)
        with (copy / "pyfaceau" / "clock.py").open("a", encoding="utf-8") as clock:
            clock.write(_BUSY.format(stage=stage, share=share))
        yield copy
