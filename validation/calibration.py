"""A fixed single-thread workload that says how fast this machine is right now.

The C++ program's times in ``golden/speed.json`` were taken in turns with exactly this mix, so a time a frame divided by
the time of one pass compares between machines and hours. The mix resembles the program's: float32 template matching,
bilinear warps, small float32 matrix products and exponentials, in OpenCV and BLAS with one thread.

BLAS reads its number of threads when it is loaded, so the timing runs in a process of its own: ``Calibrator``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from validation.errors import HarnessError

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@cache
def workload() -> Callable[[], None]:
    """One pass: about 160 ms on a server core of 2025. The inputs come from a fixed seed."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(20)
    frame = cv2.GaussianBlur(rng.random((480, 640), dtype=np.float32) * 255, (0, 0), 1.5)
    places = [(y, x) for y in range(0, 400, 50) for x in range(0, 600, 75)]
    areas = [np.ascontiguousarray(frame[y : y + 21, x : x + 21]) for y, x in places]
    filters = [rng.standard_normal((11, 11)).astype(np.float32) for _ in range(7)]
    left = rng.standard_normal((121, 121)).astype(np.float32)
    right = rng.standard_normal((121, 64)).astype(np.float32)
    warp = np.array([[0.93, 0.08, 11.0], [-0.08, 0.93, 17.0]], np.float32)

    def one_pass() -> None:
        for area in areas:
            for kernel in filters:
                cv2.matchTemplate(area, kernel, cv2.TM_CCOEFF_NORMED)
        for _ in range(2):
            cv2.warpAffine(frame, warp, (640, 480), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for _ in range(40):
            np.exp(-np.abs(left @ right))

    return one_pass


def time_passes(passes: int = 15, warm_up: int = 2) -> float:
    """Median time of one pass in milliseconds after some warm-up passes; OpenCV with one thread meanwhile."""
    import cv2

    one_pass = workload()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for _ in range(warm_up):
            one_pass()
        times = []
        for _ in range(passes):
            start = time.perf_counter()
            one_pass()
            times.append((time.perf_counter() - start) * 1e3)
    finally:
        cv2.setNumThreads(threads)
    return statistics.median(times)


class Calibrator:
    """The workload in a process of its own, whose BLAS has one thread, started once and asked as often as needed.

    A context manager; ``HarnessError`` if the process does not answer.
    """

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "validation.calibration", "--serve"],
            cwd=root,
            env={**os.environ, **_ONE_THREAD},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Calibrator:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def measure(self, passes: int = 5) -> float:
        """Median time of one pass right now, ms."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{passes}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            raise HarnessError("the calibration workload does not run; is opencv-python-headless installed?") from error


def _serve() -> None:
    for line in sys.stdin:
        print(f"{time_passes(int(line), warm_up=1):.4f}", flush=True)


if __name__ == "__main__":
    os.environ.update(_ONE_THREAD)
    if sys.argv[1:] == ["--serve"]:
        _serve()
    else:
        print(f"{time_passes(int(sys.argv[1]) if len(sys.argv) > 1 else 15):.3f}")
