"""Order-keeping threads with bounded queues: results, and errors, arrive as if everything ran in sequence."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


class _Offer:
    """A call that the thread which takes it makes; once withdrawn, nobody can take it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._taken, self._done = threading.Lock(), threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def take(self) -> None:
        """Make the call, unless it is too late."""
        if not self._taken.acquire(blocking=False):
            return
        try:
            self._work()
        except BaseException as error:  # raised again where the work came from
            self._error = error
        finally:
            self._done.release()

    def conclude(self) -> BaseException | None:
        """Withdraw it; if somebody has taken it, wait for the end of the call. Its error, if it had one."""
        if not self._taken.acquire(blocking=False):
            self._done.acquire()
        return self._error


class Crew:
    """Threads that share pieces of work with whoever brings them: those that would only wait at their desk."""

    def __init__(self) -> None:
        self._desks: list[queue.SimpleQueue[object]] = []

    @property
    def threads(self) -> int:
        """How many may share: the one that brings the work, and one at every desk."""
        return 1 + len(self._desks)

    def share(self, work: Callable[[], None]) -> None:
        """Call ``work`` on this thread and on every other that is free, and wait until all calls are done.

        The calls must divide the work between them. A thread that comes too late finds nothing left to do; one that
        has not begun by the time the caller is through is not waited for. The first error is raised.
        """
        offers = [_Offer(work) for _ in self._desks]
        for desk, offer in zip(self._desks, offers, strict=True):
            desk.put(offer)
        try:
            work()
        finally:
            errors = [error for offer in offers if (error := offer.conclude()) is not None]
        if errors:
            raise errors[0]

    @contextmanager
    def desk(self) -> Iterator[queue.SimpleQueue[object]]:
        """A queue at which the caller waits in the body: it gets what others put there, and offers to take."""
        desk: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._desks.append(desk)
        try:
            yield desk
        finally:
            self._desks.remove(desk)

    @contextmanager
    def helpers(self, count: int) -> Iterator[None]:
        """``count`` more threads, in the body, that do nothing but help."""
        with ExitStack() as stack:
            desks = [stack.enter_context(self.desk()) for _ in range(count)]
            threads = [threading.Thread(target=_help, args=[desk], name="pyfaceau-help", daemon=True) for desk in desks]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                for desk, thread in zip(desks, threads, strict=True):
                    desk.put(_END)
                    thread.join()


def _help(desk: queue.SimpleQueue[object]) -> None:
    while isinstance(offer := desk.get(), _Offer):
        offer.take()


class _Background(Generic[T, R]):
    """The two threads of `in_background`, and what lies between them.

    Items are pulled by whichever thread has nothing better to do, one at a time. Counts are written by one thread at a
    time: ``_pulled`` under the lock, ``_taken`` by the caller's.
    """

    def __init__(self, items: Iterable[T], work: Callable[[T], R], depth: int, done: queue.SimpleQueue[object]) -> None:
        self._source, self._work, self._depth, self._done = iter(items), work, depth, done
        self._waiting: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pulling = threading.Lock()
        self._pulled = self._taken = 0
        self._ended = False
        self._failure: BaseException | None = None  # of the items: results of earlier ones come first

    def _pull(self) -> bool:
        """Get one more item; False if there is no room, none left, or the other thread is about to get one."""
        if self._ended or self._pulled - self._taken >= self._depth or not self._pulling.acquire(blocking=False):
            return False
        try:
            self._waiting.put(next(self._source))
            self._pulled += 1
        except StopIteration:
            self._end()
        except Exception as error:
            self._failure = error
            self._end()
        finally:
            self._pulling.release()
        return True

    def _end(self) -> None:
        self._ended = True
        self._done.put(_END)  # the other thread may wait for a result that is not to come

    def run(self) -> None:
        """The other thread's part."""
        try:
            while True:
                if self._waiting.empty():
                    self._pull()
                if (item := self._waiting.get()) is _END:
                    return
                self._done.put(self._work(item))  # type: ignore[arg-type]
        except BaseException as error:  # raised again on the caller's thread
            self._done.put(_Failure(error))

    def results(self) -> Iterator[R]:
        """The caller's part."""
        helped = False
        while True:
            # After an offer there is time for the next item until the result comes; before, it would delay the help.
            if (helped or self._waiting.empty()) and self._done.empty():
                self._pull()
            helped = False
            if self._ended and self._pulled == self._taken:
                break
            result = self._done.get()
            if isinstance(result, _Offer):
                result.take()
                helped = True
            elif isinstance(result, _Failure):
                raise result.error
            elif result is not _END:
                self._taken += 1
                yield result  # type: ignore[misc]
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """No more work after what is being done."""
        self._ended = True
        self._waiting.put(_END)


def in_background(items: Iterable[T], work: Callable[[T], R], depth: int, crew: Crew | None = None) -> Iterator[R]:
    """Yield ``work(item)`` in order; ``work`` runs on one other thread, up to ``depth`` items ahead.

    What the caller does with a result overlaps with the work on the next ones. ``items`` are pulled by whichever of
    the two threads has the time; while the caller's has nothing to do but wait, it shares the work of its ``crew``.
    An exception of ``items`` or ``work`` is raised where its result was due. Closing the generator stops the thread.
    """
    with (crew or Crew()).desk() as done:
        both = _Background(items, work, depth, done)
        thread = threading.Thread(target=both.run, name="pyfaceau-work", daemon=True)
        thread.start()
        try:
            yield from both.results()
        finally:
            both.stop()
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
