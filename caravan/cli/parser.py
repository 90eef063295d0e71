"""How the command line is read: argparse, whose complaints become refusals like any other."""

import argparse
import math
import re
import shlex
from pathlib import Path
from typing import Any, NoReturn

from caravan.contracts.errors import InvalidRequestError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


class Parser(argparse.ArgumentParser):
    """A parser that refuses with one sentence instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        said = message[:1].upper() + message[1:]
        raise InvalidRequestError(f"{said}; `{self.prog} --help` shows how it goes.")


class Commands:
    """Adds commands to a parser, each with the options that all of them have."""

    def __init__(self, parser: Parser, metavar: str) -> None:
        # Without a name, "required" would complain about an argument called None.
        self._under = parser.add_subparsers(
            dest="command", metavar=metavar, required=True, title="commands", prog=parser.prog
        )
        self._prog = parser.prog

    def add(self, name: str, run: str, does: str, *examples: str, more: str = "") -> Parser:
        """Return the parser of the new command ``name``, which ends in ``module:function``."""
        text = f"{does}. {more}" if more else f"{does}."
        parser: Parser = self._under.add_parser(
            name,
            help=_small(does),
            description=text,
            epilog="\n".join(("example:", *(f"  {self._prog} {line}" for line in examples))),
            formatter_class=_Help,
            allow_abbrev=False,
            add_help=False,
        )
        common(parser, default=argparse.SUPPRESS)
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, does: str) -> "Commands":
        """Return the commands under the word ``name``."""
        parser: Parser = self._under.add_parser(
            name, help=_small(does), description=f"{does}.", allow_abbrev=False
        )
        return Commands(parser, metavar="COMMAND")


def _small(does: str) -> str:
    """Return it as part of a list; what begins with an acronym stays as it is."""
    return does if does[1:2].isupper() else does[:1].lower() + does[1:]


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples and folds descriptions to the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)  # noqa: SLF001 - its sibling's


def root() -> Parser:
    """Return the parser of ``caravan`` itself, with the options that may stand before a command."""
    parser = Parser(
        prog="caravan",
        description="Open models as OpenAI-compatible services on machines that you own.",
        epilog="`caravan COMMAND --help` shows a command's options and an example.",
        allow_abbrev=False,
        add_help=False,
    )
    common(parser, default=None)
    return parser


def common(parser: argparse.ArgumentParser, default: Any) -> None:  # noqa: ANN401 - argparse's
    """Add the options of every command; ``SUPPRESS`` keeps what stood before the command's name."""
    group = parser.add_argument_group("everywhere")
    group.add_argument("-h", "--help", action="help", help="show this and exit")
    group.add_argument(
        "--json",
        action="store_true",
        default=False if default is None else default,
        help="one JSON document, or JSON lines when following",
    )
    group.add_argument(
        "--tenant", metavar="ID", default=default, help="else CARAVAN_TENANT, else the home's"
    )
    group.add_argument(
        "--nats-url", metavar="URL", default=default, help="else CARAVAN_NATS_URL, else the home's"
    )


def seconds(text: str) -> float:
    """Read ``90``, ``90s``, ``15m``, ``12h`` or ``30d``."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 15m, 12h or 30d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def amount(text: str) -> float:
    """Read a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def engine_words(text: str) -> list[str]:
    """Read what one ``--engine-arg`` holds: ``--flag=value`` whole, else words as a shell reads."""
    if re.match(r"--[a-z0-9-]+=", text):
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be split into words: {error}") from None


def source(text: str) -> str:
    """Read a source; a folder of this machine may be given by its plain path."""
    if "://" not in text and Path(text).expanduser().is_dir():
        return f"file://{Path(text).expanduser().resolve()}"
    return text
