"""Tables for a terminal of any width, without rich: ``caravan list`` has to be quick."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence

GAP = "  "
NARROWEST = 12
"""Columns that the folding column keeps; below that, columns at the right go."""

Paint = Callable[[str, str], str]
"""Takes a cell and the text that is shown of it, and returns that text with colours."""


def render(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    paint: Paint = lambda _, shown: shown,
) -> Iterator[str]:
    """Yield the lines of a table: the last column folds, and goes where there is no room for it.

    ``width`` None is endless. Every cell of the other columns is shown whole while the first
    two fit at all.
    """
    sizes = [max(map(size, column)) for column in zip(titles, *rows, strict=True)]
    kept, last = _fitting(sizes, width)
    sizes = [*sizes[: kept - 1], last]
    yield from _lines(titles[:kept], sizes, lambda _, shown: paint("title", shown))
    for row in rows:
        yield from _lines(row[:kept], sizes, paint)


def size(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_size(character) for character in text)


def _size(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(sizes: Sequence[int], width: int | None) -> tuple[int, int]:
    """Return how many columns are kept, and the size of the last one of them."""
    kept = len(sizes)
    if width is None:
        return kept, sizes[-1]
    while True:
        room = width - sum(sizes[: kept - 1]) - len(GAP) * (kept - 1)
        wanted = sizes[kept - 1]
        if wanted <= room or room >= NARROWEST or kept <= 2:
            return kept, max(1, min(wanted, room))
        kept -= 1


def _lines(cells: Sequence[str], sizes: Sequence[int], paint: Paint) -> Iterator[str]:
    pieces = _fold(cells[-1], sizes[-1])
    for number, piece in enumerate(pieces):
        shown = [*(cells[:-1] if number == 0 else [""] * (len(cells) - 1)), piece]
        padded = [
            paint(cell, text) + " " * max(0, width - size(text))
            for cell, text, width in zip(cells, shown, sizes, strict=True)
        ]
        yield GAP.join(padded).rstrip()


def _fold(text: str, width: int) -> list[str]:
    lines, line, used = [], "", 0
    for character in text:
        needs = _size(character)
        if used + needs > width and line:
            head, _, tail = line.rpartition(" ") if character != " " else (line, "", "")
            lines.append(head or line)
            line = tail if head else ""
            used = size(line)
            if character == " " and not line:
                continue
        line, used = line + character, used + needs
    return [*lines, line]
