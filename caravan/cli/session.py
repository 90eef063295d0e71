"""What a command asks with: NATS, the tenant, and the same intent again when an answer is lost."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from caravan.cli import home
from caravan.cli.wire import NoRespondersError, Reply, SlowReplyError, Wire
from caravan.contracts import admin, names, topology
from caravan.contracts.errors import (
    InvalidRequestError,
    Problem,
    Refusal,
    RemoteRefusal,
    UnavailableError,
)

T = TypeVar("T")
ANSWER_S = 5.0
"""Patience with one request."""
TRIES = 3
RESTART_S = 3.0
"""How long a service that is not there may take to come back: the supervisor restarts it."""


class Where(Struct, frozen=True, kw_only=True):
    """What the command line and the environment say of where the platform is."""

    home: home.Home
    nats_url: str = ""
    tenant: str = ""


def where(nats_url: str | None, tenant: str | None) -> Where:
    """Return where to ask: options, else the environment, else (later) the home's context."""
    return Where(
        home=home.find(os.environ, Path.cwd()),
        nats_url=nats_url or os.environ.get("CARAVAN_NATS_URL", ""),
        tenant=tenant or os.environ.get("CARAVAN_TENANT", ""),
    )


class Session:
    """A connection to the platform, on behalf of a tenant."""

    def __init__(self, place: Where, context: home.Context | None, wire: Wire) -> None:
        self.place, self.context, self._wire = place, context, wire
        self._tenant = place.tenant

    @property
    def tenant(self) -> str:
        """The tenant that was named, else the context's, else the one that auth calls default."""
        if not self._tenant:
            known = self.context.tenant if self.context and not self.place.nats_url else ""
            self._tenant = known or self._default()
        return names.check_tenant(self._tenant)

    def ask(
        self,
        endpoint: topology.Endpoint,
        request: admin.Request,
        *,
        wait_s: float = 0.0,
        restart_s: float = RESTART_S,
    ) -> Any:  # noqa: ANN401 - the endpoint's answer; callers know which
        """Return the answer; the same request goes again when an answer is lost.

        ``wait_s`` is what the request itself asks the service to wait. Raises what was refused.
        """
        subject = endpoint.of(self.tenant if endpoint.subject.endswith(".*") else "")
        reply = self._reply(endpoint.service, subject, request, ANSWER_S + wait_s, restart_s)
        if "Nats-Service-Error-Code" in reply.headers:
            raise RemoteRefusal(_problem(reply))
        return msgspec.json.decode(reply.data, type=endpoint.answer)

    def router_url(self) -> str:
        """Return where the router listens: the context's, else what a router says of itself."""
        if self.context and not self.place.nats_url:
            return self.context.router_url
        status = self.ask(topology.ROUTER_STATUS, admin.RouterStatusRequest())
        return str(status.url).rstrip("/")

    def _default(self) -> str:
        for tenant in self.ask(topology.LIST_TENANTS, admin.ListTenants()).items:
            if tenant.label == "default":
                return str(tenant.id)
        raise InvalidRequestError(
            "There is no tenant called default here: name yours by --tenant or CARAVAN_TENANT.",
            param="tenant",
        )

    def _reply(
        self, service: str, subject: str, request: admin.Request, each_s: float, restart_s: float
    ) -> Reply:
        payload, headers = msgspec.json.encode(request), _headers()
        tries, deadline = TRIES, time.monotonic() + restart_s
        while True:
            try:
                return self._wire.request(subject, payload, headers, each_s)
            except SlowReplyError:
                tries -= 1
                if not tries:
                    raise _silent(service, "gives no answer") from None
            except NoRespondersError:
                if time.monotonic() >= deadline:
                    raise _silent(service, "is not there") from None
                time.sleep(0.1)


@contextmanager
def connect(place: Where) -> Iterator[Session]:
    """Open a session and close it in the end."""
    context = None if place.nats_url else place.home.read()
    url = place.nats_url or (context.nats_url if context else "")
    if not url:
        raise UnavailableError(
            "No platform is known here: start one with `caravan up`, or name another's NATS by"
            " --nats-url."
        )
    with Wire(url) as wire:
        yield Session(place, context, wire)


def intent() -> str:
    """Return a new ``request_id``: one per intent, the same however often it is sent."""
    return uuid.uuid4().hex


def _headers() -> dict[str, str]:
    # A header must not end its line: a strange user name is left out.
    user = os.environ.get("USER", "")
    return {"Caravan-Actor": user} if user.isprintable() and user else {}


def _problem(reply: Reply) -> Problem:
    try:
        return msgspec.json.decode(reply.data, type=Problem)
    except msgspec.DecodeError:
        said = reply.headers.get("Nats-Service-Error", "The service failed without a reason.")
        return Problem(code="internal_error", message=said)


def _silent(service: str, what: str) -> Refusal:
    return UnavailableError(
        f"The {service} {what}: see `caravan status`, start it with `caravan up`, and try again."
    )
