"""Threads keep the order, carry errors to the caller, stop when asked, and stay within their bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pyfaceau.threads import Crew, in_background, opencv_threads, prefetched


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

    for _ in in_background(items(), work, 4):
        time.sleep(0.001 if who == "worker" else 0)
    if who == "caller":
        assert names.count(threading.current_thread().name) > 20
    else:
        assert names.count("pyfaceau-work") > 20


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

    assert list(in_background(range(5), work, 2, crew)) == list(range(5))
    assert names == {threading.current_thread().name, "pyfaceau-work"}
    assert crew.threads == 1


def test_offers_to_a_busy_thread_are_withdrawn() -> None:
    crew, names = Crew(), set()

    def work(i: int) -> int:
        crew.share(lambda: names.add(threading.current_thread().name))
        return i

    for i in in_background(range(5), work, 5, crew):
        if i == 0:
            time.sleep(0.05)  # the others are done by now, by one thread alone
            names.clear()
    assert threading.current_thread().name not in names
