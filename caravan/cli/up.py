"""``caravan up``: the whole platform on this machine, started, shown, and ended with Ctrl-C."""

import argparse
import asyncio
import signal

from caravan.cli import commands, demo, down, engine, readiness, running, starting, supervisor
from caravan.cli.errors import BrokenError
from caravan.cli.home import Context, Home
from caravan.cli.output import Output
from caravan.cli.programs import ROUTER
from caravan.cli.session import Where, where
from caravan.kit.process import Identity, ended

FAILED_GRACE_S = 2.0
"""For workers, when a start has failed and what it began is ended again."""


def up(asked: argparse.Namespace, out: Output) -> int:
    """Start what does not run, wait until all is ready, and stay unless ``--detach``."""
    place = where(asked.nats_url, asked.tenant)
    home = place.home
    home.make()
    taken_over = down.anything_runs(home)
    context, begun = _begun(asked, out, place)
    try:
        context = readiness.wait(home, context, out, asked.wait)
    except BaseException:
        if taken_over:  # models may be serving: a part that does not start must not end them
            out.note("What ran before goes on; `caravan down` ends it.")
        elif begun:  # nothing half done: neither after a failure nor after Ctrl-C
            down.end_all(home, Output(as_json=True), FAILED_GRACE_S)
        raise
    try:
        made = _demo(asked, out, place) if asked.demo else None
    except KeyboardInterrupt:
        if begun and not asked.detach:
            _end(home, out)
        raise
    _tell(out, home, context, made)
    return 0 if asked.detach or not begun else _stay(home, out)


def _begun(asked: argparse.Namespace, out: Output, place: Where) -> tuple[Context, bool]:
    """Return where everything is, and whether this command has started it."""
    known = place.home.read()
    with running.claimed(place.home) as lock:
        if lock is not None:
            return starting.begin(asked, out, place, known, lock), True
    if known is None:
        raise BrokenError(
            f"A supervisor runs without {place.home.context}: `caravan down`, then start again."
        )
    if asked.port not in (None, int(known.router_url.rpartition(":")[2])):
        out.note(f"It runs already: --port {asked.port} counts after `caravan down`.")
    return known, False


def _demo(asked: argparse.Namespace, out: Output, place: Where) -> demo.Demo:
    return demo.ensure(engine.ensure(asked.engine, out), place, asked.demo_source, out)


def _tell(out: Output, home: Home, context: Context, made: demo.Demo | None) -> None:
    if out.as_json:
        out.document(
            {
                "home": str(home.root),
                "router_url": context.router_url,
                "base_url": f"{context.router_url}/v1",
                "nats_url": context.nats_url,
                "tenant": context.tenant,
                "services": context.services,
                "demo": made,
            }
        )
        return
    if made is not None:
        demo.tell(out, home, made)
    out.note(f"Caravan runs at {context.router_url}; data and logs are in {home.root}.")
    if made is None:
        out.note(
            "`caravan deploy NAME --source …` serves a model; `caravan keys create` makes a key."
        )


def _stay(home: Home, out: Output) -> int:
    """Wait for Ctrl-C, or for another's ``down``; then end what runs."""
    who = running.lives(home, supervisor.NAME)
    if who is not None and asyncio.run(_interrupted(who, out)):
        _end(home, out)
        return 0
    if running.lives(home, ROUTER) is None:
        return 0
    raise BrokenError(
        "The supervisor has ended and what it started goes on: `caravan up` takes that over,"
        " `caravan down` ends it."
    )


def _end(home: Home, out: Output) -> None:
    out.note("Ending; Ctrl-C again leaves the rest to `caravan down`.")
    down.end_all(home, out, commands.GRACE_S)


async def _interrupted(who: Identity, out: Output) -> bool:
    """Return True at a signal that asks us to end, False when the supervisor has ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    out.note("Ctrl-C ends it.")  # and not before
    waits = {asyncio.create_task(stop.wait()), asyncio.create_task(ended(who))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return stop.is_set()
