"""How an instance that runs as a process moves on: values alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.kit.process import Identity
from services.scheduler.adapters import process_life
from services.scheduler.adapters.process_life import Life, Pace
from services.scheduler.core.cluster import Ref

REF = Ref("u-8105f7322477", "test", "i-aaaaaa")
WORKER = Identity(pid=7, started=70)
PACE = Pace()


def seen(life, now=0.0):
    return process_life.observed(REF, life, now, PACE)


def failed_at(times, lived_s=1.0):
    life = Life()
    for now in times:
        begun = process_life.launched(life, WORKER, now - lived_s)
        life = process_life.failed(begun, "boom", now, PACE)
    return life


def test_the_pauses_double_from_5_seconds_to_5_minutes():
    delays = [PACE.delay_s(failures) for failures in range(1, 9)]
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    assert PACE.delay_s(10_000) == 300


def test_a_life_of_five_minutes_ends_the_row_of_failures():
    life = failed_at([10, 20, 30])
    assert (seen(life).failures, life.next_try_at) == (3, 50)
    begun = process_life.launched(life, WORKER, 50)
    assert seen(begun, now=349).failures == 3
    assert seen(begun, now=351).failures == 0
    assert seen(begun, now=351).reason == ""
    assert process_life.failed(begun, "again", 350, PACE).failures == 1


def test_one_that_never_began_counts_on():
    life = failed_at([10])
    assert process_life.failed(life, "no such command", 500, PACE).failures == 2


@pytest.mark.parametrize(
    ("life", "state"),
    [
        (Life(), "waiting"),
        (Life(pid=7, started=70), "running"),
        (failed_at([10]), "restarting"),
        (process_life.interrupted(Life(pid=7), "gone", 5), "restarting"),
        (process_life.asked_to_stop(Life(pid=7), 1, 150), "stopping"),
        (process_life.asked_to_stop(failed_at([10]), 1, 150), "ended"),
        (process_life.gone(process_life.asked_to_stop(Life(pid=7), 1, 150), 2), "ended"),
    ],
)
def test_the_state_follows_from_what_is_kept(life, state):
    assert seen(life).state == state


def test_a_second_stop_leaves_the_first_ones_time():
    life = process_life.asked_to_stop(Life(pid=7), 10, 150)
    assert process_life.asked_to_stop(life, 99, 150).kill_at == 160


def test_the_note_of_a_worker_can_be_read_as_its_identity():
    noted = msgspec.json.encode(process_life.launched(Life(), WORKER, 3))
    assert msgspec.json.decode(noted, type=Identity) == WORKER


moves = st.lists(st.sampled_from(["launch", "fail", "interrupt", "stop", "gone"]), max_size=12)


@given(moves)
def test_what_was_asked_to_stop_is_never_anything_but_stopping_or_ended(moves):
    life = Life()
    for now, move in enumerate(moves, start=1):
        match move:
            case "launch":
                life = process_life.launched(life, WORKER, now)
            case "fail":
                life = process_life.failed(life, "boom", now, PACE)
            case "interrupt":
                life = process_life.interrupted(life, "gone", now)
            case "stop":
                life = process_life.asked_to_stop(life, now, 150)
            case "gone":
                life = process_life.gone(life, now)
    stopped = "stop" in moves
    assert (seen(life).state in {"stopping", "ended"}) == stopped
    assert (life.worker is not None) == (seen(life).state in {"running", "stopping"})
