"""What a supervisor keeps running, as values: programs, their environment, what became of them."""

import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from caravan.cli.home import Home

NATS, AUTH, SCHEDULER, ROUTER = "nats", "auth", "scheduler", "router"
ORDER = (NATS, AUTH, SCHEDULER, ROUTER)
HOST = "127.0.0.1"


class Program(Struct, frozen=True, kw_only=True):
    """One program, kept running."""

    name: str
    command: list[str]
    environment: dict[str, str] = {}
    """Beside the supervisor's own."""
    url: str = ""
    """Where it answers ``/ready``; empty: it has no HTTP."""


class Plan(Struct, frozen=True, kw_only=True):
    """The content of ``run/plan.json``: all that the supervisor is told."""

    programs: list[Program]


class Fate(Struct, frozen=True, kw_only=True):
    """What became of one program, by its supervisor."""

    running: bool
    since: float
    """When this began, seconds since the epoch."""
    failures: int = 0
    """Ends in a row, each after less than a minute."""
    how: str = ""
    """How it ended the last time."""
    next_try_at: float = 0.0


class Fates(Struct, frozen=True, kw_only=True):
    """The content of ``run/state.json``."""

    programs: dict[str, Fate] = {}


class Engine(Struct, frozen=True, kw_only=True):
    """What workers start: a kind (cpu, cuda, fake) and the words before ``serve``."""

    kind: str
    command: str
    """As a shell reads it."""
    environment: Path | None = None
    """The folder of the engine's own Python, where it has one."""


class Ports(Struct, frozen=True, kw_only=True):
    """Where each part listens; ``nats`` 0 when NATS is somebody else's."""

    nats: int
    auth: int
    scheduler: int
    router: int
    router_admin: int = 0
    """The first of the router's admin ports; 0 when ``ROUTER_ADMIN_PORT`` says it."""


class Site(Struct, frozen=True, kw_only=True):
    """Where a platform lives on this machine."""

    home: Home
    ports: Ports
    nats_url: str
    nats_command: list[str]
    """Empty: NATS is somebody else's."""
    cache: Path


def plan(site: Site, engine: Engine, environ: Mapping[str, str]) -> Plan:
    """Return the programs of a platform; ``SCHEDULER_CLUSTER`` of ``environ`` may name Nomad."""
    home, ports = site.home, site.ports
    own = [Program(name=NATS, command=site.nats_command)] if site.nats_command else []
    common = {"NATS_URL": site.nats_url, "HOST": HOST}
    auth = {**common, "PORT": str(ports.auth), "DATABASE_URL": _database(home, AUTH)}
    scheduler = {
        **common,
        "PORT": str(ports.scheduler),
        "DATABASE_URL": _database(home, SCHEDULER),
        "CLUSTER": environ.get("SCHEDULER_CLUSTER", "process"),
        "INSTANCES_DIR": str(home.instances),
        "ENGINE_COMMAND": engine.command,
        "ENGINE_KIND": engine.kind,
        "CACHE_DIR": str(site.cache),
    }
    router = {**common, "PORT": str(ports.router), "VIEWS_DIR": str(home.root / ROUTER)}
    if ports.router_admin:
        router["ADMIN_PORT"] = str(ports.router_admin)
    return Plan(
        programs=[
            *own,
            _service(AUTH, ports.auth, auth),
            _service(SCHEDULER, ports.scheduler, scheduler),
            _service(ROUTER, ports.router, router),
        ]
    )


def url(port: int) -> str:
    """Return the address of a port of this machine."""
    return f"http://{HOST}:{port}"


def _service(name: str, port: int, settings: dict[str, str]) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-m", f"services.{name}"],
        environment={f"{name.upper()}_{key}": value for key, value in settings.items()},
        url=url(port),
    )


def _database(home: Home, name: str) -> str:
    return f"sqlite:///{home.root / f'{name}.db'}"
