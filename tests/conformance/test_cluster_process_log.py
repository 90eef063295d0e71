"""The log of an instance: bounded, and read without gaps or repeats while it moves."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.errors import InvalidRequestError
from services.scheduler.adapters import process_log
from services.scheduler.adapters.process_log import Log


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path, limit_bytes=100)


def prints(folder, text):
    """Append as a worker does: by a descriptor that it keeps, and not through us."""
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_nothing_printed_is_no_lines(log):
    assert log.read("", ended=False).lines == []


def test_half_a_line_waits_for_its_end_unless_there_comes_none(tmp_path, log):
    prints(tmp_path, "one\ntw")
    assert log.read("", ended=False).lines == ["one"]
    assert log.read("", ended=True).lines == ["one", "tw"]


def test_a_worker_prints_on_into_a_log_that_moved(tmp_path, log):
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"a" * 99 + b"\n")
    log.rotate()
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"after\n"
    assert log.read("", ended=False).lines == ["a" * 99, "after"]


def test_two_parts_are_kept_and_no_more(tmp_path, log):
    for letter in "abcde":
        prints(tmp_path, letter * 149 + "\n")
        log.rotate()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 150
    assert log.read("", ended=False).lines == ["e" * 149]


def test_a_cursor_into_what_is_gone_goes_on_with_the_oldest_there_is(tmp_path, log):
    prints(tmp_path, "first\n")
    cursor = log.read("", ended=False).cursor
    for letter in "abc":
        prints(tmp_path, letter * 149 + "\n")
        log.rotate()
    assert log.read(cursor, ended=False).lines == ["c" * 149]


def test_an_endless_line_comes_in_pieces(tmp_path, monkeypatch, log):
    monkeypatch.setattr(process_log, "PIECE_BYTES", 10)
    prints(tmp_path, "x" * 25)
    first = log.read("0", ended=False)
    assert first.lines == ["x" * 10]
    assert log.read(first.cursor, ended=False).lines == ["x" * 10]


def test_what_is_no_utf_8_and_no_cursor(tmp_path, log):
    (tmp_path / "log").write_bytes(b"\xff\xfe broken\n")
    assert "broken" in log.read("", ended=False).lines[0]
    for cursor in ("-1", "yesterday", "9" * 40):
        with pytest.raises(InvalidRequestError, match="this cursor is none"):
            log.read(cursor, ended=False)


# Each piece ends the half line before it, and two of them fit into a part: who reads after each one
# never lags behind by a whole part.
piece = st.tuples(st.text("ab\n", max_size=10), st.text("ab\n", max_size=10)).map("\n".join)
texts = st.lists(piece, max_size=12)


@given(texts=texts, rotations=st.sets(st.integers(0, 11)))
def test_a_reader_that_keeps_up_gets_each_line_once_wherever_the_log_moves(
    texts, rotations, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("log")
    log = Log(folder, limit_bytes=40)
    cursor, lines = "0", []
    for number, text in enumerate(texts):
        prints(folder, text)
        if number in rotations:
            log.rotate()
        piece = log.read(cursor, ended=False)
        cursor, lines = piece.cursor, lines + piece.lines
    last = log.read(cursor, ended=True)
    wanted = "".join(texts).split("\n")
    assert lines + last.lines == (wanted if wanted[-1] else wanted[:-1])
