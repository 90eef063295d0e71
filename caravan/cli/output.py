"""Where a command's words go: results to stdout, progress and problems to stderr, JSON if asked."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from caravan.contracts.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    **dict.fromkeys(("running", "ready", "serve", "active", "ok"), "green"),
    **dict.fromkeys(("failed", "revoked", "stopped here", "gone", "dead"), "red"),
    **dict.fromkeys(("pending", "starting", "loading", "degraded", "updating"), "yellow"),
    **dict.fromkeys(("stopping", "deleting", "draining", "suspect", "waiting"), "yellow"),
}
"""Colours of states; a word not known here has none."""
_WIDE = 10_000
"""Columns of something that is no terminal: nothing is cut or folded for it."""


Say = Callable[[str], None]
"""Takes one line of progress."""


class Output:
    """Writes what a command has to say, for people or (``as_json``) for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> "Console":
        """The terminal behind stdout; made when first needed, as rich takes time to import."""
        if self._console is None:
            self._console = _console(sys.stdout.isatty(), stderr=False)
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

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], fold: int = -1) -> None:
        """Write a table; the column ``fold`` gives way when the terminal is narrow."""
        from rich.table import Table  # noqa: PLC0415 - only those who show one pay for it
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        for number, title in enumerate(titles):
            gives = number == fold % len(titles)
            table.add_column(title, no_wrap=not gives, overflow="fold", header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        self.console.print(table)

    def heading(self, text: str) -> None:
        """Write a heading with an empty line before it."""
        from rich.text import Text  # noqa: PLC0415

        self.console.print()
        self.console.print(Text(text, style="bold"))

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write names and values, one pair a line; long values fold beside their names."""
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
            with _console(tty=True, stderr=True).status(_plain(text), spinner="dots") as status:
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


def problem(problem: Problem, *, as_json: bool) -> None:
    """Write why a command ends without its result: one sentence, or the problem as JSON."""
    if as_json:
        sys.stderr.write(msgspec.json.encode(problem).decode() + "\n")
    else:
        sys.stderr.write(f"caravan: {problem.message}\n")


def _console(tty: bool, *, stderr: bool) -> "Console":  # noqa: FBT001 - of the stream itself
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that `--json` saves

    options: dict[str, Any] = {"highlight": False, "stderr": stderr}
    return Console(**options) if tty else Console(**options, width=_WIDE)


def _plain(text: str) -> "Any":  # noqa: ANN401 - rich's renderable
    from rich.text import Text  # noqa: PLC0415

    return Text(text)
