"""The life of a worker, decided without one: what was seen in, what to do out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.errors import Problem
from services.worker.core.lifecycle import (
    KILL,
    PROBE,
    START,
    STOP,
    Answered,
    Asked,
    Exited,
    Fetched,
    Life,
    Limits,
    Missed,
    Refused,
    Superseded,
    Ticked,
    Told,
    pause_s,
    step,
)
from services.worker.core.load import Load

LIMITS = Limits(drain_s=30.0, stall_s=10.0, load_s=60.0, probe_s=20.0)
IDLE = Load(mark=(1.0,))


def busy(mark):
    return Load(running=1, mark=(float(mark),))


def live(*seen, limits=LIMITS):
    """Return the life after ``seen``, and the actions of the last step."""
    life, actions = Life(limits=limits), ()
    for one in seen:
        life, actions = step(life, one)
    return life, actions


def ready(*seen, limits=LIMITS):
    return live(Fetched(0.0), Ticked(0.0), Answered(1.0), *seen, limits=limits)


def ticks(load, start, count, every=3.0):
    return [Ticked(start + every * number, load) for number in range(count)]


def test_the_engine_starts_when_the_weights_are_here():
    life, actions = live(Fetched(0.0))
    assert (life.state, actions) == ("loading", (START,))


def test_a_loading_engine_is_asked_for_a_token_one_probe_at_a_time():
    life, actions = live(Fetched(0.0), Ticked(0.1))
    assert actions == (PROBE,)
    life, actions = step(life, Ticked(0.4))
    assert actions == ()
    life, actions = step(step(life, Missed(0.5))[0], Ticked(0.6))
    assert actions == (PROBE,)


def test_it_is_ready_with_the_first_token():
    assert ready()[0].state == "ready"


def test_a_refusal_is_a_failure_with_the_exit_of_its_code():
    life, _ = live(Refused(0.0, Problem(code="weights_not_found", message="nothing there")))
    assert (life.state, life.reason, life.exit) == ("failed", "nothing there", 4)


def test_an_engine_that_ends_by_itself_is_a_failure_with_the_reason():
    life, _ = ready(Exited(5.0, "it exited with 1"))
    assert (life.state, life.exit) == ("failed", 1)
    assert life.reason == "the engine ended: it exited with 1"


def test_an_engine_that_gives_no_token_in_time_is_killed():
    life, _ = live(Fetched(0.0))
    at, actions = 0.0, ()
    while KILL not in actions:
        at += 0.5
        life, actions = step(life, Ticked(at))
        assert at < 2 * LIMITS.load_s
    assert life.state == "failed"
    assert at > LIMITS.load_s
    assert step(life, Exited(at, "it was killed"))[0].exit == 1


def test_work_without_progress_is_killed_after_stall_s():
    life, actions = ready(*ticks(busy(1), 2.0, 5))
    assert (life.state, actions) == ("failed", (KILL,))
    assert "no progress for 10 s" in life.reason


def test_work_that_moves_is_left_alone():
    moving = [Ticked(2.0 + 3 * number, busy(number)) for number in range(50)]
    life, actions = ready(*moving)
    assert (life.state, actions) == ("ready", ())
    assert life.answered_at == moving[-1].at


def test_an_engine_that_says_nothing_of_its_load_is_killed_after_stall_s():
    life, actions = ready(*ticks(None, 2.0, 4))
    assert (life.state, actions) == ("failed", (KILL,))


def test_a_worker_that_was_stopped_for_an_hour_does_not_blame_the_engine():
    life, _ = ready(Ticked(2.0, busy(1)), Ticked(5.0, busy(1)), Ticked(3605.0, busy(1)))
    assert life.state == "ready"


def test_an_idle_engine_is_asked_for_a_token_every_probe_s():
    life, actions = ready(*ticks(IDLE, 2.0, 6))
    assert actions == ()
    life, actions = step(life, Ticked(22.0, IDLE))
    assert actions == (PROBE,)
    assert step(step(life, Answered(23.0))[0], Ticked(24.0, IDLE))[1] == ()


def test_an_engine_with_work_is_not_asked():
    moving = [Ticked(2.0 + 3 * number, busy(number)) for number in range(50)]
    life = Life(limits=LIMITS)
    for one in (Fetched(0.0), Answered(1.0), *moving):
        life, actions = step(life, one)
        assert PROBE not in actions


def test_an_idle_engine_that_does_not_answer_a_probe_is_killed_after_stall_s():
    life, _ = ready(*ticks(IDLE, 2.0, 30))
    assert life.state == "failed"


def test_a_ready_engine_serves_on_for_two_seconds_after_sigterm():
    life, actions = ready(Asked(10.0), *ticks(IDLE, 10.0, 4, every=0.5))
    assert (life.state, actions) == ("draining", ())
    life, actions = step(life, Ticked(12.0, IDLE))
    assert actions == (STOP,)
    assert life.patience_s == 28.0 + LIMITS.grace_s
    life, _ = step(life, Exited(12.5, "it exited with 0"))
    assert life.exit == 0


def test_a_draining_engine_is_left_its_work_until_drain_s():
    life, _ = ready(Asked(10.0))
    for number in range(59):
        life, actions = step(life, Ticked(10.5 + number / 2, busy(number)))
        assert actions == ()
    life, actions = step(life, Ticked(40.0, busy(99)))
    assert actions == (STOP,)


def test_one_idle_reading_is_not_enough():
    life, actions = ready(Asked(10.0), Ticked(13.0, IDLE))
    assert actions == ()
    life, actions = step(life, Ticked(13.5, busy(2)))
    life, actions = step(life, Ticked(14.0, IDLE))
    assert actions == ()
    assert step(life, Ticked(14.5, IDLE))[1] == (STOP,)


def test_a_planned_drain_whose_deadline_has_passed_ends_at_once():
    life, actions = ready(Asked(10.0), Told(10.1, deadline=4.0))
    assert (actions, life.patience_s) == ((STOP,), LIMITS.grace_s)


def test_a_planned_drain_ends_at_its_deadline():
    life, actions = ready(Asked(10.0), Told(10.1, deadline=20.0), Ticked(19.0, busy(1)))
    assert actions == ()
    assert step(life, Ticked(20.0, busy(2)))[1] == (STOP,)


def test_a_second_sigterm_kills():
    assert ready(Asked(10.0), Asked(11.0))[1] == (KILL,)
    stopping = ready(Asked(10.0), Told(10.1, deadline=4.0), Asked(12.0))
    assert stopping[1] == (KILL,)
    assert step(stopping[0], Exited(12.1, "it was killed"))[0].exit == 0


def test_sigterm_before_the_engine_is_the_end():
    life, _ = live(Asked(0.0))
    assert (life.exit, life.state) == (0, "draining")
    assert step(life, Fetched(1.0)) == (life, ())


def test_sigterm_while_it_loads_stops_the_engine():
    life, actions = live(Fetched(0.0), Asked(1.0))
    assert actions == (STOP,)
    assert step(life, Answered(1.5))[0].state == "draining"
    assert step(life, Exited(2.0, "it was ended"))[0].exit == 0


def test_a_failure_stays_one_when_somebody_asks_it_to_end():
    life, _ = ready(*ticks(busy(1), 2.0, 5), Asked(15.0), Exited(16.0, "it was killed"))
    assert (life.state, life.exit) == ("failed", 1)


def test_an_engine_that_dies_while_it_drains_does_not_make_the_end_a_failure():
    life, _ = ready(Asked(10.0), Exited(11.0, "it exited with 1"))
    assert life.exit == 0
    assert "it exited with 1" in life.reason


def test_a_worker_that_is_superseded_leaves():
    life, actions = ready(Superseded(10.0, term=7))
    assert actions == (STOP,)
    life, _ = step(life, Exited(11.0, "it exited with 0"))
    assert life.exit == 75
    assert "term 7" in life.reason
    assert live(Superseded(0.0, term=2))[0].exit == 75


seconds = st.floats(0.0, 20.0)
loads = st.none() | st.builds(Load, running=st.integers(0, 2), mark=st.tuples(st.floats(0, 3)))
sights = st.one_of(
    st.builds(Fetched, seconds),
    st.builds(Answered, seconds),
    st.builds(Missed, seconds),
    st.builds(Ticked, seconds, loads),
    st.builds(Ticked, seconds, loads),
    st.builds(Ticked, seconds, loads),
    st.builds(Exited, seconds, st.just("it exited with 1")),
    st.builds(Asked, seconds),
    st.builds(Told, seconds, st.floats(0.0, 400.0)),
    st.builds(Superseded, seconds, st.integers(2, 9)),
    st.builds(Refused, seconds, st.just(Problem(code="port_taken", message="taken"))),
)


@given(st.lists(sights, max_size=60))
def test_no_order_of_events_breaks_the_promises(events):
    """Never ready before a token, failed for ever, one engine, and nothing after the end."""
    life, now, starts, answered = Life(limits=LIMITS), 0.0, 0, False
    for event in events:
        now += event.at
        before = life
        life, actions = step(life, type(event)(now, *_rest(event)))
        starts += actions.count(START)
        answered = answered or (isinstance(event, Answered) and before.state == "loading")
        assert starts <= 1
        assert life.state != "ready" or answered
        assert before.state != "failed" or life.state == "failed"
        assert before.exit is None or (life == before and not actions)
        assert starts or not set(actions) & {STOP, KILL, PROBE}
        assert life.exit is None or life.exit in {0, 1, 3, 75}


@given(st.lists(sights, max_size=30), st.floats(0.05, 3.0))
def test_every_drain_ends_by_its_deadline(events, every):
    """Whatever came before and whatever the engine says: drain_s after SIGTERM it is stopped."""
    life, now = Life(limits=LIMITS), 0.0
    for event in events:
        now += event.at
        life, _ = step(life, type(event)(now, *_rest(event)))
    life, actions = step(life, Asked(now))
    ended, asked_at = bool(actions), now
    while not ended and life.exit is None and life.engine == "running":
        now += every
        life, actions = step(life, Ticked(now, busy(now)))
        ended = bool(set(actions) & {STOP, KILL})
        assert now <= asked_at + LIMITS.drain_s + every
    assert life.exit is not None or life.engine == "ending"


@given(st.lists(st.tuples(st.floats(0.01, 4.0), st.booleans()), max_size=200))
def test_only_an_engine_without_progress_is_killed(readings):
    """An engine whose work moves at least once in stall_s is never killed as hung."""
    life, now, moved_at, mark = ready()[0], 1.0, 1.0, 0.0
    for pause, moves in readings:
        now += pause
        if moves:
            mark, moved_at = mark + 1, now
        life, actions = step(life, Ticked(now, busy(mark)))
        if KILL in actions:
            assert now - moved_at > LIMITS.stall_s
            return


@pytest.mark.parametrize(
    ("seen", "pause"),
    [([], 3.0), ([Fetched(0.0)], 0.25), ([Fetched(0.0), Answered(1.0), Asked(2.0)], 0.5)],
)
def test_a_state_that_waits_for_something_is_looked_at_more_often(seen, pause):
    assert pause_s(live(*seen)[0]) == pause


def _rest(event):
    match event:
        case Ticked():
            return (event.load,)
        case Exited():
            return (event.words,)
        case Told():
            return (event.deadline,)
        case Superseded():
            return (event.term,)
        case Refused():
            return (event.problem,)
        case _:
            return ()
