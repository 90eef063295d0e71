"""Which request is answered by what."""

import secrets
from collections.abc import Awaitable, Callable, Mapping

from caravan.testing.engine import asked, bodies, info, messages, responses
from caravan.testing.engine.errors import RefusedError, UnexpectedError
from caravan.testing.engine.rerank import reply_scores
from caravan.testing.engine.state import State
from caravan.testing.engine.text import reply_text
from caravan.testing.engine.vectors import reply_vectors
from caravan.testing.engine.voices import Chat
from caravan.testing.engine.wire import Reply, Request

OPEN = ("/health", "/ready", "/metrics")
"""What begins so is answered without a key."""
ONE_MODEL = "/v1/models/"

Route = Callable[[State, Request, Reply], Awaitable[None]]


async def handle(state: State, request: Request, reply: Reply) -> None:
    """Answer one request."""
    try:
        await _answer(state, request, reply)
    except RefusedError as refused:
        reply.send(refused.status, _error(request.path, refused))
    except UnexpectedError:
        reply.send_text(500, "Internal Server Error")
        reply.close()


def _error(path: str, refused: RefusedError) -> bodies.Body:
    match path:
        case asked.RESPONSES:
            return responses.error(refused)
        case asked.MESSAGES:
            return messages.error(refused)
        case _:
            return bodies.error(refused.message, refused.kind, refused.status)


async def _answer(state: State, request: Request, reply: Reply) -> None:
    path = ONE_MODEL if request.path.startswith(ONE_MODEL) else request.path
    methods = ROUTES.get(path)
    if not _may(state, request):
        reply.send(401, {"error": "Unauthorized"})
    elif methods is None or (path == "/metrics" and not state.options.enable_metrics):
        reply.send(404, {"detail": "Not Found"})
    elif route := methods.get(request.method):
        await route(state, request, reply)
    else:
        reply.send(405, {"detail": "Method Not Allowed"}, allow=", ".join(methods))


def _may(state: State, request: Request) -> bool:
    wanted = state.options.api_key
    if wanted is None or request.path.startswith(OPEN):
        return True
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(key.encode(), wanted.encode())


async def _health(state: State, request: Request, reply: Reply) -> None:
    # SGLang takes a second for it; no test wants to wait for that.
    del request
    reply.send(200 if state.up and not state.plan.unhealthy else 503)


async def _models(state: State, request: Request, reply: Reply) -> None:
    del request
    card = bodies.model_card(state.options.served_model_name, _context(state))
    reply.send(200, {"object": "list", "data": [card]})


async def _one_model(state: State, request: Request, reply: Reply) -> None:
    name = request.path.removeprefix(ONE_MODEL)
    if name == state.options.served_model_name:
        reply.send(200, bodies.model_card(name, _context(state)))
    else:
        reply.send(404, bodies.model_missing(name))


def _context(state: State) -> int:
    return state.options.context_length or state.model.max_position_embeddings


async def _loads(state: State, request: Request, reply: Reply) -> None:
    del request
    reply.send(200, state.load.loads())


async def _metrics(state: State, request: Request, reply: Reply) -> None:
    del request
    reply.send_text(200, state.load.metrics(), "text/plain; version=1.0.0; charset=utf-8")


async def _model_info(state: State, request: Request, reply: Reply) -> None:
    del request
    reply.send(200, info.model_info(state))


async def _server_info(state: State, request: Request, reply: Reply) -> None:
    del request
    reply.send(200, info.server_info(state))


async def _abort(state: State, request: Request, reply: Reply) -> None:
    state.abort(asked.rid_of(request.body))
    reply.send(200)


async def _chat(state: State, request: Request, reply: Reply) -> None:
    await reply_text(state, asked.chat(_body(request)), reply, Chat)


async def _completion(state: State, request: Request, reply: Reply) -> None:
    await reply_text(state, asked.completion(_body(request)), reply, Chat)


async def _responses(state: State, request: Request, reply: Reply) -> None:
    ask = responses.asked_for(_body(request), state.options.served_model_name)
    await reply_text(state, ask, reply, responses.Response)


async def _messages(state: State, request: Request, reply: Reply) -> None:
    await reply_text(state, messages.asked_for(_body(request)), reply, messages.Message)


async def _embeddings(state: State, request: Request, reply: Reply) -> None:
    await reply_vectors(state, _body(request), reply)


async def _rerank(state: State, request: Request, reply: Reply) -> None:
    await reply_scores(state, _body(request), reply)


def _body(request: Request) -> asked.Body:
    return asked.body_of(request.path, request.headers.get("content-type", ""), request.body)


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/health": {"GET": _health},
    "/health_generate": {"GET": _health},
    "/ready": {"GET": _health},
    "/metrics": {"GET": _metrics},
    "/v1/models": {"GET": _models},
    ONE_MODEL: {"GET": _one_model},
    "/v1/loads": {"GET": _loads},
    "/model_info": {"GET": _model_info},
    "/server_info": {"GET": _server_info},
    "/abort_request": {"POST": _abort},
    asked.CHAT: {"POST": _chat},
    asked.COMPLETIONS: {"POST": _completion},
    asked.EMBEDDINGS: {"POST": _embeddings},
    asked.RERANK: {"POST": _rerank, "PUT": _rerank},
    asked.RESPONSES: {"POST": _responses},
    asked.MESSAGES: {"POST": _messages},
}
