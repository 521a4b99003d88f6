"""Times of the pipeline's stages, taken where the stages are called."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Called with stage, frame number and nanoseconds, on the thread that ran the stage.
StageHook = Callable[[str, int, int], None]


class _Span:
    """`StageClock.stage`: a class, as a generator takes a few microseconds a time."""

    __slots__ = ("_clock", "_frame", "_name", "_start")

    def __init__(self, clock: StageClock, name: str, frame: int) -> None:
        self._clock, self._name, self._frame = clock, name, frame

    def __enter__(self) -> None:
        self._start = perf_counter_ns()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._clock.add(self._name, self._frame, perf_counter_ns() - self._start)


class StageClock:
    """Collects nanoseconds per stage and frame. Each stage must be timed by one thread at a time.

    Parameters
    ----------
    hook : called after each stage of each frame, if given.
    """

    def __init__(self, hook: StageHook | None = None) -> None:
        self._hook = hook
        self._frames: dict[str, array[int]] = {}
        self._times: dict[str, array[int]] = {}

    def add(self, stage: str, frame: int, nanoseconds: int) -> None:
        """Record that ``stage`` took so long for ``frame``."""
        if stage not in self._times:
            self._frames[stage] = array("q")
            self._times[stage] = array("q")
        self._frames[stage].append(frame)
        self._times[stage].append(nanoseconds)
        if self._hook is not None:
            self._hook(stage, frame, nanoseconds)

    def stage(self, name: str, frame: int) -> _Span:
        """Context manager that times its body as stage ``name`` of ``frame``."""
        return _Span(self, name, frame)

    def milliseconds(self) -> dict[str, NDArray[np.float64]]:
        """Per stage, in the order of first use: float64 (calls,) milliseconds."""
        import numpy as np

        return {stage: np.frombuffer(times, np.int64) / 1e6 for stage, times in self._times.items()}

    def frames(self, stage: str) -> NDArray[np.int64]:
        """Frame numbers of a stage's times: int64 (calls,)."""
        import numpy as np

        return np.frombuffer(self._frames[stage], np.int64).copy()

    def table(self) -> str:
        """Calls, mean, median and 95th percentile per stage, in milliseconds, as text."""
        import numpy as np

        lines = [f"{'stage':<12}{'calls':>8}{'mean ms':>10}{'median':>10}{'p95':>10}"]
        for stage, times in self.milliseconds().items():
            median, p95 = np.percentile(times, [50, 95])
            lines.append(f"{stage:<12}{times.size:>8}{times.mean():>10.3f}{median:>10.3f}{p95:>10.3f}")
        return "\n".join(lines)
