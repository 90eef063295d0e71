"""When the routers have let go of an instance: a story of reports, told second by second."""

from caravan.contracts.reports import DeploymentUse, InstanceUse, Position, Report
from services.scheduler.core.routers import Ejection, Routers, Written

KEY = "u-0123456789ab.test.i-aaaaaa"
VERDICT = Written("monday", 10)


def report(run="r1", *, at=9, stream="monday", busy=0, leaving=False, **use):
    return Report(
        run=run,
        number=1,
        at=0.0,
        positions={"deployments": Position(created=stream, sequence=at)},
        deployments={"u-0123456789ab.test": DeploymentUse(running=busy)},
        instances={KEY: InstanceUse(in_flight=busy, **use)},
        leaving=leaving,
    )


def listening(*reports):
    """Return routers that have been heard for long; now is 100."""
    routers = Routers(0.0)
    for one in reports:
        routers.heard(one, 100.0)
    return routers


def test_it_is_quiet_2_s_after_all_have_obeyed_and_have_nothing_there():
    routers = listening(report("r1"), report("r2"))
    routers.drain(KEY, VERDICT, 100.0)
    routers.heard(report("r1", at=10, busy=2), 101.0)
    routers.heard(report("r2", at=11), 101.0)
    assert routers.quiet_since(KEY, 101.5) is None  # r1 still has two there
    routers.heard(report("r1", at=10), 102.0)
    routers.heard(report("r2", at=11), 102.0)
    assert routers.quiet_since(KEY, 103.9) is None
    routers.heard(report("r1", at=10), 103.9)
    routers.heard(report("r2", at=11), 103.9)
    assert routers.quiet_since(KEY, 104.0) == 102.0


def test_one_request_begins_the_2_s_anew():
    routers = listening(report(at=10))
    routers.drain(KEY, VERDICT, 100.0)
    routers.heard(report(at=10, busy=1), 101.0)
    routers.heard(report(at=10), 101.5)
    assert routers.quiet_since(KEY, 102.1) is None
    assert routers.quiet_since(KEY, 103.5) == 101.5


def test_a_router_that_has_not_read_the_verdict_may_still_send_requests():
    routers = listening(report("r1", at=10), report("r2", at=9))
    routers.drain(KEY, VERDICT, 100.0)
    for second in range(101, 110):
        routers.heard(report("r1", at=10), float(second))
        routers.heard(report("r2", at=9), float(second))
    assert routers.quiet_since(KEY, 109.5) is None


def test_a_position_in_another_stream_proves_nothing():
    routers = listening(report(at=99, stream="tuesday"))
    routers.drain(KEY, VERDICT, 100.0)
    for second in range(101, 106):
        routers.heard(report(at=99, stream="tuesday"), float(second))
    assert routers.quiet_since(KEY, 105.5) is None


def test_a_router_that_reported_longer_than_3_s_ago_is_counted_no_more():
    routers = listening(report(at=9, busy=5))
    routers.drain(KEY, VERDICT, 100.0)
    assert routers.quiet_since(KEY, 102.9) is None
    assert routers.quiet_since(KEY, 103.1) is None
    assert routers.quiet_since(KEY, 105.2) == 103.1


def test_a_router_that_leaves_is_counted_no_more_at_once():
    routers = listening(report(at=9, busy=5))
    routers.drain(KEY, VERDICT, 100.0)
    routers.heard(report(at=9, leaving=True), 101.0)
    assert routers.quiet_since(KEY, 103.0) == 101.0


def test_who_is_live_is_known_after_5_s_of_listening():
    routers = Routers(100.0)
    routers.drain(KEY, VERDICT, 100.0)
    assert routers.quiet_since(KEY, 104.9) is None
    assert routers.quiet_since(KEY, 105.0) is None
    assert routers.quiet_since(KEY, 107.0) == 105.0


def test_a_lost_connection_begins_the_listening_anew():
    routers = listening(report(at=10))
    routers.drain(KEY, VERDICT, 100.0)
    routers.listening(101.0)
    assert routers.quiet_since(KEY, 105.9) is None
    assert routers.quiet_since(KEY, 106.0) is None
    assert routers.quiet_since(KEY, 108.0) == 106.0


def test_the_first_position_of_a_verdict_is_kept_within_a_stream():
    """The entry is written again for other reasons; nobody has to obey twice."""
    routers = listening(report(at=10))
    routers.drain(KEY, VERDICT, 100.0)
    routers.drain(KEY, Written("monday", 50), 101.0)
    assert routers.quiet_since(KEY, 102.5) == 100.0


def test_in_a_stream_that_was_made_anew_the_verdict_has_a_new_position():
    routers = listening(report(at=10))
    routers.drain(KEY, VERDICT, 100.0)
    routers.drain(KEY, Written("tuesday", 1), 101.0)
    assert routers.quiet_since(KEY, 102.9) is None


def test_what_is_in_flight_is_the_sum_over_live_routers():
    routers = listening(report("r1", busy=2), report("r2", busy=3))
    assert routers.in_flight(KEY, 102.0) == 5
    assert routers.in_flight(KEY, 103.5) == 0


def test_the_outcome_is_the_newest_that_any_router_had():
    routers = listening(
        report("r1", last_answer_at=50.0),
        report("r2", last_answer_at=10.0, last_error_at=60.0, last_error="refused"),
        report("r3"),
    )
    outcome = routers.outcome(KEY)
    assert outcome is not None
    assert outcome.last_error == "refused"
    assert routers.outcome("u-0123456789ab.test.i-bbbbbb") is None


def test_an_ejection_counts_the_live_routers_and_tells_the_newest_error():
    routers = listening(
        report("r1", ejected=True, last_error_at=50.0, last_error="reset"),
        report("r2", ejected=True, last_error_at=60.0, last_error="refused"),
        report("r3", last_error_at=70.0, last_error="full"),
    )
    assert routers.ejection(KEY, 101.0) == Ejection(
        by=2, of=3, last_error="refused", last_error_at=60.0
    )
    assert routers.ejection("u-0123456789ab.test.i-bbbbbb", 101.0) is None


def test_a_router_that_is_live_no_longer_ejects_nothing():
    routers = listening(report("r1", ejected=True), report("r2"))
    routers.heard(report("r2"), 104.0)
    assert routers.ejection(KEY, 104.0) is None


def test_a_router_that_has_nothing_to_say_of_the_instance_counts_among_all():
    routers = listening(report("r1", ejected=True), Report(run="r2", number=1, at=0.0))
    ejection = routers.ejection(KEY, 101.0)
    assert ejection is not None
    assert (ejection.by, ejection.of) == (1, 2)
