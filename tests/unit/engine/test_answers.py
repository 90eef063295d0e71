"""A test knows beforehand what the fake says, and sees when a part of it is missing."""

import math

from hypothesis import given
from hypothesis import strategies as st

from caravan.testing.engine.answers import answer, is_whole, spoken, vector

words = st.lists(st.text("abcde", min_size=1), max_size=5).map(" ".join)


def test_an_answer_repeats_the_prompt_and_numbers_its_words():
    assert spoken("Say hello", 4) == "1/3:Say 2/3:hello 3/3:Say "
    assert spoken("Say hello", limit=2) == "1/2:Say 2/2:hello "
    assert spoken("", 3) == "1/2:nothing 2/2:nothing "


@given(words, st.integers(2, 40))
def test_a_whole_answer_is_known_by_its_text(prompt, tokens):
    assert is_whole(spoken(prompt, tokens))


@given(words, st.integers(3, 40), st.data())
def test_a_missing_word_shows(prompt, tokens, data):
    pieces = answer(prompt, tokens).pieces[:-1]
    lost = data.draw(st.integers(0, len(pieces) - 1))
    assert not is_whole("".join(pieces[:lost] + pieces[lost + 1 :]))


@given(words, st.integers(3, 40), st.data())
def test_a_repeated_word_shows(prompt, tokens, data):
    pieces = answer(prompt, tokens).pieces[:-1]
    twice = data.draw(st.integers(0, len(pieces) - 1))
    assert not is_whole("".join(pieces[: twice + 1] + pieces[twice:]))


def test_nothing_is_no_whole_answer():
    assert not is_whole("")


@given(words, st.integers(1, 40), st.integers(0, 40))
def test_no_answer_is_longer_than_asked(prompt, tokens, limit):
    found = answer(prompt, tokens, limit=limit)
    assert len(found.pieces) == min(tokens, limit)
    assert found.finish_reason == ("length" if limit < tokens else "stop")


def test_an_endless_answer_goes_on_to_its_limit():
    found = answer("a", 3, limit=9, endless=True)
    assert (len(found.pieces), found.finish_reason) == (9, "length")


@given(words, st.text("abc:/", min_size=1, max_size=3))
def test_a_stop_is_not_said(prompt, stop):
    whole, found = spoken(prompt), answer(prompt, stops=[stop])
    assert found.text == whole.partition(stop)[0]
    assert found.matched_stop == (stop if stop in whole else 258)


def test_vectors_are_of_length_one_and_differ_by_text():
    one, other = vector("one", 128), vector("other", 128)
    assert math.isclose(sum(number * number for number in one), 1.0)
    assert one == vector("one", 128)
    assert one != other
