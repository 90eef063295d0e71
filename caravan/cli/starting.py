"""The start of a home's platform: ports, engine, plan, and the supervisor that keeps it."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from caravan.cli import engine, nats_server, ports, programs, running, supervisor
from caravan.cli.home import Context, Home, write_whole
from caravan.cli.output import Output
from caravan.cli.programs import AUTH, NATS, ROUTER, SCHEDULER, Engine, Ports
from caravan.cli.session import Where
from caravan.cli.wire import Wire
from caravan.kit.process import identity
from engines import install

NATS_PORT, ROUTER_PORT, ADMIN_PORT = 4222, 8000, 9100


def begin(
    asked: argparse.Namespace, out: Output, place: Where, known: Context | None, lock: int
) -> Context:
    """Start the supervisor, which takes ``lock`` over, and return where everything will be.

    What cannot work is refused before anything is started or written.
    """
    home, foreign = place.home, place.nats_url
    if foreign:
        Wire(foreign).close()
    chosen = _Choice(home, known).ports(asked, own_nats=not foreign)
    used = engine.ensure(asked.engine, out)
    nats = [] if foreign else nats_server.command(home, chosen.nats)
    where = programs.Site(
        home=home,
        ports=chosen,
        nats_url=foreign or f"nats://{programs.HOST}:{chosen.nats}",
        nats_command=nats,
        cache=install.cache(),
    )
    context = _context(where, used, known.tenant if known else "")
    _supervise(home, lock)
    return context


def _context(site: programs.Site, used: Engine, tenant: str) -> Context:
    """Write down the plan for the supervisor and the context for commands."""
    plan = programs.plan(site, used, os.environ)
    urls = {one.name: one.url for one in plan.programs if one.url}
    context = Context(
        nats_url=site.nats_url,
        router_url=programs.url(site.ports.router),
        tenant=tenant,
        services={NATS: site.nats_url, **urls},
        router_admin=site.ports.router_admin,
    )
    write_whole(running.plan(site.home), msgspec.json.encode(plan), mode=0o600)
    site.home.write(context)
    running.state(site.home).unlink(missing_ok=True)
    return context


class _Choice:
    """Ports: those of what runs, else as asked, else as before, else free ones."""

    def __init__(self, home: Home, known: Context | None) -> None:
        self._home, self._services = home, known.services if known else {}
        self._known_admin = known.router_admin if known else 0

    def ports(self, asked: argparse.Namespace, *, own_nats: bool) -> Ports:
        nats = self._shown(NATS, "--nats-port", asked.nats_port, NATS_PORT) if own_nats else 0
        return Ports(
            nats=nats,
            auth=self._hidden(AUTH),
            scheduler=self._hidden(SCHEDULER),
            router=self._shown(ROUTER, "--port", asked.port, ROUTER_PORT),
            router_admin=self._admin(os.environ),
        )

    def _shown(self, name: str, option: str, asked: int | None, default: int) -> int:
        return ports.choose(option, asked, self._port(name), default, runs=self._runs(name))

    def _hidden(self, name: str) -> int:
        port = self._port(name)
        return port if port and (self._runs(name) or ports.free(port)) else ports.quiet()

    def _admin(self, environ: Mapping[str, str]) -> int:
        if "ROUTER_ADMIN_PORT" in environ:
            return 0
        said = environ.get("ROUTER_PROCESSES", "")
        count = int(said) if said.isdecimal() else 1  # what else it is, the router refuses
        return ports.row(self._known_admin, ADMIN_PORT, max(count, 1), runs=self._runs(ROUTER))

    def _port(self, name: str) -> int:
        return int(self._services.get(name, "").rpartition(":")[2] or 0)

    def _runs(self, name: str) -> bool:
        return running.lives(self._home, name) is not None


def _supervise(home: Home, lock: int) -> None:
    with home.log(supervisor.NAME).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", supervisor.__name__, str(home.root)],
            cwd=home.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    running.record(home, supervisor.NAME, identity(process.pid))
    process.returncode = 0  # it outlives us; Popen need not warn
