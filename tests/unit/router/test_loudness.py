import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.loudness import Loudness

waits = st.lists(st.floats(min_value=0.0, max_value=2.0), max_size=200)


@given(waits, st.floats(min_value=0.5, max_value=50.0), st.integers(min_value=1, max_value=20))
def test_no_stretch_of_time_has_more_lines_than_burst_and_rate_allow(waits, rate_per_s, burst):
    loudness, now, written = Loudness(rate_per_s, burst), 1000.0, []
    for wait in waits:
        now += wait
        if loudness.take(now):
            written.append(now)

    for first, began in enumerate(written):
        for count, ended in enumerate(written[first:], start=1):
            assert count <= burst + rate_per_s * (ended - began) + 1e-6
    assert loudness.left_out == len(waits) - len(written)


def test_after_silence_a_burst_may_be_written_and_then_one_per_gap():
    loudness = Loudness(10.0, burst=3)

    at_once = [loudness.take(50.0) for _ in range(5)]
    later = [loudness.take(50.11), loudness.take(50.12), loudness.take(50.22)]
    rested = [loudness.take(100.0) for _ in range(5)]

    assert at_once == [True, True, True, False, False]
    assert later == [True, False, True]
    assert rested == at_once


def test_without_a_burst_one_seconds_lines_may_be_written_at_once():
    loudness = Loudness(20.0)

    assert sum(loudness.take(7.0) for _ in range(100)) == 20


def test_a_rate_of_zero_writes_nothing_and_counts_all():
    loudness = Loudness(0.0)

    assert not any(loudness.take(float(now)) for now in range(1000))
    assert loudness.left_out == 1000


@pytest.mark.parametrize("rounds", [1, 3])
def test_what_was_left_out_is_told_once_and_counted_for_ever(rounds):
    loudness = Loudness(0.0)
    for _ in range(rounds):
        loudness.take(1.0)
        loudness.take(1.0)
        assert (loudness.untold(), loudness.untold()) == (2, 0)

    assert loudness.left_out == 2 * rounds
