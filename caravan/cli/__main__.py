"""The ``caravan`` command: words in, one result or one sentence out, and an exit status."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from caravan.cli import commands
from caravan.cli.output import Output, problem
from caravan.contracts.errors import Problem, Refusal

INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
NO_READER = 141
"""128 + SIGPIPE: whoever read our output has left, as ``head`` does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; nothing that it meets shows a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return _run(words)
    except Refusal as refusal:
        problem(refusal.problem, as_json=_wants_json(words))
        return refusal.exit
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except Exception as error:  # the outermost border: a defect of ours, told in a sentence
        if os.environ.get("CARAVAN_DEBUG"):
            raise
        problem(_defect(error), as_json=_wants_json(words))
        return 1


def _run(words: Sequence[str]) -> int:
    asked = commands.build().parse_args(words)
    module, _, function = asked.run.partition(":")
    # Imported now: a command pays for what it uses, and `caravan list` uses little.
    status = getattr(import_module(f"caravan.cli.{module}"), function)(
        asked, Output(as_json=asked.json)
    )
    sys.stdout.flush()
    return status or 0


def _wants_json(words: Sequence[str]) -> bool:
    return "--json" in words


def _defect(error: Exception) -> Problem:
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return Problem(
        code="internal_error",
        message=f"A defect of this command ({said}): CARAVAN_DEBUG=1 shows where it is.",
    )


if __name__ == "__main__":
    sys.exit(main())
