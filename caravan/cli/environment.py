"""``.caravan/env``: shell lines that make any OpenAI client work; for its owner only."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from caravan.cli.home import write_whole

BASE_URL, KEY, MODEL, TENANT = (
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "CARAVAN_MODEL",
    "CARAVAN_TENANT",
)


def read(file: Path) -> dict[str, str]:
    """Return what ``file`` exports; nothing when it is not there."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals and not line.startswith("#"):
            found[name.strip()] = "".join(shlex.split(value))
    return found


def write(file: Path, values: Mapping[str, str]) -> None:
    """Replace ``file``, readable by its owner only."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    write_whole(file, "".join(lines).encode(), mode=0o600)
