"""Many inputs: one after another on all threads, or several at once on one thread each."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfaceau import collector
from pyfaceau.config import Config
from pyfaceau.errors import PyfaceauError

if TYPE_CHECKING:
    from pyfaceau.pipeline import Pipeline
    from pyfaceau.video import Source


@dataclass(frozen=True)
class Job:
    """One input and where its files go: to ``output``, or into ``folder`` under the input's own name."""

    path: str | int
    output: Path | None
    folder: Path

    @property
    def name(self) -> str | None:
        """Base name of the files, ``None`` for a camera, whose name tells the time."""
        if self.output is not None:
            return self.output.stem
        if isinstance(self.path, int):
            return None
        path = Path(self.path)
        return path.resolve().name if path.is_dir() else path.stem


@dataclass(frozen=True)
class Report:
    """What to tell about one job, on one line each."""

    text: str = ""
    note: str | None = None
    error: str | None = None
    timings: str | None = None


class _ProgressLine:
    """One line on a terminal, rewritten a few times a second; silent elsewhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = self._last = time.perf_counter()
        self._on = sys.stderr.isatty()

    def __call__(self, done: int, promised: int | None) -> None:
        now = time.perf_counter()
        if not self._on or now - self._last < 0.2:
            return
        self._last = now
        share = f" of {promised} ({100 * done // promised} %)" if promised else ""
        sys.stderr.write(f"\r{self._label}: frame {done}{share}, {done / (now - self._start):.1f} frames/s\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def run_job(load: Callable[[], Pipeline], config: Config, job: Job, show_progress: bool, timings: bool) -> Report:
    """Measure one input; what the user can mend about it, or about its output, becomes the report's ``error``.

    ``load`` is called only when input and output are of use; what it raises is no matter of this job alone.
    """
    from pyfaceau.output.files import prepare_folder
    from pyfaceau.video import open_source

    try:
        source = open_source(job.path, config)
    except PyfaceauError as error:
        return Report(error=str(error))
    with source:
        csv = job.output or job.folder / f"{source.name}.csv"
        try:
            prepare_folder(csv.parent)
        except PyfaceauError as error:
            return Report(error=str(error))
        return _measure(load(), source, csv, show_progress, timings)


def _measure(pipeline: Pipeline, source: Source, csv: Path, show_progress: bool, timings: bool) -> Report:
    from pyfaceau.extraction import run

    progress = _ProgressLine(source.location) if show_progress else None
    start = time.perf_counter()
    try:
        with _ended_by_interrupt(source) if source.online else nullcontext():
            result, _ = run(pipeline, source, csv, progress=progress)
    except PyfaceauError as error:
        return Report(error=str(error))
    finally:
        if progress is not None:
            progress.clear()
    speed = result.frames / (time.perf_counter() - start)
    text = f"{source.location}: {result.frames} frames, {result.successes} with a face, {speed:.1f} frames/s -> {csv}"
    return Report(text, result.note, timings=result.clock.table() if timings else None)


@contextmanager
def _ended_by_interrupt(source: Source) -> Iterator[None]:
    """The first Ctrl-C ends a camera's recording, whose files are then completed; the second one interrupts."""

    def end(*_: Any) -> None:
        source.stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _load(config: Config) -> Pipeline:
    """Load the models, say which, and compile the kernels if that was not done before."""
    from pyfaceau.pipeline import Pipeline
    from pyfaceau.warmup import warm_up_if_cold

    pipeline = Pipeline(config)
    collector.resume()
    print(f"landmarks: {pipeline.model.name}, {pipeline.source.path} ({pipeline.source.origin})", file=sys.stderr)
    warm_up_if_cold(pipeline)
    return pipeline


def run_jobs(jobs: Sequence[Job], config: Config, processes: int, timings: bool = False) -> int:
    """Run all jobs and print what became of them; returns how many failed.

    Parameters
    ----------
    processes : with more than one, as many inputs are measured at once, each on one thread.
    timings : print the stages' times after each input.

    Raises
    ------
    PyfaceauError
        The weights are of no use; no job was run.
    """
    processes = min(processes, len(jobs))
    if processes == 1:
        load = cache(lambda: _load(config))
        reports = (run_job(load, config, job, True, timings) for job in jobs)
    else:
        single = config.with_changes(threads=1)
        _load(single)
        reports = _run_in_processes(jobs, single, processes, timings)
    failed = 0
    with closing(reports):
        for report in reports:
            failed += report.error is not None
            _print(report)
    return failed


def _print(report: Report) -> None:
    if report.error is not None:
        print(f"pyfaceau: {report.error}", file=sys.stderr)
        return
    if report.note is not None:
        print(f"pyfaceau: warning: {report.note}", file=sys.stderr)
    print(report.text, flush=True)
    if report.timings is not None:
        print(report.timings, flush=True)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _work(config: Config, tasks: Any, results: Any, timings: bool) -> None:
    """Body of one process. The parent gets Ctrl-C and ends its children, which then remove unfinished files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        from pyfaceau.pipeline import Pipeline

        load = cache(lambda: Pipeline(config))
        while (job := tasks.get()) is not None:
            results.put(run_job(load, config, job, False, timings))
    except KeyboardInterrupt:
        results.cancel_join_thread()
        sys.exit(130)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started here never gets the terminal's Ctrl-C, not even before it can say so itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_in_processes(
    jobs: Sequence[Job], config: Config, processes: int, timings: bool
) -> Generator[Report, None, None]:
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    for job in [*jobs, *[None] * processes]:
        tasks.put(job)
    workers = [
        context.Process(target=_work, args=(config, tasks, results, timings), name=f"pyfaceau-{i}")
        for i in range(processes)
    ]
    try:
        with _deaf_to_interrupts():
            for worker in workers:
                worker.start()
        for _ in jobs:
            yield _next_report(results, workers)
    finally:
        for worker in workers:
            if worker.is_alive() and sys.exc_info()[0] is not None:
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()


def _next_report(results: Any, workers: Sequence[Any]) -> Report:
    while True:
        try:
            report: Report = results.get(timeout=0.5)
            return report
        except queue.Empty:
            if dead := [worker for worker in workers if worker.exitcode not in (None, 0)]:
                raise PyfaceauError(
                    f"a process ended with code {dead[0].exitcode}: unless it says why, use fewer --jobs"
                ) from None
