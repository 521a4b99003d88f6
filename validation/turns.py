"""Processes that time passes over clips by turns of a twentieth of a second, so that both meet the same machine.

On a shared machine the speed of a core wanders: of two neighbouring stretches of 40 ms one tells much of the other, of
two a second apart little. So while one process runs the others are stopped (``SIGSTOP``), and the time they stood
still is taken off what they measured. Where processes cannot be stopped (Windows), a turn is a whole pass.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from validation.errors import HarnessError

WORKER = Path(__file__).with_name("worker.py")
TURN_S = 0.05 if hasattr(signal, "SIGSTOP") else None
"""Length of a turn; ``None``: as long as the pass takes."""


class Worker:
    """A process that times passes over clips with the pyfaceau of one tree; see ``worker.py``.

    ``cache``: folder for compiled kernels, instead of the user's. A context manager.
    """

    def __init__(self, tree: Path, request: dict[str, Any], cache: Path | None = None) -> None:
        self.tree = tree
        self._scratch = tempfile.TemporaryDirectory()
        asked = Path(self._scratch.name) / "request.json"
        asked.write_text(json.dumps({**request, "scratch": self._scratch.name}), encoding="utf-8")
        environment = {**os.environ, **({"PYFACEAU_CACHE": str(cache)} if cache else {})}
        environment.pop("PYTHONPATH", None)
        safe = ["-P"] if sys.version_info >= (3, 11) else []  # do not import from the script's own folder
        self._complaints = (Path(self._scratch.name) / "stderr.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, *safe, str(WORKER), str(tree), str(asked)],
            cwd=tree, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
        )  # fmt: skip
        self._pauses: list[list[float]] = []
        self._stopped = False
        self.loaded = self._answer()
        self.passes: list[dict[str, Any]] = []

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._process.communicate()
        self._complaints.close()
        self._scratch.cleanup()

    def begin(self, what: str) -> None:
        """A ``pass`` over every clip, or their ``finish``, from the next turn on."""
        assert self._process.stdin is not None
        self._asked = what
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def pause(self) -> None:
        """Stand still until ``resume``, from this moment on."""
        if self._stopped or TURN_S is None:
            return
        self._stopped = True
        self._pauses.append([time.perf_counter(), np.inf])
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # the signal takes its time

    def resume(self) -> None:
        """Go on."""
        if self._stopped:
            self._stopped = False
            self._pauses[-1][1] = time.perf_counter()
            os.kill(self._process.pid, signal.SIGCONT)

    def finished(self, within_s: float | None) -> bool:
        """Whether it ends within so many seconds, or at all; then a pass is the last of ``passes``.

        A ``finish`` takes the place of the one in the last pass.
        """
        assert self._process.stdout is not None
        if within_s is not None and not select.select([self._process.stdout], [], [], within_s)[0]:
            return False
        clips = {name: awake(one, self._pauses) for name, one in self._answer().items()}
        self._pauses.clear()
        if self._asked == "pass":
            self.passes.append(clips)
        else:
            for name, one in clips.items():
                self.passes[-1][name]["stages"].update(one["stages"])
        return True

    def end(self) -> dict[str, Any]:
        """Everything it measured: ``clips`` by name and pass, and the cold figures."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        clips = {name: [one[name] for one in self.passes] for name in self.passes[0]}
        first = next(iter(clips.values()))[0]["intervals_ms"][0] / 1e3
        return {"clips": clips, **self.loaded, "first_frame_s": sum(self.loaded.values()) + first, **self._answer()}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self._process.wait()
            self._complaints.seek(0)
            words = self._complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise HarnessError(f"a round of {self.tree} failed: {words[0]}")
        answer: dict[str, Any] = json.loads(Path(self._scratch.name, "answer.json").read_text(encoding="utf-8"))
        return answer


def awake(one: dict[str, Any], pauses: Sequence[Sequence[float]]) -> dict[str, Any]:
    """One clip's pass without the pauses, (begin, end) in seconds: what ``worker.py`` says, in ms.

    ``intervals_ms``: from frame to frame. ``stages``: by name the ``frames`` and the ``ms`` of each call.
    """

    def running(moments: np.ndarray) -> np.ndarray:
        """Seconds of work up to each moment, counted from anywhere."""
        return moments - sum(np.clip(moments, begin, end) - begin for begin, end in pauses)

    def stage(called: dict[str, Any]) -> dict[str, Any]:
        ends = np.array(called["ends_s"])
        ms = 1e3 * (running(ends) - running(ends - np.array(called["ms"]) / 1e3))
        return {"frames": called["frames"], "ms": ms.tolist()}

    intervals = 1e3 * np.diff(running(np.array(one["stamps_s"])))
    stages = {name: stage(called) for name, called in one["stages"].items()}
    return {"frames": one["frames"], "intervals_ms": intervals.tolist(), "stages": stages}


def take_turns(workers: Sequence[Worker], what: str) -> None:
    """The same of every worker, see ``begin``, each in its turns; what the last one has left without pauses."""
    for worker in workers:
        worker.pause()
        worker.begin(what)
    running = list(workers)
    while running:
        for worker in list(running):
            worker.resume()
            if worker.finished(TURN_S):
                running.remove(worker)
            elif len(running) > 1:
                worker.pause()


def one_round(
    trees: Sequence[Path], request: dict[str, Any], caches: Mapping[Path, Path] | None = None
) -> list[dict[str, Any]]:
    """A process of each tree, started one after the other, and their passes by turns; what each measured.

    ``caches``: by tree, a folder of its own for compiled kernels.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(tree, request, (caches or {}).get(tree))) for tree in trees]
        for number in range(request["passes"]):
            for what in ("pass", "finish"):
                take_turns(workers if number % 2 == 0 else workers[::-1], what)
        return [worker.end() for worker in workers]
