"""Order-keeping threads with bounded queues: results, and errors, arrive as if everything ran in sequence."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    _Queue = queue.SimpleQueue[object]

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


class _Last:
    """Comes where nothing more does: after all the others, or in the place of one that an error has prevented."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


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
        self._desks: list[_Queue] = []

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
    def desk(self) -> Iterator[_Queue]:
        """A queue at which the caller waits in the body: it gets what others put there, and offers to take."""
        desk: _Queue = queue.SimpleQueue()
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
                    desk.put(None)
                    thread.join()


def _help(desk: _Queue) -> None:
    while isinstance(offer := desk.get(), _Offer):
        offer.take()


class _Stage:
    """Makes one object after the other, in order, on whichever thread comes by; only one thread at a time.

    ``ready`` tells whether there is what ``make`` needs. What is made, or the error, goes to the end of ``out``.
    """

    def __init__(self, ready: Callable[[], object], make: Callable[[], object], out: deque[object]) -> None:
        self._ready, self._make, self._out = ready, make, out
        self._busy = threading.Lock()
        self._ended = False

    def step(self, kept: type[BaseException]) -> bool:
        """Make one, unless it is not time or the other thread is at it; then False. Errors of this type are kept."""
        if not self._due() or not self._busy.acquire(blocking=False):
            return False
        try:
            if self._due():  # the other thread may have been quicker
                try:
                    made = self._make()
                except kept as error:
                    made = _Last(error)
                self._ended = isinstance(made, _Last)
                self._out.append(made)
        finally:
            self._busy.release()
        return True

    def _due(self) -> bool:
        return not self._ended and bool(self._ready())


class _Source(Generic[T]):
    """Items, of which no more than ``depth`` are ``pulled`` and not ``taken``; the latter is for the user to count."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items, self._depth = iter(items), depth
        self.pulled = self.taken = 0

    def has_room(self) -> bool:
        return self.pulled - self.taken < self._depth

    def pull(self) -> object:
        for item in self._items:
            self.pulled += 1
            return item
        return _Last(None)


class _Background(Generic[T, R, S]):
    """The two threads of `in_background`, and what lies between them: items are pulled, worked on, finished, taken.

    A thread sleeps if it finds nothing to do, at a queue: the caller's at its desk, the other one at its bell. Each one
    wakes the other whenever it has done something, so that no sleeper misses what it could do.
    """

    def __init__(
        self, items: Iterable[T], work: Callable[[T], R], finish: Callable[[R], S], depth: int, desk: _Queue
    ) -> None:
        waiting, worked, finished = (deque[object]() for _ in range(3))
        source = _Source(items, depth)
        # None of these knows this object: with it goes at once what they hold, as large as a tracker.
        self._pull = _Stage(source.has_room, source.pull, waiting)
        self._work = _Stage(lambda: waiting, lambda: _send(waiting, work), worked)
        self._finish = _Stage(lambda: worked, lambda: _send(worked, finish), finished)
        self._source, self._waiting, self._finished = source, waiting, finished
        self._bell: _Queue = queue.SimpleQueue()
        self._desk = desk
        self._stopped = False

    def run(self) -> None:
        """The other thread's part: all the work, and what else there is while it has none."""
        urgent = (self._work, self._pull, self._finish)
        while not self._stopped:
            if any(stage.step(BaseException) for stage in urgent):
                _wake(self._desk)
            else:
                self._bell.get()

    def results(self) -> Iterator[S]:
        """The caller's part: everything but the work, of which it only takes a share that is offered."""
        helped = False
        while True:
            if self._finished:
                result = self._finished.popleft()
                if isinstance(result, _Last):
                    if result.error is not None:
                        raise result.error
                    return
                _wake(self._bell)
                yield result  # type: ignore[misc]
                self._source.taken += 1
                helped = False
            # After an offer there is time for the next item until the result comes; before, it would delay the help.
            elif self._desk.empty() and (
                self._finish.step(Exception) or ((helped or not self._waiting) and self._pull.step(Exception))
            ):
                _wake(self._bell)
            else:
                message = self._desk.get()
                if isinstance(message, _Offer):
                    message.take()
                    helped = True

    def stop(self) -> None:
        """No more after what is being done."""
        self._stopped = True
        _wake(self._bell)


def _send(items: deque[object], through: Callable[[Any], object]) -> object:
    """The first of the ``items``, sent through; the last one, after which nothing comes, stays as it is."""
    item = items.popleft()
    return item if isinstance(item, _Last) else through(item)


def _wake(sleeper: _Queue) -> None:
    """Have the thread that sleeps there, or is about to, look again. If something lies there it will anyway."""
    if sleeper.empty():
        sleeper.put(None)


def in_background(
    items: Iterable[T], work: Callable[[T], R], finish: Callable[[R], S], depth: int, crew: Crew | None = None
) -> Iterator[S]:
    """Yield ``finish(work(item))`` in order; up to ``depth`` items are on their way at a time.

    ``work`` runs on one other thread, while the caller uses a result. ``items`` are pulled, and ``finish`` runs, on
    whichever of the two has the time: one call of each at a time, in order. While the caller's thread has nothing to do
    but wait, it shares the work of its ``crew``. An exception of any of them is raised where its result was due.
    Closing the generator stops the thread.
    """
    with (crew or Crew()).desk() as desk:
        both = _Background(items, work, finish, depth, desk)
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
            put(_Last(None))
        except BaseException as error:  # raised again on the caller's thread
            put(_Last(error))

    thread = threading.Thread(target=run, name="pyfaceau-decode", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _Last):
            yield item  # type: ignore[misc]
        if item.error is not None:
            raise item.error
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
