"""Admin messages answered: NATS micro services, strict about what is asked."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, EndpointStats, Service, ServiceConfig

from caravan.contracts.errors import (
    InvalidRequestError,
    Problem,
    Refusal,
    UnavailableError,
    meaning,
)
from caravan.contracts.names import check_tenant
from caravan.contracts.topology import Endpoint
from caravan.kit.bus import ACTOR_HEADER, Bus
from caravan.kit.wire import decoder, fields

log = structlog.get_logger()

Handler = Callable[["Call", Any], Awaitable[Any]]

AT_ONCE = 256
"""Requests that one process works on at the same time; more are refused as ``unavailable``."""
GRACE_S = 1.0
"""How long requests that are being worked on may still take when the service ends."""

_LEAVE_S = 10.0  # a dozen round trips to NATS, on a machine that may be slow

_FIELD = re.compile(r"field `([^`]+)`")
_PATH = re.compile(r" - at `\$([^`]*)`")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request beside its body."""

    endpoint: Endpoint
    subject: str
    tenant: str
    """Empty where the endpoint takes none."""
    actor: str
    """Who asked, as the header ``Caravan-Actor`` says; empty when it says nothing."""
    request_id: str
    """Empty where the endpoint changes nothing."""
    digest: str
    """Of the body without its ``request_id``: the same when an intent is sent again."""


@asynccontextmanager
async def serving(  # noqa: PLR0913 - one composition, once per service
    bus: Bus,
    service: str,
    handlers: Mapping[Endpoint, Handler],
    *,
    version: str = "0.1.0",
    each: bool = False,
    grace_s: float = GRACE_S,
) -> AsyncIterator[None]:
    """Answer ``handlers``' endpoints as the micro service ``caravan-<service>`` while inside.

    Waits for the first connection; answers again after every later one. One process of the
    service answers a request; with ``each`` every process does. Requests are worked on side by
    side, so one that waits holds up no other. A handler returns the answer or raises a
    ``Refusal``; anything else that it raises is logged and answered as ``internal_error``.
    At the end new requests are refused, and those at work get ``grace_s``.
    """
    await bus.established()
    desk = _Desk()
    config = ServiceConfig(
        name=f"caravan-{service}",
        version=version,
        description=f"The {service} of Caravan",
        queue_group=bus.client.new_inbox() if each else None,
        stats_handler=desk.stats,
    )
    micro = Service(bus.client, config)
    await micro.start()
    try:
        for endpoint, handler in handlers.items():
            await micro.add_endpoint(_config(endpoint, desk.answering(endpoint, handler)))
        await bus.client.flush()
        yield
    finally:
        with suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                if bus.connected:
                    await micro.stop()
        await desk.close(grace_s)


def _config(endpoint: Endpoint, handler: Callable[[Request], Awaitable[None]]) -> EndpointConfig:
    return EndpointConfig(
        name=endpoint.name,
        subject=endpoint.subject,
        handler=handler,
        metadata={
            "request": endpoint.request.__name__,
            "answer": endpoint.answer.__name__,
            "changes": "true" if endpoint.changes else "false",
            "tenant": "last token" if endpoint.subject.endswith(".*") else "none",
        },
    )


class _Desk:
    """The requests at work, and what became of the others, by endpoint."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: dict[str, int] = {}
        self._spent_ns: dict[str, int] = {}

    def answering(
        self, endpoint: Endpoint, handler: Handler
    ) -> Callable[[Request], Awaitable[None]]:
        """Return what nats-py calls with each message: it starts the work and returns."""
        decode = decoder(endpoint.request)

        async def take(request: Request) -> None:
            if len(self._tasks) >= AT_ONCE:
                busy = UnavailableError(f"the {endpoint.service} is busy: ask again in a second")
                await _respond(request, busy.problem)
                return
            task = asyncio.create_task(self._work(endpoint, decode, handler, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return take

    def stats(self, stats: EndpointStats) -> dict[str, int]:
        """Correct what nats-py measured: it only saw the work being started."""
        stats.num_errors = self._errors.get(stats.name, 0)
        stats.processing_time = self._spent_ns.get(stats.name, 0)
        stats.average_processing_time = stats.processing_time // max(1, stats.num_requests)
        return {"at_work": len(self._tasks)}

    async def close(self, grace_s: float) -> None:
        """Give those at work ``grace_s``, then tell the rest to ask again."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _work(
        self,
        endpoint: Endpoint,
        decode: Callable[[bytes], Any],
        handler: Handler,
        request: Request,
    ) -> None:
        """Answer one request and say so in one log line."""
        began = time.perf_counter_ns()
        said: dict[str, Any] = {"subject": request.subject}
        try:
            answer = await _answer(endpoint, decode, handler, request, said)
        except asyncio.CancelledError:
            ending = UnavailableError(f"the {endpoint.service} is ending: ask again")
            await _respond(request, ending.problem)
            raise
        spent = time.perf_counter_ns() - began
        code = answer.code if isinstance(answer, Problem) else "ok"
        self._spent_ns[endpoint.name] = self._spent_ns.get(endpoint.name, 0) + spent
        self._errors[endpoint.name] = self._errors.get(endpoint.name, 0) + (code != "ok")
        if isinstance(answer, Problem):
            said["error"] = answer.message
        log.info("admin.answered", **said, code=code, ms=round(spent / 1e6, 1))
        await _respond(request, answer)


async def _answer(
    endpoint: Endpoint,
    decode: Callable[[bytes], Any],
    handler: Handler,
    request: Request,
    said: dict[str, Any],
) -> Any:  # noqa: ANN401 - ``endpoint.answer``, or the problem
    """Return the answer or the problem; add to ``said`` what the log line should tell."""
    try:
        call, body = read(endpoint, decode, request.subject, request.data, request.headers)
        said |= {"tenant": call.tenant, "actor": call.actor, "request_id": call.request_id}
        return await handler(call, body)
    except Refusal as exc:
        return exc.problem
    except Exception:
        log.exception("admin.failed", **said)
        message = f"the {endpoint.service} made a mistake: its log has the details, tell us"
        return Problem(code="internal_error", message=message)


def read(
    endpoint: Endpoint,
    decode: Callable[[bytes], Any],
    subject: str,
    data: bytes,
    headers: Mapping[str, str] | None,
) -> tuple[Call, Any]:
    """Return the call and its decoded body, or refuse what is wrong with it, naming the field."""
    tenant = ""
    if endpoint.subject.endswith(".*"):
        tenant = check_tenant(subject.rpartition(".")[2])
    data = data or b"{}"  # `nats req SUBJECT ""` where nothing needs to be said
    try:
        body = decode(data)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(f"{exc}"[:500], param=_param(str(exc))) from None
    except msgspec.DecodeError as exc:
        raise InvalidRequestError(f"the body must be a JSON object: {exc}"[:500]) from None
    request_id = _request_id(body) if endpoint.changes else ""
    call = Call(
        endpoint=endpoint,
        subject=subject,
        tenant=tenant,
        actor=(headers or {}).get(ACTOR_HEADER, ""),
        request_id=request_id,
        digest=_digest(data),
    )
    return call, body


def _request_id(body: Any) -> str:  # noqa: ANN401 - any child of ``Change``
    request_id = str(body.request_id)
    if not 1 <= len(request_id) <= 128 or not request_id.isprintable():
        message = "request_id must be 1 to 128 printable characters, new for every intent"
        raise InvalidRequestError(message, param="request_id")
    return request_id


def _digest(data: bytes) -> str:
    """Return the digest of what is asked, however its JSON was written."""
    asked = fields(data)
    asked.pop("request_id", None)
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def _param(error: str) -> str | None:
    """Return the field that a decoding error names: ``resources``, ``engine_args[0]``."""
    path = _PATH.search(error)
    parent = path.group(1).removeprefix(".") if path else ""
    field = _FIELD.search(error)
    return ".".join(part for part in (parent, field.group(1) if field else "") if part) or None


async def _respond(request: Request, answer: Any) -> None:  # noqa: ANN401 - as ``_answer``
    """Send the answer; a client that is gone, or a connection, is nobody to complain to."""
    with suppress(nats.errors.Error, OSError, ValueError):
        try:
            await _send(request, answer)
        except nats.errors.MaxPayloadError:
            message = "the answer is larger than NATS carries: ask for less with `limit`"
            await _send(request, Problem(code="invalid_request", message=message, param="limit"))


async def _send(request: Request, answer: Any) -> None:  # noqa: ANN401 - as ``_answer``
    data = msgspec.json.encode(answer)
    if not isinstance(answer, Problem):
        await request.respond(data)
        return
    words = " ".join(f"{answer.code}: {answer.message}".split())
    await request.respond_error(str(meaning(answer.code).status), words, data)
