"""The garbage collector around a start: off while loading, on with all loaded objects set aside afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pyfaceau import collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*threshold)


def test_paused_until_the_end_also_of_a_failure() -> None:
    with pytest.raises(KeyError), collector.paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_who_had_switched_it_off_finds_it_off() -> None:
    gc.disable()
    with collector.paused():
        pass
    assert not gc.isenabled()


def test_resume_sets_aside_what_was_loaded() -> None:
    gc.unfreeze()
    with collector.paused():
        loaded = [[i] for i in range(1000)]
        collector.resume()
        assert gc.isenabled()
        assert gc.get_freeze_count() > len(loaded)


def test_rare_is_rarer_and_temporary() -> None:
    before = gc.get_threshold()
    with collector.rare():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
