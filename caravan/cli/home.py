"""The folder ``.caravan``: where it is, what stands where, and ``context.json`` for commands."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from caravan.cli.errors import DataTooNewError
from caravan.contracts.errors import InvalidRequestError

DATA_VERSION = 1
"""Of what the home holds; a home with a higher one is left alone."""
FOLDER = ".caravan"


class Context(Struct, frozen=True, kw_only=True):
    """The content of ``context.json``: how commands find the platform of this home."""

    version: int = DATA_VERSION
    nats_url: str
    router_url: str
    tenant: str = ""
    """The default tenant; empty until auth has answered once."""
    services: dict[str, str] = {}
    """Where each answers ``/ready``, by its name."""
    router_admin: int = 0
    """The first of the router's admin ports; 0 where ``ROUTER_ADMIN_PORT`` said it."""


class Home(Struct, frozen=True):
    """A home, made or not; every path in it."""

    root: Path

    @property
    def context(self) -> Path:
        return self.root / "context.json"

    @property
    def env(self) -> Path:
        """What ``. .caravan/env`` gives any OpenAI client."""
        return self.root / "env"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.root / "run" / "lock"

    @property
    def run(self) -> Path:
        """The identity of each process, and the supervisor's plan and state."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def make(self) -> None:
        """Make the folders; what is there stays."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.run, self.logs, self.instances, self.root / "nats"):
            folder.mkdir(exist_ok=True)

    def read(self) -> Context | None:
        """Return the context, or None where there is none yet; refuses a newer one."""
        try:
            data = self.context.read_bytes()
        except FileNotFoundError:
            return None
        try:
            version = msgspec.json.decode(data, type=_Version).version
            if version > DATA_VERSION:
                raise DataTooNewError(
                    f"{self.root} was written by a newer Caravan (data version {version}, this one"
                    f" knows {DATA_VERSION}): use the newer one, or name another folder by"
                    " CARAVAN_HOME."
                )
            return msgspec.json.decode(data, type=Context)
        except msgspec.DecodeError as error:
            raise InvalidRequestError(
                f"{self.context} cannot be read ({error}): mend it, or move it away and run"
                " `caravan up`."
            ) from error

    def write(self, context: Context) -> None:
        """Replace the context."""
        write_whole(self.context, msgspec.json.format(msgspec.json.encode(context)) + b"\n")


class _Version(Struct, frozen=True):
    version: int = 1


def find(environ: Mapping[str, str], start: Path) -> Home:
    """Return ``$CARAVAN_HOME``, else the nearest ``.caravan`` from ``start`` up, else there."""
    if named := environ.get("CARAVAN_HOME"):
        return Home(Path(named).expanduser().absolute())
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir():
            return Home(folder / FOLDER)
    return Home(start / FOLDER)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``path`` so that a reader sees the old or the new content, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    part.chmod(mode)
    part.replace(path)
