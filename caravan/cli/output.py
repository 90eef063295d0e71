"""Where a command's words go: results to stdout, progress and problems to stderr, JSON if asked."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from caravan.cli import tables
from caravan.contracts.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {
    **dict.fromkeys(("running", "ready", "serve", "active", "ok"), "green"),
    **dict.fromkeys(("failed", "revoked", "stopped here", "gone", "dead"), "red"),
    **dict.fromkeys(("pending", "starting", "loading", "degraded", "updating"), "yellow"),
    **dict.fromkeys(("stopping", "deleting", "draining", "suspect", "waiting"), "yellow"),
}
"""Colours of states; a word not known here has none."""
_CODES = {"bold": "1", "green": "32", "red": "31", "yellow": "33"}


Say = Callable[[str], None]
"""Takes one line of progress."""


class Output:
    """Writes what a command has to say, for people or (``as_json``) for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> "Console":
        """The terminal that stdout is; made when first needed, as rich takes time to import."""
        if self._console is None:
            self._console = _console(stderr=False)
        return self._console

    def document(self, value: object) -> None:
        """Write one JSON document."""
        data = msgspec.json.format(msgspec.json.encode(value), indent=2)
        sys.stdout.write(data.decode() + "\n")

    def row(self, value: object) -> None:
        """Write one JSON line, at once."""
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        """Write one line as it is: neither folded nor coloured, so that it can be pasted."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table; on a narrow terminal its last column folds, or goes."""
        tty = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if tty else None
        paint = _painted if tty and "NO_COLOR" not in os.environ else lambda _, shown: shown
        for line in tables.render(titles, rows, width, paint):
            self.line(line)

    def heading(self, text: str) -> None:
        """Write a heading with an empty line before it."""
        if not sys.stdout.isatty():
            self.line(f"\n{text}")
            return
        from rich.text import Text  # noqa: PLC0415

        self.console.print()
        self.console.print(Text(text, style="bold"))

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write names and values, one pair a line; long values fold beside their names."""
        if not sys.stdout.isatty():
            longest = max(len(name) for name, _ in rows)
            for name, value in rows:
                self.line(f"{name:<{longest}}  {value}")
            return
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value, style=STYLES.get(value, "")))
        self.console.print(table)

    def paragraph(self, text: str, state: str = "") -> None:
        """Write a line that may fold between words, with a mark in the colour of ``state``."""
        if not sys.stdout.isatty():
            self.line(text)
            return
        from rich.padding import Padding  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(Text("●", style=STYLES.get(state, "dim")), Text(text))
        self.console.print(Padding(grid, 0))

    def note(self, text: str) -> None:
        """Tell a person something beside the result, on stderr; programs do not get it."""
        if not self.as_json:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    @contextmanager
    def progress(self, text: str) -> Iterator[Say]:
        """Show on stderr what is waited for: one living line on a terminal, else changes only."""
        if self.as_json:
            yield lambda _: None
        elif sys.stderr.isatty():
            with _console(stderr=True).status(_plain(text), spinner="dots") as status:
                yield lambda line: status.update(_plain(line))
        else:
            yield _Changes(self.note, text)


class _Changes:
    """Passes on a line of progress when it differs from the one before."""

    def __init__(self, note: Say, first: str) -> None:
        self._note, self._last = note, first
        note(first)

    def __call__(self, line: str) -> None:
        if line != self._last:
            self._last = line
            self._note(line)


def _painted(cell: str, shown: str) -> str:
    code = _CODES.get("bold" if cell == "title" else STYLES.get(cell, ""))
    return f"\x1b[{code}m{shown}\x1b[0m" if code and shown else shown


def problem(problem: Problem, *, as_json: bool) -> None:
    """Write why a command ends without its result: one sentence, or the problem as JSON."""
    if as_json:
        sys.stderr.write(msgspec.json.encode(problem).decode() + "\n")
    else:
        sys.stderr.write(f"caravan: {problem.message}\n")


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that `--json` saves

    return Console(highlight=False, stderr=stderr)


def _plain(text: str) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    return Text(text)
