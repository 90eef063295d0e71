"""When a missing lease says something of its instance, and when only of the bus."""

import pytest

from caravan.contracts.instances import Lease
from services.scheduler.core.leases import BACK_S, Leases

IDLE = Lease(incarnation="x")
BUSY = Lease(incarnation="x", running=1)


def held(count):
    """Return leases, all renewed at 100, long after the start."""
    leases = Leases(0.0)
    for n in range(count):
        leases.renewed(f"i-{n}", IDLE, n + 1, 100.0)
    return leases


def test_a_lease_that_lapses_alone_makes_its_instance_suspect():
    leases = held(3)
    leases.lapsed("i-0", 110.0)
    assert not leases.missing("i-0", 110.5)  # others may follow yet
    assert leases.next_change(110.5) == 111.0
    assert leases.missing("i-0", 111.0)
    assert not leases.missing("i-1", 111.0)


def test_a_renewal_ends_the_suspicion():
    leases = held(3)
    leases.lapsed("i-0", 110.0)
    leases.renewed("i-0", IDLE, 50, 115.0)
    assert not leases.missing("i-0", 115.0)


@pytest.mark.parametrize(
    ("held_before", "lapse", "bus_suspected"),
    [(4, 3, True), (4, 2, False), (3, 3, False), (10, 5, False), (10, 6, True), (20, 20, True)],
)
def test_more_than_half_of_at_least_four_together_are_the_fault_of_the_bus(
    held_before, lapse, bus_suspected
):
    leases = held(held_before)
    for n in range(lapse):
        leases.lapsed(f"i-{n}", 110.0 + n / 10)
    last = 110.0 + (lapse - 1) / 10
    assert leases.clouded(last) == bus_suspected
    assert leases.missing("i-0", last + 1.0) != bus_suspected
    assert leases.missing("i-0", last + BACK_S)


def test_leases_that_lapse_one_after_the_other_are_each_their_own():
    leases = held(4)
    for n in range(4):
        leases.lapsed(f"i-{n}", 110.0 + 5 * n)
    assert leases.missing("i-0", 130.0)


def test_nothing_is_marked_while_the_connection_is_broken_and_for_20_s_more():
    leases = held(2)
    leases.broke()
    leases.lapsed("i-0", 110.0)
    assert not leases.missing("i-0", 1000.0)
    leases.back(1000.0)
    assert not leases.missing("i-0", 1019.9)
    assert leases.next_change(1000.0) == 1020.0
    assert leases.missing("i-0", 1020.0)


def test_a_scheduler_that_has_just_started_waits_20_s_for_leases():
    leases = Leases(100.0)
    assert not leases.missing("i-0", 119.9)
    assert leases.missing("i-0", 120.0)


def test_idle_twice_needs_two_renewals_after_the_moment():
    leases = held(1)
    assert not leases.idle_twice_since("i-0", 99.0)
    leases.renewed("i-0", IDLE, 10, 103.0)
    assert leases.idle_twice_since("i-0", 99.0)
    assert not leases.idle_twice_since("i-0", 100.0)
    leases.renewed("i-0", IDLE, 11, 106.0)
    assert leases.idle_twice_since("i-0", 100.0)


def test_one_busy_lease_breaks_the_row():
    leases = held(1)
    leases.renewed("i-0", BUSY, 10, 103.0)
    leases.renewed("i-0", IDLE, 11, 106.0)
    assert not leases.idle_twice_since("i-0", 99.0)
    leases.renewed("i-0", IDLE, 12, 109.0)
    assert leases.idle_twice_since("i-0", 99.0)


def test_a_lease_that_a_replay_tells_again_is_no_new_sign_of_life():
    leases = Leases(0.0)
    leases.renewed("i-0", IDLE, 7, 103.0)
    leases.renewed("i-0", IDLE, 7, 104.0)
    assert not leases.idle_twice_since("i-0", 99.0)
    newest = leases.newest("i-0")
    assert newest is not None
    assert newest.at == 103.0


def test_what_has_ended_is_waited_for_no_more():
    leases = held(1)
    leases.lapsed("i-0", 110.0)
    leases.forget("i-0")
    assert leases.newest("i-0") is None
    assert leases.next_change(110.0) == float("inf")
