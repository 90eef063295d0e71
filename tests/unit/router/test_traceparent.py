import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import traceparent
from services.router.core.traceparent import Span

spans = st.builds(
    Span,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    sampled=st.booleans(),
)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(spans)
def test_what_is_written_is_read_again(span):
    assert traceparent.read(traceparent.write(span)) == span


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)]
)
def test_one_bit_of_the_flags_says_whether_to_record(flags, sampled):
    assert traceparent.read(f"00-{TRACE}-{SPAN}-{flags}") == Span(
        0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, sampled
    )


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"0g-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_not_well_formed_names_nothing(given):
    assert traceparent.read(given) is None


def test_a_later_version_may_say_more():
    assert traceparent.read(f"cc-{TRACE}-{SPAN}-01-what-else") == traceparent.read(
        f"00-{TRACE}-{SPAN}-01"
    )


@given(spans, st.integers(1, 2**64 - 1))
def test_a_span_below_another_stays_in_its_trace_and_keeps_its_word(parent, span_id):
    assert traceparent.below(parent, span_id) == Span(parent.trace_id, span_id, parent.sampled)


@given(st.integers(1, 2**128 - 1))
def test_of_new_traces_all_or_none_are_recorded_at_the_ends_of_the_scale(trace_id):
    assert traceparent.begun(trace_id, 1, 1.0).sampled
    assert not traceparent.begun(trace_id, 1, 0.0).sampled


@pytest.mark.parametrize("high", [1, 2**64 - 1])
@pytest.mark.parametrize(
    ("low", "sampled"), [(0, True), (2**62 - 1, True), (2**62, False), (2**64 - 1, False)]
)
def test_a_quarter_is_the_lowest_quarter_of_the_ids(high, low, sampled):
    assert traceparent.begun((high << 64) | low, 1, 0.25).sampled == sampled
