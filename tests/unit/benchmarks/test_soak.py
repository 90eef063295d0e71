"""When memory is flat."""

import pytest

from benchmarks.router_soak import Reading, Turn, finding, readings_of


def grown(per_million, total=1_000_000, start=50.0):
    step = total // 100
    return [Reading(n, start + per_million * n / 1e6) for n in range(0, total + 1, step)]


def test_a_constant_memory_is_flat():
    found = finding(grown(0))

    assert found.flat
    assert found.slope == pytest.approx(0)
    assert (found.at_10, found.at_50, found.at_100, found.most) == (50, 50, 50, 50)


def test_a_leak_is_not():
    found = finding(grown(10))

    assert not found.flat
    assert found.slope == pytest.approx(10)
    assert found.growth == pytest.approx(9)


def test_what_a_process_needs_for_its_first_requests_is_no_leak():
    readings = [Reading(n, 50.0 if n < 100 else 58.0) for n in range(0, 1001, 10)]

    assert finding(readings).flat


def test_memory_may_grow_until_every_kind_of_load_has_come_twice():
    readings = [Reading(n, min(50.0 + n / 100, 55.0)) for n in range(0, 1001, 10)]

    assert finding(readings, 500).flat
    assert not finding(readings).flat


def test_a_run_that_never_gets_warm_is_judged_by_all_of_it():
    assert not finding(grown(10, 1_000_000), 900_000).flat


def test_within_a_turn_requests_come_evenly_and_between_turns_none_are_read():
    turns = [Turn(0.0, 10.0, 100, 0), Turn(11.0, 12.0, 50, 0)]

    readings = readings_of(turns, [(0.0, 1.0), (5.0, 2.0), (10.5, 9.0), (11.5, 3.0)])

    assert readings == [Reading(0, 1.0), Reading(50, 2.0), Reading(125, 3.0)]
