"""Whether the parts of a home's platform are ready, asked at each of them."""

import http.client
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from caravan.cli import running
from caravan.cli.home import Context, Home
from caravan.cli.programs import NATS, ORDER, Fate
from caravan.cli.wire import Wire
from caravan.contracts.errors import Problem, Refusal, UnavailableError

PATIENCE_S = 2.0


class Health(Struct, frozen=True, kw_only=True):
    """One part: whether it runs, whether it is ready, and why not."""

    name: str
    state: str
    """ready, waiting (runs, but not ready), gone (does not run)"""
    reason: str = ""
    pid: int = 0
    url: str = ""
    restarts: int = 0
    """Failures in a row, by the supervisor."""
    since: float = 0.0


def look(home: Home, context: Context) -> list[Health]:
    """Return the health of each part, in the order of their start."""
    fates = running.fates(home).programs
    names = [name for name in ORDER if name in context.services]
    return [_look(home, name, context.services[name], fates.get(name)) for name in names]


def _look(home: Home, name: str, url: str, fate: Fate | None) -> Health:
    who = running.lives(home, name)
    reason = _nats(url) if name == NATS else _ready(url)
    if who is None and reason:
        state, reason = "gone", (fate.how if fate else "") or reason
    else:
        state = "waiting" if reason else "ready"
    return Health(
        name=name,
        state=state,
        reason=reason,
        pid=who.pid if who else 0,
        url=url,
        restarts=fate.failures if fate else 0,
        since=fate.since if fate else 0.0,
    )


def _nats(url: str) -> str:
    try:
        Wire(url).close()
    except UnavailableError:
        return "it does not answer"
    except Refusal as refusal:
        return refusal.problem.message
    return ""


def _ready(url: str) -> str:
    """Return why the service is not ready; empty when it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return "it does not answer"
    finally:
        connection.close()
    return "" if answer.status == http.client.OK else _said(body)


def _said(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Problem).message
    except msgspec.DecodeError:
        return _inside(body)


class _Envelope(Struct, frozen=True):
    error: Problem


def _inside(body: bytes) -> str:
    """Return the message of the router's envelope, which all of its errors wear."""
    try:
        return msgspec.json.decode(body, type=_Envelope).error.message
    except msgspec.DecodeError:
        return "it is not ready"
