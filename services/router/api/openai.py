"""The OpenAI routes. The hot ones are raw ASGI: bodies and answers pass byte for byte."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import structlog
from litestar import Request, Response, asgi, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler, Receive, Scope, Send
from msgspec import Struct

from caravan.contracts.errors import Refusal
from caravan.contracts.keys import KeyEntry
from services.router.api.body import read_body
from services.router.api.exchange import Exchange
from services.router.api.gate import Gate
from services.router.api.relay import broken_off
from services.router.api.reply import ClientGoneError, Reply, story_of, until_gone
from services.router.core import admission, asked, http, models
from services.router.core.errors import InternalError, MethodNotAllowedError, SlowBodyError
from services.router.core.job import Job
from services.router.core.ports import Views
from services.router.core.story import CANCELLED, FAILED, REFUSED, TRUNCATED, why

ROUTES = (admission.CHAT, admission.COMPLETIONS, admission.EMBEDDINGS)
CUT_S = 2.0
"""How long the last event of a stream that the router itself ends may take to be written."""
log = structlog.get_logger()


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may ask of the router's patience and memory."""

    body_bytes: int
    body_patience_s: float
    client_patience_s: float


class Inference:
    """Answers ``POST`` on the hot routes, whatever happens on the way."""

    def __init__(self, gate: Gate, exchange: Exchange, limits: Limits) -> None:
        self._gate, self._exchange, self._limits = gate, exchange, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        story = story_of(scope)
        reply = Reply(scope, send, patience_s=self._limits.client_patience_s)
        try:
            await self._answer_or_refuse(scope, receive, reply)
        except ClientGoneError as exc:
            story.outcome, story.why = CANCELLED, str(exc)
        except asyncio.CancelledError:
            story.outcome, story.why = TRUNCATED, "the router was stopped"
            await self._cut(reply, stream=story.stream)
            raise
        except Exception:
            log.exception("request.crashed", request_id=story.request_id)
            story.outcome = FAILED
            await self._crashed(reply)

    async def _answer_or_refuse(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        try:
            await self._answer(scope, receive, reply)
        except Refusal as refusal:
            story = story_of(scope)
            story.outcome, story.code = REFUSED, refusal.problem.code
            story.why = story.why or why(refusal)
            await reply.refuse(refusal, close=isinstance(refusal, SlowBodyError))

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        story = story_of(scope)
        if story.method != "POST":
            raise MethodNotAllowedError(f"Use POST for {story.route}.", allow="POST")
        headers = http.readable(scope["headers"])
        key = await self._gate.key(headers.get("authorization"), story.client)
        story.key = key.id
        body = await read_body(
            receive,
            headers,
            limit=self._limits.body_bytes,
            patience_s=self._limits.body_patience_s,
        )
        story.bytes_in = len(body)
        wanted = asked.read(body)
        story.stream = wanted.stream
        name, _ = await self._gate.deployment(wanted.model, story.route, key, story.client)
        story.deployment = wanted.model
        job = Job(
            asked=wanted,
            body=body,
            route=story.route,
            deployment=name,
            key_id=key.id,
            story=story,
        )
        await _unless_gone(self._exchange.answer(job, reply), receive, reply)

    async def _cut(self, reply: Reply, *, stream: bool) -> None:
        """End a stream of a router that stops so that it does not look complete."""
        if not reply.started or reply.ended:
            return
        if not stream:
            reply.abort()
            return
        with contextlib.suppress(TimeoutError, ClientGoneError):
            async with asyncio.timeout(CUT_S):
                await reply.end(b"\n\n" + broken_off())

    async def _crashed(self, reply: Reply) -> None:
        if reply.started:
            reply.abort()
        else:
            await reply.refuse(InternalError("The router failed; its log says why. Try again."))


async def _unless_gone(work: Coroutine[Any, Any, None], receive: Receive, reply: Reply) -> None:
    """Do ``work``, but end it at once when the client goes."""
    working = asyncio.create_task(work, name="exchange")
    watching = asyncio.create_task(until_gone(receive), name="client")
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not reply.ended:
            working.cancel()
            await asyncio.wait({working})
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait({working, watching})
    if working.cancelled():
        raise ClientGoneError("the client left")
    await working


def handlers(inference: Inference, gate: Gate, views: Views) -> list[ControllerRouterHandler]:
    """Return the route handlers of the OpenAI API."""

    @asgi(list(ROUTES), copy_scope=False)
    async def infer(scope: Scope, receive: Receive, send: Send) -> None:
        await inference(scope, receive, send)

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> Response[models.ModelList]:
        """Models that the key of the request may name."""
        key = await _key(gate, request)
        return Response(models.ModelList(data=models.of(key, views)))

    @get("/v1/models/{model:path}")
    async def get_model(
        request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[models.Model]:
        """One model; its id holds a slash."""
        key = await _key(gate, request)
        path, story = str(model).lstrip("/"), story_of(request.scope)
        story.deployment = path
        name, entry = await gate.deployment(path, story.route, key, story.client)
        return Response(models.model(name, entry, views))

    return [infer, list_models, get_model]


async def _key(gate: Gate, request: Request[Any, Any, Any]) -> KeyEntry:
    story = story_of(request.scope)
    key = await gate.key(request.headers.get("authorization"), story.client)
    story.key = key.id
    return key
