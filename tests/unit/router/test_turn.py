"""What one turn of the loop brings: taken in order, written after all was taken, nothing lost."""

import pytest

from services.router.core.turn import ALONE, AT_ONCE, LARGE, Turn


class Loop:
    """Calls later what it is asked to call soon."""

    def __init__(self):
        self.soon = []

    def call_soon(self, work):
        self.soon.append(work)

    def turn(self):
        """Go round once."""
        work, self.soon = self.soon, []
        for one in work:
            one()


class Wire:
    """A transport, and who takes what it received: answers each piece at once."""

    def __init__(self, turn, told, name):
        self.turn, self.told, self.name, self.closed = turn, told, name, False

    def take(self, data):
        self.told.append(f"{self.name} takes {data.decode()}")
        self.turn.write(self, data.upper())

    def is_closing(self):
        return self.closed

    def write(self, data):
        self.told.append(f"{self.name} writes {data.decode()}")


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def turn(loop):
    return Turn(loop.call_soon)


@pytest.fixture
def told():
    return []


@pytest.fixture
def wires(turn, told):
    return [Wire(turn, told, name) for name in "ab"]


def test_all_is_taken_before_anything_is_written_and_both_in_order(loop, turn, told, wires):
    a, b = wires
    turn.write(a, b"0")
    turn.came(a, b"x")
    turn.came(b, b"y")
    turn.came(a, b"z")
    assert told == []

    loop.turn()

    assert told[:3] == ["a takes x", "b takes y", "a takes z"]
    assert told[3:] == ["a writes 0", "a writes X", "b writes Y", "a writes Z"]
    assert (turn.due, loop.soon) == (False, [])


def test_in_a_crowd_every_write_waits_and_a_turn_is_asked_for_once(loop, turn, told, wires):
    a, b = wires
    for _ in range(ALONE + 1):
        turn.write(a, b"0")
        turn.write(b, b"1")
        turn.came(b, b"x")
        assert (turn.due, len(loop.soon)) == (True, 1)
        assert told == []
        loop.turn()
        assert len(told) == 4
        told.clear()


def test_after_a_turn_with_nobody_else_the_next_writes_wait_for_none(loop, turn, told, wires):
    a, b = wires
    turn.write(a, b"0")
    loop.turn()
    told.clear()
    b.closed = True
    for number in range(ALONE):
        turn.write(b if number % 2 else a, b"1")
        assert not turn.due
    assert told == ["a writes 1"] * (ALONE // 2)

    turn.write(a, b"2")  # one waits again, to see whether others come
    turn.came(a, b"x")
    assert told == ["a writes 1"] * (ALONE // 2)
    loop.turn()
    assert told[-3:] == ["a takes x", "a writes 2", "a writes X"]


def test_nothing_overtakes_what_waits(loop, turn, told, wires):
    a, _ = wires
    turn.write(a, b"0")
    loop.turn()
    turn.begin()  # though the next write would have waited for none
    turn.came(a, b"x")
    turn.write(a, b"1")
    assert told == ["a writes 0"]
    loop.turn()
    assert told == ["a writes 0", "a takes x", "a writes 1", "a writes X"]


def test_what_is_written_outside_of_a_turn_is_written_soon(loop, turn, told, wires):
    turn.write(wires[0], b"0")
    assert told == []
    loop.turn()
    assert told == ["a writes 0"]


def test_what_waits_is_written_before_something_is_closed(turn, told, wires):
    a, b = wires
    turn.write(a, b"0")
    turn.write(b, b"1")
    turn.flush()
    assert told == ["a writes 0", "b writes 1"]


def test_what_is_closed_meanwhile_is_not_written_to(loop, turn, told, wires):
    a, b = wires
    turn.write(a, b"0")
    turn.write(b, b"1")
    a.closed = True
    loop.turn()
    assert told == ["b writes 1"]


def test_a_large_piece_waits_for_no_turn_and_overtakes_none(loop, turn, told, wires):
    a, _ = wires
    turn.write(a, b"0")
    turn.came(a, b"x")
    turn.came(a, b"y" * (LARGE - 1))
    assert told == []
    turn.came(a, b"z" * LARGE)

    assert [line[:9] for line in told[:3]] == ["a takes x", "a takes y", "a takes z"]
    assert [line[:10] for line in told[3:]] == [f"a writes {c}" for c in "0XYZ"]

    told.clear()
    loop.turn()  # it was asked for; there is nothing left
    assert told == []


def test_a_turn_that_brings_too_much_is_worked_on_in_between(turn, told, wires):
    a, b = wires
    turn.write(a, b"0")
    for _ in range(AT_ONCE - 1):
        turn.came(a, b"x")
    assert told == []
    turn.came(b, b"y")
    assert len(told) == 2 * AT_ONCE + 1
    assert not turn.due


@pytest.mark.parametrize("before", [b"", b"x"], ids=["nothing before it", "something before it"])
def test_a_defect_in_one_keeps_nothing_from_the_others(loop, turn, told, wires, before):
    a, b = wires

    class Defect:
        def take(self, _data):
            raise RuntimeError("a defect")

    turn.begin()
    if before:
        turn.came(a, before)
    turn.came(Defect(), b"")
    turn.came(b, b"y")
    with pytest.raises(RuntimeError, match="a defect"):
        loop.turn()
    assert turn.due

    loop.turn()

    others = ["b takes y", "b writes Y"]
    assert told == (["a takes x", "b takes y", "a writes X", "b writes Y"] if before else others)
    assert (turn.due, loop.soon) == (False, [])


def test_a_write_that_fails_keeps_nothing_from_the_others(loop, turn, told, wires):
    a, b = wires

    class Broken(Wire):
        def write(self, _data):
            raise RuntimeError("it is closed")

    turn.write(Broken(turn, told, "c"), b"0")
    turn.write(a, b"1")
    turn.write(b, b"2")
    with pytest.raises(RuntimeError, match="it is closed"):
        loop.turn()
    loop.turn()
    assert told == ["a writes 1", "b writes 2"]


def test_without_a_loop_nothing_waits(told):
    turn = Turn()
    a = Wire(turn, told, "a")
    a.take(b"x")
    assert told == ["a takes x", "a writes X"]
    assert not turn.due
