"""When an instance is used last, and when it is well again."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from caravan.contracts.reports import InstanceUse
from services.router.core.outliers import (
    CONNECTIONS_IN_A_ROW,
    FAILURES_IN_A_ROW,
    GOOD_WHILE_S,
    LONGEST_S,
    NEWS_KEPT,
    Outliers,
    Seen,
    is_failure,
    noted,
)

ONE, OTHER = "u-0123456789ab.test.i-aaaaaa", "u-0123456789ab.test.i-bbbbbb"


def refuse(outliers, times, now=100.0, instance=ONE):
    return [outliers.failed(instance, now, connection=True, why="refused") for _ in range(times)]


def ejected(now=100.0):
    outliers = Outliers()
    refuse(outliers, CONNECTIONS_IN_A_ROW, now)
    return outliers


def test_the_third_failure_in_a_row_to_connect_ejects_at_once():
    outliers = Outliers()
    assert refuse(outliers, 3) == [False, False, True]
    assert outliers.ejected(ONE)
    assert not outliers.ejected(OTHER)
    assert outliers.ejections == 1


def test_five_failures_in_a_row_eject_where_the_connection_stood():
    outliers = Outliers()
    assert [outliers.failed(ONE, 100.0) for _ in range(5)] == [False] * 4 + [True]


def test_a_broken_answer_ends_the_row_of_connections_and_not_that_of_failures():
    outliers = Outliers()
    refuse(outliers, 2)
    assert not outliers.failed(ONE, 100.0)
    assert refuse(outliers, 2) == [False, True]  # the fifth of any kind


def test_a_good_answer_ends_the_row():
    outliers = Outliers()
    refuse(outliers, 2)
    assert not outliers.good(ONE)  # it was not ejected: nothing heals
    assert refuse(outliers, 2) == [False, False]
    assert not outliers.good(OTHER)


def test_only_500_502_504_are_held_against_an_engine():
    assert {status for status in range(100, 600) if is_failure(status)} == {500, 502, 504}


def test_an_ejected_one_is_due_after_a_second_and_healed_by_a_good_probe():
    outliers = ejected(100.0)
    assert outliers.due(100.9) == []
    assert outliers.due(101.0) == [ONE]
    outliers.probed(ONE, ok=True, now=101.1)
    assert not outliers.ejected(ONE)
    assert outliers.due(200.0) == []
    assert outliers.seen() == {}


def test_a_good_answer_heals_before_any_probe():
    outliers = ejected()
    assert outliers.good(ONE)
    assert not outliers.ejected(ONE)


def test_bad_probes_double_the_ejection_up_to_half_a_minute():
    outliers, now, waits = ejected(0.0), 0.0, []
    for _ in range(8):
        due = next(t / 2 for t in range(int(now * 2), 10_000) if outliers.due(t / 2))
        waits.append(due - now)
        now = due
        outliers.probed(ONE, ok=False, now=now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert outliers.ejections == 1


def test_what_fails_again_after_a_good_probe_is_ejected_for_longer():
    """An engine whose /health is well while its requests fail must not take a share each second."""
    outliers = ejected(0.0)
    outliers.probed(ONE, ok=True, now=1.0)
    refuse(outliers, 3, 2.0)
    assert outliers.due(3.9) == []
    assert outliers.due(4.0) == [ONE]


def test_a_good_minute_makes_the_next_ejection_short_again():
    outliers = ejected(0.0)
    outliers.probed(ONE, ok=True, now=1.0)
    refuse(outliers, 3, 1.0 + GOOD_WHILE_S)
    assert outliers.due(2.0 + GOOD_WHILE_S) == [ONE]


def test_failures_of_an_ejected_one_do_not_extend_its_ejection():
    """Requests under way may end by the dozen; it is the probe that says how it is."""
    outliers = ejected(100.0)
    assert not any(refuse(outliers, 50, 100.9))
    assert outliers.due(101.0) == [ONE]
    assert outliers.ejections == 1


def test_a_probe_that_comes_after_a_good_answer_changes_nothing():
    outliers = ejected()
    outliers.good(ONE)
    outliers.probed(ONE, ok=False, now=102.0)
    assert not outliers.ejected(ONE)


def test_those_that_wait_longest_are_probed_first():
    outliers = Outliers()
    refuse(outliers, 3, 5.0, OTHER)
    refuse(outliers, 3, 6.0, ONE)
    assert outliers.due(60.0) == [OTHER, ONE]


def test_what_is_forgotten_begins_anew():
    outliers = ejected(0.0)
    outliers.forget(ONE)
    assert not outliers.ejected(ONE)
    assert refuse(outliers, 3, 1.0) == [False, False, True]
    assert outliers.due(2.0) == [ONE]  # not 2 s, though the last ejection was just now


def test_each_ejection_and_healing_is_news_once():
    outliers = ejected()
    assert [(n.instance, n.ejected, n.why, n.for_s) for n in outliers.news()] == [
        (ONE, True, "refused", 1.0)
    ]
    assert outliers.news() == []
    outliers.good(ONE)
    assert [(n.ejected, n.why) for n in outliers.news()] == [(False, "it answered a request")]


def test_news_that_nobody_reads_do_not_pile_up():
    outliers = Outliers()
    for _ in range(NEWS_KEPT):
        refuse(outliers, 3)
        outliers.good(ONE)
    assert len(outliers.news()) == NEWS_KEPT


def test_nothing_is_kept_of_those_that_are_well_for_a_minute():
    outliers = Outliers()
    for number in range(100):
        refuse(outliers, 3, 0.0, f"i-{number}")
        outliers.probed(f"i-{number}", ok=True, now=1.0)
    outliers.due(1.0 + GOOD_WHILE_S)
    assert (outliers._held, outliers._past) == ({}, {})


def test_a_report_tells_what_is_held_beside_what_was_seen():
    outliers = ejected()
    outliers.failed(OTHER, 100.0)
    assert outliers.seen() == {
        ONE: Seen(ejected=True, failures=3),
        OTHER: Seen(ejected=False, failures=1),
    }
    told = noted({ONE: InstanceUse(in_flight=2, last_error="refused")}, outliers.seen())
    assert told == {
        ONE: InstanceUse(in_flight=2, last_error="refused", ejected=True, failures=3),
        OTHER: InstanceUse(failures=1),
    }


class Histories(RuleBasedStateMachine):
    """Any history of answers and probes, judged by counts that the test keeps itself."""

    @initialize()
    def begin(self):
        self.outliers, self.now = Outliers(), 0.0
        self.row = dict.fromkeys((ONE, OTHER), 0)
        self.refusals = dict.fromkeys((ONE, OTHER), 0)
        self.out: dict[str, float] = {}  # since when the ejected ones are, probes included

    instances = st.sampled_from((ONE, OTHER))

    @rule(seconds=st.floats(0.1, 40.0))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(instance=instances, status=st.sampled_from((400, 401, 404, 413, 422, 429, 503)))
    def says_no(self, instance, status):
        """As an exchange takes it: held against the engine only if it is a failure."""
        if is_failure(status):
            self.outliers.failed(instance, self.now)

    @rule(instance=instances, connection=st.booleans())
    def fails(self, instance, connection):
        self.row[instance] += 1
        self.refusals[instance] = self.refusals[instance] + 1 if connection else 0
        enough = (
            self.row[instance] >= FAILURES_IN_A_ROW
            or self.refusals[instance] >= CONNECTIONS_IN_A_ROW
        )
        told = self.outliers.failed(instance, self.now, connection=connection)
        assert told == (enough and instance not in self.out)
        if told:
            self.out[instance] = self.now

    @rule(instance=instances)
    def answers(self, instance):
        assert self.outliers.good(instance) == (instance in self.out)
        self._well(instance)

    @precondition(lambda self: self.outliers.due(self.now))
    @rule(ok=st.booleans())
    def is_probed(self, ok):
        instance = self.outliers.due(self.now)[0]
        self.outliers.probed(instance, ok, self.now)
        if ok:
            self._well(instance)
        else:
            self.out[instance] = self.now

    @rule(instance=instances)
    def is_gone(self, instance):
        self.outliers.forget(instance)
        self._well(instance)

    def _well(self, instance):
        self.row[instance] = self.refusals[instance] = 0
        self.out.pop(instance, None)

    @invariant()
    def ejected_are_those_that_failed_too_often_and_no_others(self):
        for instance in (ONE, OTHER):
            assert self.outliers.ejected(instance) == (instance in self.out)

    @invariant()
    def whatever_is_ejected_is_due_within_half_a_minute(self):
        for instance, since in self.out.items():
            assert instance in self.outliers.due(since + LONGEST_S)

    @invariant()
    def reports_say_the_same(self):
        assert {i: s.failures for i, s in self.outliers.seen().items()} == {
            i: row for i, row in self.row.items() if row
        }


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
