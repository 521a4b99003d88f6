"""Order-keeping threads with bounded queues: results, and errors, arrive as if everything ran in sequence."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def in_background(items: Iterable[T], work: Callable[[T], R], depth: int) -> Iterator[R]:
    """Yield ``work(item)`` in order; ``work`` runs on one other thread, up to ``depth`` items ahead.

    The caller's thread pulls ``items``, so that what it does with a result overlaps with the work on the next ones.
    An exception of ``items`` or ``work`` is raised where its result was due. Closing the generator stops the thread.
    """
    waiting: queue.SimpleQueue[object] = queue.SimpleQueue()  # bounded by the count below
    done: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run() -> None:
        while (item := waiting.get()) is not _END:
            try:
                done.put(work(item))  # type: ignore[arg-type]
            except BaseException as error:  # raised again on the caller's thread
                done.put(_Failure(error))
                return

    thread = threading.Thread(target=run, name="pyfaceau-work", daemon=True)
    thread.start()
    try:
        source = iter(items)
        ahead, more = 0, True
        failure: BaseException | None = None
        while True:
            while more and ahead < depth:
                try:
                    waiting.put(next(source))
                    ahead += 1
                except StopIteration:
                    more = False
                except Exception as error:  # results of earlier items come first
                    more, failure = False, error
            if ahead == 0:
                break
            result = done.get()
            ahead -= 1
            if isinstance(result, _Failure):
                raise result.error
            yield result  # type: ignore[misc]
        if failure is not None:
            raise failure
    finally:
        waiting.put(_END)
        thread.join()


def prefetched(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``items``, which are pulled on one other thread, up to ``depth`` ahead."""
    ready: queue.Queue[object] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # raised again on the caller's thread
            put(_Failure(error))

    thread = threading.Thread(target=run, name="pyfaceau-decode", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


class Crew:
    """``threads`` - 1 helpers that share pieces of work with whoever brings them, for as long as the crew lives."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        # Threads start when they are first needed and end with the pool.
        self._pool = ThreadPoolExecutor(threads - 1, "pyfaceau-crew") if threads > 1 else None

    def share(self, work: Callable[[], None]) -> None:
        """Call ``work`` on this thread and on every helper that is free, and wait until all calls are done.

        The calls must divide the work between them. A helper that comes too late finds nothing left to do; one that
        has not begun by the time the caller is through is not waited for. The first error is raised.
        """
        helpers = [] if self._pool is None else [self._pool.submit(work) for _ in range(self.threads - 1)]
        try:
            work()
        finally:
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Let OpenCV use ``count`` threads in the body, then as many as before."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
