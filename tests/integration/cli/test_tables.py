"""Tables: nothing is cut while there is room, and no line is longer than the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from caravan.cli import tables

TITLES = ("NAME", "STATE", "SOURCE")
ROWS = [("demo", "running", "hf://owner/a-long-name"), ("a-longer-name", "failed", "file:///m")]


def rendered(width, rows=ROWS, titles=TITLES):
    return list(tables.render(titles, rows, width))


def test_without_a_width_every_cell_is_whole():
    assert rendered(None) == [
        "NAME           STATE    SOURCE",
        "demo           running  hf://owner/a-long-name",
        "a-longer-name  failed   file:///m",
    ]


def test_on_a_narrow_terminal_the_last_column_folds():
    assert rendered(36) == [
        "NAME           STATE    SOURCE",
        "demo           running  hf://owner/a",
        "                        -long-name",
        "a-longer-name  failed   file:///m",
    ]


def test_where_there_is_no_room_for_the_last_column_it_goes():
    assert rendered(30) == [
        "NAME           STATE",
        "demo           running",
        "a-longer-name  failed",
    ]


def test_wide_characters_count_twice():
    assert rendered(None, [("模型", "ok", "x")])[1] == "模型  ok     x"


@given(
    st.integers(40, 200),
    st.lists(
        st.tuples(st.text("ab-", max_size=12), st.text("xyz", max_size=10), st.text(max_size=80)),
        max_size=4,
    ),
)
def test_no_line_is_longer_than_the_terminal(width, rows):
    assert all(tables.size(line) <= width for line in rendered(width, rows))


def test_colours_do_not_move_columns():
    lines = tables.render(TITLES, ROWS, None, lambda _, shown: f"<{shown}>")

    assert [line.replace("<", "").replace(">", "") for line in lines] == rendered(None)
