import gzip
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import asked
from services.router.core.errors import BadRequestError, BodyTooLargeError
from services.router.core.lookups import (
    ADDRESSES,
    LOOK_UPS,
    NAMES,
    WINDOW_S,
    LatelyMissing,
    LookUpBound,
)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused_never_more(raw):
    try:
        assert asked.read(raw)[0]
    except BadRequestError as refusal:
        assert refusal.status == 400  # noqa: PT017 - either outcome is right


def test_deep_nesting_is_refused_or_read_but_ends_nothing():
    for depth in (100, 100_000):
        raw = b'{"model":"x","deep":' + b"[" * depth + b"]" * depth + b"}"
        try:
            assert asked.read(raw)[0] == "x"
        except BadRequestError as refusal:
            assert depth > 100, refusal  # noqa: PT017 - either outcome is right


@given(st.booleans(), st.sampled_from([None, {}, {"include_usage": True}, {"other": 1}]))
def test_the_three_fields_are_read_and_others_are_not_looked_at(stream, options):
    raw = msgspec.json.encode(
        {"model": "m", "stream": stream, "stream_options": options, "new_field": {"a": [1]}}
    )
    shown = bool(options and options.get("include_usage"))

    model, found = asked.read(raw)

    assert (model, found.stream, found.shows_usage()) == ("m", stream, shown)


PARTS = st.sampled_from(
    ['"', "\\", "\\" * 63, "\\" * 64, "\n", "é", "x" * 5000, "A" * 200_000, '","model":"other"']
)


@given(
    st.lists(st.lists(PARTS, max_size=6).map("".join), max_size=4),
    st.sampled_from(["m", "", "x" * 5000, None, 5]),
    st.booleans(),
)
def test_a_large_body_is_read_as_a_small_one_is_whatever_its_strings_hold(texts, model, first):
    content = [{"type": "text", "text": text} for text in [*texts, "A" * asked.LARGE]]
    fields = {"model": model, "messages": [{"content": content}], "stream": True}
    raw = msgspec.json.encode(fields if first else dict(reversed(fields.items())))
    small = msgspec.json.encode({"model": model, "stream": True})

    assert outcome(raw) == outcome(small)


def outcome(raw):
    try:
        return asked.read(raw)
    except BadRequestError as refusal:
        return refusal.problem.message


def test_a_large_body_that_is_no_json_is_refused_with_its_own_place():
    raw = b'{"model":"m","image":"%b","stream":tru}' % (b"A" * asked.LARGE)

    with pytest.raises(BadRequestError, match=rf"\(byte {len(raw)}\)"):
        asked.read(raw)


@pytest.mark.parametrize("inside", ['a "word"', "\\", '\\"', "\\" * 31, "\\" * 31 + '"'])
def test_a_long_string_is_left_out_to_its_very_end(inside):
    raw = msgspec.json.encode({"text": inside + "A" * 2**18 + inside, "model": "m"})

    assert asked.without_long_strings(raw) == b'{"text":"","model":"m"}'


@pytest.mark.parametrize("inside", ["\\" * 32, "\\" * 32 + '"', "\\" * 33 + '"'])
def test_where_a_string_ends_is_not_guessed(inside):
    raw = msgspec.json.encode({"text": "A" * 2**18 + inside, "model": "m"})

    assert asked.without_long_strings(raw) is raw


def test_of_a_body_with_a_picture_little_is_left_to_read_and_of_a_text_all():
    picture = msgspec.json.encode({"model": "m", "image": "A" * 2**20, "stream": True})
    code = msgspec.json.encode({"model": "m", "text": 'say("no")\n' * 2**16})

    assert asked.without_long_strings(picture) == b'{"model":"m","image":"","stream":true}'
    assert asked.without_long_strings(code) is code


@given(st.binary(max_size=500), st.binary(max_size=50), st.lists(st.integers(0, 600), max_size=8))
def test_gzip_in_pieces_of_any_size_even_of_several_members_expands(first, second, cuts):
    packed = gzip.compress(first) + gzip.compress(second)
    collector = asked.collector("gzip", 10_000)
    places = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    for a, b in itertools.pairwise(places):
        collector.feed(packed[a:b])

    assert collector.end() == first + second


@given(st.integers(0, 300), st.sampled_from(["gzip", "identity", None]))
def test_the_limit_is_met_exactly(size, encoding):
    raw = b"x" * size
    collector = asked.collector(encoding, 150)
    packed = gzip.compress(raw) if encoding == "gzip" else raw
    if size <= 150:
        collector.feed(packed)
        assert collector.end() == raw
    else:
        with pytest.raises(BodyTooLargeError):
            collector.feed(packed)


@pytest.mark.parametrize(
    ("header", "refused"),
    [(b"150", False), (b"151", True), (b"9" * 30, True)],
)
def test_a_declared_length_is_refused_only_above_the_limit(header, refused):
    if refused:
        with pytest.raises(BodyTooLargeError):
            asked.declared_length(header, 150)
    else:
        asked.declared_length(header, 150)


def test_look_ups_are_bounded_per_address_and_come_back():
    bound = LookUpBound()
    took = [bound.take("a", 0.0) for _ in range(int(LOOK_UPS) + 5)]

    assert took == [True] * int(LOOK_UPS) + [False] * 5
    assert bound.take("b", 0.0)
    assert bound.take("a", 0.6)
    assert not bound.take("a", 0.6)


def test_addresses_that_were_quiet_longest_are_forgotten():
    bound = LookUpBound()
    for n in range(ADDRESSES + 10):
        bound.take(str(n), 0.0)

    assert len(bound._left) == ADDRESSES


def test_what_was_missing_is_known_to_be_so_for_a_while():
    missing = LatelyMissing()
    missing.note("a", 5.0)

    assert missing.has("a", 5.0)
    assert missing.has("a", 4.9 + WINDOW_S)
    assert not missing.has("a", 5.0 + WINDOW_S)
    assert not missing.has("b", 5.0)
    assert not missing.has("b", 0.0)


def test_what_is_missing_again_is_so_from_then_on_and_what_was_found_is_not():
    missing = LatelyMissing()
    missing.note("a", 0.0)
    missing.note("a", WINDOW_S)
    assert missing.has("a", WINDOW_S + 1.0)

    missing.forget("a")
    missing.forget("b")
    assert not missing.has("a", WINDOW_S + 1.0)


def test_names_that_were_missing_longest_ago_are_forgotten():
    missing = LatelyMissing()
    for n in range(NAMES):
        missing.note(str(n), 0.0)
    missing.note("0", 1.0)
    missing.note("last", 1.0)

    assert missing.has("0", 1.0)
    assert not missing.has("1", 1.0)
    assert missing.has("2", 1.0)
