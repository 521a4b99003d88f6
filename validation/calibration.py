"""A fixed single-thread workload that says how fast this machine is right now.

The C++ program's times in ``golden/speed.json`` were taken in turns with exactly this mix, so a time a frame divided by
the time of one pass compares between machines and hours. The mix resembles the program's: float32 template matching,
bilinear warps, small float32 matrix products and exponentials, in OpenCV and BLAS with one thread.

BLAS reads its number of threads when it is loaded, so the timing runs in a process of its own: ``measure``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from validation.errors import HarnessError

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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


def time_passes(passes: int = 15) -> float:
    """Median time of one pass in milliseconds after two warm-up passes; OpenCV with one thread meanwhile."""
    import cv2

    one_pass = workload()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for _ in range(2):
            one_pass()
        times = []
        for _ in range(passes):
            start = time.perf_counter()
            one_pass()
            times.append((time.perf_counter() - start) * 1e3)
    finally:
        cv2.setNumThreads(threads)
    return statistics.median(times)


def measure(passes: int = 15) -> float:
    """As ``time_passes`` in a fresh process whose BLAS has one thread, ms."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "validation.calibration", str(passes)]
    done = subprocess.run(command, cwd=root, env={**os.environ, **_ONE_THREAD}, capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise HarnessError(f"the calibration workload does not run: {last[0]}")
    return float(done.stdout)


if __name__ == "__main__":
    print(f"{time_passes(int(sys.argv[1]) if len(sys.argv) > 1 else 15):.3f}")
