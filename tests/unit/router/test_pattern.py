"""Heads that are known by their bytes: which ones, and how many."""

import pytest

from services.router.core.pattern import KNOWN, LONGEST, Known


def head(length=b"12", *, key=b"sk-1", more=b""):
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n"
        b"Content-Length: %b\r\naccept: */*\r\n%b\r\n" % (key, length, more)
    )


@pytest.mark.parametrize("length", [b"0", b"7", b"12", b"123456789012345"])
def test_a_head_is_known_again_whatever_the_length_of_its_body(length):
    known = Known()
    added = known.add(head() + b"x" * 12, "said")

    found = known.find(head(length) + b"{}")
    assert found is added
    pattern, said = found
    assert said == "said"
    assert pattern.fit(head(length) + b"{}") == (int(length), len(head(length)))


@pytest.mark.parametrize(
    "other",
    [
        head(key=b"sk-2"),
        head(more=b"expect: 100-continue\r\n"),
        head().replace(b"chat/", b""),
        head().replace(b"POST", b"post"),
        head(b"1234567890123456"),
        head(b"-1"),
        head(b"1 2"),
        head()[:-2],
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_another_head_is_not_known(other):
    known = Known()
    known.add(head(), "said")

    assert known.find(other) is None


def test_the_first_that_was_said_of_a_head_is_kept():
    known = Known()
    first = known.add(head(b"5"), "first")

    assert known.add(head(b"77"), "second") is first
    assert known.find(head())[1] == "first"


@pytest.mark.parametrize(
    "odd", [b"POST / HTTP/1.1\r\nhost: a\r\n\r\n", head(more=b"x: %b\r\n" % (b"y" * LONGEST))]
)
def test_a_head_without_a_length_or_a_very_long_one_is_not_remembered(odd):
    known = Known()

    assert known.add(odd, "said") is None
    assert known.find(odd) is None


def test_the_oldest_goes_when_there_are_many():
    known = Known()
    for number in range(KNOWN + 1):
        known.add(head(key=b"sk-%d" % number), number)

    found = [known.find(head(key=b"sk-%d" % number)) for number in range(KNOWN + 1)]
    assert found[0] is None
    assert [said for _, said in found[1:]] == list(range(1, KNOWN + 1))
