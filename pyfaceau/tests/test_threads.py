"""Threads keep the order, carry errors to the caller, stop when asked, and stay within their bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pyfaceau.threads import Crew, in_background, opencv_threads, prefetched


def workers() -> int:
    """Threads of `in_background` and `prefetched`; a crew's live as long as it, which may be a fixture's."""
    return sum(thread.name in ("pyfaceau-work", "pyfaceau-decode") for thread in threading.enumerate())


def counted(pulled: list[int], n: int) -> Iterator[int]:
    for i in range(n):
        pulled.append(i)
        yield i


def uneven(i: int) -> int:
    time.sleep(0.002 * (i % 3))
    return i * i


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_results_come_in_order(depth: int) -> None:
    assert list(in_background(range(20), uneven, depth)) == [i * i for i in range(20)]
    assert list(prefetched(range(20), depth)) == list(range(20))
    assert workers() == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_is_pulled_than_the_bound_allows(depth: int) -> None:
    pulled: list[int] = []
    for count, _ in enumerate(in_background(counted(pulled, 30), uneven, depth), 1):
        assert len(pulled) - count < depth
    pulled.clear()
    for count, _ in enumerate(prefetched(counted(pulled, 30), depth), 1):
        time.sleep(0.001)
        assert len(pulled) - count <= depth + 1  # a full queue, and one in the thread's hand


def test_work_runs_on_one_other_thread() -> None:
    names = set(in_background(range(10), lambda _: threading.current_thread().name, 3))
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
        for i in in_background(range(10), failing_at(4), 3):
            seen.append(i)  # noqa: PERF402 - the error must not lose them
    assert seen == [0, 1, 2, 3]
    assert workers() == 0


@pytest.mark.parametrize("run", [lambda items: in_background(items, uneven, 4), lambda items: prefetched(items, 4)])
def test_an_error_of_the_items_comes_after_the_earlier_results(run: Callable[[Iterator[int]], Iterator[int]]) -> None:
    seen = []
    with pytest.raises(KeyError):
        for i in run(map(failing_at(3), range(10))):
            seen.append(i)  # noqa: PERF402
    assert len(seen) == 3
    assert workers() == 0


@pytest.mark.parametrize("run", [lambda items: in_background(items, uneven, 4), lambda items: prefetched(items, 4)])
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


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_crew_shares_work_and_is_done_when_it_returns(threads: int) -> None:
    crew = Crew(threads)
    for _ in range(20):
        todo, done = iter(range(50)), []

        def work(todo: Iterator[int] = todo, done: list[int] = done) -> None:
            for i in todo:  # one iterator for all: each number goes to one of them
                time.sleep(1e-5)
                done.append(i)

        crew.share(work)
        assert sorted(done) == list(range(50))


def test_all_of_a_crew_work_at_once_and_no_more() -> None:
    crew, together, names = Crew(3), threading.Barrier(3, timeout=10), []

    def work() -> None:
        names.append(threading.current_thread().name)
        together.wait()  # breaks if fewer come

    crew.share(work)
    assert len(set(names)) == 3
    assert threading.current_thread().name in names


@pytest.mark.parametrize("who", ["caller", "helper"])
def test_an_error_in_a_crew_arrives(who: str) -> None:
    crew, together = Crew(2), threading.Barrier(2, timeout=10)

    def work() -> None:
        together.wait()
        if (threading.current_thread() is threading.main_thread()) == (who == "caller"):
            raise ValueError(who)

    with pytest.raises(ValueError, match=who):
        crew.share(work)


def test_the_threads_of_a_crew_end_with_it() -> None:
    before, crew, together = set(threading.enumerate()), Crew(2), threading.Barrier(2, timeout=10)
    crew.share(lambda: together.wait() and None)
    (helper,) = set(threading.enumerate()) - before
    del crew
    helper.join(10)
    assert not helper.is_alive()
