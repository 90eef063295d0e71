"""``caravan status``: what runs and what is ready."""

import argparse
import time
from typing import Any

import msgspec

from caravan.cli import health, running
from caravan.cli.health import Health
from caravan.cli.home import Context
from caravan.cli.output import Output
from caravan.cli.session import Session, Where, connect, where
from caravan.contracts import admin, topology
from caravan.contracts.errors import Refusal, UnavailableError

NOT_READY = 3


def status(asked: argparse.Namespace, out: Output) -> int:
    """Show the parts of this machine's platform, or, without one, who answers on NATS."""
    place = where(asked.nats_url, asked.tenant)
    context = place.home.read()
    if context is None or (place.nats_url and place.nats_url != context.nats_url):
        return _remote(place, out)
    parts = health.look(place.home, context)
    workers = list(running.living(place.home))
    supervised = running.lives(place.home, "supervisor") is not None
    well = supervised and all(one.state == "ready" for one in parts)
    if out.as_json:
        out.document(_document(place, context, parts, workers, supervised=supervised))
    else:
        _show(out, place, context, parts, workers, supervised=supervised)
    return 0 if well else NOT_READY


def _document(
    place: Where, context: Context, parts: list[Health], workers: list[str], *, supervised: bool
) -> dict[str, Any]:
    return {
        "home": str(place.home.root),
        "router_url": context.router_url,
        "nats_url": context.nats_url,
        "tenant": context.tenant,
        "supervised": supervised,
        "parts": parts,
        "workers": workers,
    }


def _show(  # noqa: PLR0913 - the parts of one screen
    out: Output,
    place: Where,
    context: Context,
    parts: list[Health],
    workers: list[str],
    *,
    supervised: bool,
) -> None:
    rows = [(one.name, one.state, str(one.pid or ""), _for(one), one.url) for one in parts]
    out.table(("PART", "STATE", "PID", "FOR", "AT"), rows)
    for one in parts:
        if one.reason:
            out.line(f"{one.name}: {one.reason}")
    out.line()
    out.line(f"Workers here: {', '.join(workers) or 'none'}")
    out.line(f"Endpoint: {context.router_url}/v1   tenant: {context.tenant or 'not known yet'}")
    out.line(f"Data and logs: {place.home.root}")
    if not supervised:
        gone = all(one.state == "gone" for one in parts)
        out.line(
            "It does not run: `caravan up` starts it."
            if gone
            else "No supervisor: `caravan up` takes over what runs, `caravan down` ends it."
        )


def _for(one: Health) -> str:
    if not one.since or one.state == "gone":
        return ""
    seconds = max(0, int(time.time() - one.since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _remote(place: Where, out: Output) -> int:
    """Show who answers on a NATS that this machine's home does not know."""
    with connect(place) as session:
        answers = {
            "auth": _asked(session, topology.LIST_TENANTS, admin.ListTenants()),
            "scheduler": _asked(session, topology.LIST_DEPLOYMENTS, admin.ListDeployments(limit=1)),
            "router": _asked(session, topology.ROUTER_STATUS, admin.RouterStatusRequest()),
        }
    if out.as_json:
        out.document({"nats_url": place.nats_url, "parts": answers})
    else:
        out.table(("PART", "ANSWERS"), [(name, said or "yes") for name, said in answers.items()])
    return NOT_READY if any(answers.values()) else 0


def _asked(session: Session, endpoint: topology.Endpoint, request: admin.Request) -> str:
    """Return why the owner of ``endpoint`` does not answer; empty when it does."""
    try:
        session.ask(endpoint, request, restart_s=0.0)
    except UnavailableError as refusal:
        return refusal.problem.message
    except (Refusal, msgspec.DecodeError):
        return ""  # it answers, if only to refuse
    return ""
