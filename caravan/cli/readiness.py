"""Waiting until a platform is ready, and saying what keeps it from that."""

import time
from typing import NoReturn

from msgspec.structs import replace

from caravan.cli import health, running, supervisor
from caravan.cli.errors import BrokenError
from caravan.cli.health import Health
from caravan.cli.home import Context, Home
from caravan.cli.output import Output, Say
from caravan.cli.session import Where, connect
from caravan.contracts.errors import UnavailableError

EVERY_S = 0.1
GIVE_UP = 3
"""So many ends in a row of one part mean that it cannot start here."""
LAST_LINES = 12


def wait(home: Home, known: Context, out: Output, wait_s: float) -> Context:
    """Return the context, with its tenant, when all parts are ready.

    ``UnavailableError`` after ``wait_s``, or when a part refuses to start; ``BrokenError`` when one
    ends again and again without saying why in a sentence.
    """
    with out.progress("Starting") as say:
        _all_ready(home, known, wait_s, say)
        say("Asking for the tenant")
        with connect(Where(home=home)) as session:
            context = replace(known, tenant=session.tenant)
    if context != known:
        home.write(context)
    return context


def _all_ready(home: Home, context: Context, wait_s: float, say: Say) -> None:
    deadline = time.monotonic() + wait_s
    while waited := [one for one in health.look(home, context) if one.state != "ready"]:
        for one in waited:
            if one.restarts >= GIVE_UP:
                _cannot_start(home, one)
            if time.monotonic() >= deadline:
                _too_late(home, one, wait_s)
        if running.lives(home, supervisor.NAME) is None:
            _cannot_start(home, Health(name=supervisor.NAME, state="gone", reason="ended"))
        say(f"Waiting for {', '.join(one.name for one in waited)}: {waited[0].reason}")
        time.sleep(EVERY_S)


def _cannot_start(home: Home, one: Health) -> NoReturn:
    lines = _last_lines(home, one.name)
    if told := [line for line in lines if line.startswith(f"caravan {one.name}: ")]:
        why = told[-1].partition(": ")[2]  # what a service says before it exits on purpose
        raise UnavailableError(f"The {one.name} does not start: {why}{_log(home, one.name, ())}")
    raise BrokenError(f"The {one.name} {one.reason} at each start.{_log(home, one.name, lines)}")


def _too_late(home: Home, one: Health, wait_s: float) -> NoReturn:
    lines = _last_lines(home, one.name)
    raise UnavailableError(
        f"The {one.name} is not ready after {wait_s:.0f} s: {one.reason}"
        f"{_log(home, one.name, lines)}"
    )


def _last_lines(home: Home, name: str) -> list[str]:
    try:
        return home.log(name).read_text(errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []


def _log(home: Home, name: str, lines: list[str] | tuple[()]) -> str:
    ends = "".join(f"\n  {line}" for line in lines)
    return f" Its log is {home.log(name)}{', which ends with:' if lines else '.'}{ends}"
