"""Print SGLang's own flags as flags.json has them: run with the Python of an engine's environment.

``ENVIRONMENT/bin/python -P caravan/testing/engine/dump_flags.py > flags.json``
"""

import argparse
import json
import sys
from importlib import import_module
from typing import Any

TYPES = {"int": "int", "human_readable_int": "int", "float": "float"}


def entry(action: argparse.Action) -> dict[str, Any]:
    """Return one flag: its names, how many values it takes, their type, and what they may be."""
    found: dict[str, Any] = {"names": action.option_strings}
    if action.nargs is not None:
        found["nargs"] = action.nargs
    if name := TYPES.get(getattr(action.type, "__name__", "")):
        found["type"] = name
    if action.choices:
        found["choices"] = sorted(action.choices, key=str)  # some are sets
    return found


def main() -> None:
    """Write every flag on a line of its own."""
    server_args = import_module("sglang.srt.server_args")  # it is in the engine's environment only

    parser = argparse.ArgumentParser(add_help=False)
    server_args.ServerArgs.add_cli_args(parser)
    entries = [json.dumps(entry(action)) for action in parser._actions]  # noqa: SLF001 - no other way
    sys.stdout.write("[\n" + ",\n".join(sorted(entries)) + "\n]\n")


if __name__ == "__main__":
    main()
