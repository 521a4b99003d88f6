"""Threads keep the order, carry errors to the caller, stop when asked, and stay within their bounds."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from pyfaceau.threads import Crew, in_background, opencv_threads, prefetched

T = TypeVar("T")
R = TypeVar("R")


def same(item: Any) -> Any:
    return item


def background(items: Iterable[T], work: Callable[[T], R], depth: int, crew: Crew | None = None) -> Iterator[R]:
    """Without a last step."""
    return in_background(items, work, same, depth, crew)


def workers() -> int:
    return sum(thread.name.startswith("pyfaceau-") for thread in threading.enumerate())


def counted(pulled: list[int], n: int) -> Iterator[int]:
    for i in range(n):
        pulled.append(i)
        yield i


def uneven(i: int) -> int:
    time.sleep(0.002 * (i % 3))
    return i * i


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_results_come_in_order(depth: int) -> None:
    assert list(background(range(20), uneven, depth)) == [i * i for i in range(20)]
    assert list(prefetched(range(20), depth)) == list(range(20))
    assert workers() == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_is_pulled_than_the_bound_allows(depth: int) -> None:
    pulled: list[int] = []
    for count, _ in enumerate(background(counted(pulled, 30), uneven, depth), 1):
        assert len(pulled) - count < depth
    pulled.clear()
    for count, _ in enumerate(prefetched(counted(pulled, 30), depth), 1):
        time.sleep(0.001)
        assert len(pulled) - count <= depth + 1  # a full queue, and one in the thread's hand


def test_work_runs_on_one_other_thread() -> None:
    names = set(background(range(10), lambda _: threading.current_thread().name, 3))
    assert names == {"pyfaceau-work"}


def failing_at(n: int) -> Callable[[int], int]:
    def work(i: int) -> int:
        if i == n:
            raise KeyError(f"item {i}")
        return i

    return work


def test_an_error_of_the_work_comes_where_its_result_was_due() -> None:
    seen = []
    with pytest.raises(KeyError, match="item 4"):
        for i in background(range(10), failing_at(4), 3):
            seen.append(i)  # noqa: PERF402 - the error must not lose them
    assert seen == [0, 1, 2, 3]
    assert workers() == 0


@pytest.mark.parametrize("run", [lambda items: background(items, uneven, 4), lambda items: prefetched(items, 4)])
def test_an_error_of_the_items_comes_after_the_earlier_results(run: Callable[[Iterator[int]], Iterator[int]]) -> None:
    seen = []
    with pytest.raises(KeyError):
        for i in run(map(failing_at(3), range(10))):
            seen.append(i)  # noqa: PERF402
    assert len(seen) == 3
    assert workers() == 0


@pytest.mark.parametrize("run", [lambda items: background(items, uneven, 4), lambda items: prefetched(items, 4)])
def test_closing_early_stops_the_thread(run: Callable[[range], Iterator[int]]) -> None:
    results = run(range(1000))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert workers() == 0


def test_opencv_gets_its_threads_back() -> None:
    import cv2

    before = cv2.getNumThreads()
    with pytest.raises(ValueError, match="stop"), opencv_threads(1):
        assert cv2.getNumThreads() == 1
        raise ValueError("stop")
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_whichever_thread_has_the_time_pulls_items(who: str) -> None:
    """A slow consumer does not keep the work waiting, nor slow work the items."""
    names = []

    def items() -> Iterator[int]:
        for i in range(40):
            names.append(threading.current_thread().name)
            yield i

    def work(i: int) -> int:
        time.sleep(0.001 if who == "caller" else 0)
        return i

    for _ in background(items(), work, 4):
        time.sleep(0.001 if who == "worker" else 0)
    if who == "caller":
        assert names.count(threading.current_thread().name) > 20
    else:
        assert names.count("pyfaceau-work") > 20


class Step:
    """The number that comes in, after a while; notes its calls."""

    def __init__(self, seconds: float = 0.0, jitter: float = 0.0) -> None:
        self._seconds, self._jitter, self._busy = seconds, random.Random(str(jitter)), threading.Lock()
        self._most = jitter
        self.seen: list[int] = []
        self.threads: list[str] = []

    def __call__(self, i: int) -> int:
        assert self._busy.acquire(blocking=False), "two threads at once"
        time.sleep(self._seconds + self._jitter.uniform(0, self._most))
        self.seen.append(i)
        self.threads.append(threading.current_thread().name)
        self._busy.release()
        return i


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_step_keeps_the_order_and_runs_once_at_a_time(depth: int) -> None:
    pull, work, finish = Step(jitter=0.0011), Step(jitter=0.0012), Step(jitter=0.0013)
    assert list(in_background(map(pull, range(150)), work, finish, depth)) == list(range(150))
    assert pull.seen == work.seen == finish.seen == list(range(150))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "nobody does what is waited for"
        time.sleep(0.0002)


def test_while_one_thread_pulls_the_other_finishes() -> None:
    finish = Step()

    def items() -> Iterator[int]:
        for i in range(30):
            until(lambda i=i: len(finish.seen) == i)  # type: ignore[misc]
            yield i

    assert list(in_background(items(), same, finish, 4)) == list(range(30))


def test_while_the_other_thread_works_the_caller_finishes() -> None:
    finish = Step()

    def work(i: int) -> int:
        until(lambda: len(finish.seen) == i)
        return i

    assert list(in_background(range(30), work, finish, 4)) == list(range(30))
    assert finish.threads.count(threading.current_thread().name) >= 29


def test_while_a_result_is_used_the_other_thread_does_all_else() -> None:
    finish = Step()
    for i in in_background(range(20), same, finish, 4):
        until(lambda i=i: len(finish.seen) == min(i + 4, 20))  # type: ignore[misc]
    assert finish.threads.count("pyfaceau-work") >= 16


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_an_error_of_the_last_step_comes_where_its_result_was_due(who: str) -> None:
    calls, seen = [], []

    def finish(i: int) -> int:
        calls.append(i)
        return failing_at(4)(i)

    slow, quick = Step(0.002), Step()
    pull, work = (quick, slow) if who == "caller" else (slow, quick)
    with pytest.raises(KeyError, match="item 4"):
        for i in in_background(map(pull, range(20)), work, finish, 3):
            seen.append(i)  # noqa: PERF402
    assert seen == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 3, 4]
    assert workers() == 0


def test_the_first_error_in_order_is_raised_even_if_another_happened_before() -> None:
    def finish(i: int) -> int:
        time.sleep(0.002)  # the items are at their end by then
        return failing_at(3)(i)

    with pytest.raises(KeyError, match="item 3"):
        list(in_background(map(failing_at(5), range(10)), failing_at(4), finish, 8))
    assert workers() == 0


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("step", ["pull", "work", "finish"])
def test_an_interruption_reaches_the_caller_and_ends_the_thread(step: str, interruption: type[BaseException]) -> None:
    def interrupted(i: int) -> int:
        time.sleep(0.001)
        if i == 5:
            raise interruption
        return i

    pull, work, finish = (interrupted if name == step else same for name in ("pull", "work", "finish"))
    seen = []
    with pytest.raises(interruption):
        for i in in_background(map(pull, range(20)), work, finish, 3):
            seen.append(i)  # noqa: PERF402
    assert seen == list(range(len(seen)))
    assert len(seen) <= 5
    assert workers() == 0


def test_nothing_is_begun_after_closing() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.01 if i else 0)
        return i

    results = background(range(10), work, 8)
    assert next(results) == 0
    while len(begun) < 2:
        time.sleep(0.0005)
    results.close()  # type: ignore[attr-defined]
    assert begun == [0, 1]


def test_what_the_steps_hold_goes_with_the_last_result() -> None:
    """Not when garbage happens to be collected: a video's tracker and analyser are large."""
    held = {1, 2}  # any object with methods that can have a weak reference
    gone = weakref.ref(held)
    gc.disable()
    try:
        assert list(in_background(map(held.__contains__, [1, 3]), held.__contains__, held.__contains__, 3))
        del held
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_a_crew_shares_work_and_is_done_when_it_returns(helpers: int) -> None:
    crew = Crew()
    with crew.helpers(helpers):
        assert crew.threads == 1 + helpers
        for _ in range(20):
            todo, done = iter(range(50)), []

            def work(todo: Iterator[int] = todo, done: list[int] = done) -> None:
                for i in todo:  # one iterator for all: each number goes to one of them
                    time.sleep(1e-5)
                    done.append(i)

            crew.share(work)
            assert sorted(done) == list(range(50))
    assert crew.threads == 1


def test_all_of_a_crew_work_at_once_and_no_more() -> None:
    crew, together, threads = Crew(), threading.Barrier(3, timeout=10), []

    def work() -> None:
        threads.append(threading.current_thread())
        together.wait()  # breaks if fewer come

    with crew.helpers(2):
        crew.share(work)
    assert len(threads) == len(set(threads)) == 3
    assert threading.current_thread() in threads


@pytest.mark.parametrize("who", ["caller", "helper"])
def test_an_error_in_a_crew_arrives(who: str) -> None:
    crew, together = Crew(), threading.Barrier(2, timeout=10)

    def work() -> None:
        together.wait()
        if (threading.current_thread() is threading.main_thread()) == (who == "caller"):
            raise ValueError(who)

    with crew.helpers(1), pytest.raises(ValueError, match=who):
        crew.share(work)


def test_the_threads_of_a_crew_end() -> None:
    before, crew = set(threading.enumerate()), Crew()
    with crew.helpers(2):
        assert len(set(threading.enumerate()) - before) == 2
    assert set(threading.enumerate()) == before


def test_who_waits_for_a_result_helps() -> None:
    """The caller of `in_background` takes its share of work that the other thread brings to the crew."""
    crew, names = Crew(), set()

    def work(i: int) -> int:
        together = threading.Barrier(2, timeout=10)

        def piece() -> None:
            names.add(threading.current_thread().name)
            together.wait()

        crew.share(piece)
        return i

    assert list(background(range(5), work, 2, crew)) == list(range(5))
    assert names == {threading.current_thread().name, "pyfaceau-work"}
    assert crew.threads == 1


def test_offers_to_a_busy_thread_are_withdrawn() -> None:
    crew, names = Crew(), set()

    def work(i: int) -> int:
        crew.share(lambda: names.add(threading.current_thread().name))
        return i

    for i in background(range(5), work, 5, crew):
        if i == 0:
            time.sleep(0.05)  # the others are done by now, by one thread alone
            names.clear()
    assert threading.current_thread().name not in names
