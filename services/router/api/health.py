"""Readiness, and every refusal that Litestar makes, in the envelope of HTTP.md."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from caravan.contracts.errors import Problem, Refusal
from services.router.api.edge import STORY
from services.router.core.dialects import DEFAULT, DIALECTS
from services.router.core.errors import (
    BadRequestError,
    InternalError,
    MethodNotAllowedError,
    RouteNotFoundError,
    ViewsMissingError,
    headers_of,
)
from services.router.core.ports import Views

log = structlog.get_logger()
Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]


def readiness(views: Views) -> Callable[[], Problem | None]:
    """Return what raises while requests could not be decided on."""

    def ready() -> Problem | None:
        if not views.fresh():
            raise ViewsMissingError(
                "The router has not read keys and deployments yet. Is NATS up?", retry_after_s=2.0
            )
        return None

    return ready


def answer(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Return ``refusal`` as OpenAI's clients read it."""
    story = request.scope.get("state", {}).get(STORY)
    if story is not None:
        story.code, story.why = refusal.problem.code, refusal.problem.message
    headers = {name.decode(): value.decode() for name, value in headers_of(refusal)}
    media_type = headers.pop("content-type")
    dialect = DIALECTS.get(story.route, DEFAULT) if story is not None else DEFAULT
    body = dialect.envelope(refusal, story.request_id if story is not None else "")
    return Response(body, status_code=refusal.status, headers=headers, media_type=media_type)


def _by_litestar(request: Request[Any, Any, Any], exc: HTTPException) -> Response[bytes]:
    match exc.status_code:
        case 404:
            refusal: Refusal = RouteNotFoundError(
                "There is nothing here. The OpenAI API begins at /v1/, e.g. /v1/chat/completions."
            )
        case 405:
            allow = (exc.headers or {}).get("Allow", "GET")
            refusal = MethodNotAllowedError(f"Use {allow} here.", allow=allow)
        case status if status < 500:
            refusal = BadRequestError(exc.detail or "The request cannot be read.")
        case _:
            return _crashed(request, exc)
    return answer(request, refusal)


def _crashed(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    log.error("request.crashed", path=request.url.path, exc_info=exc)
    return answer(request, InternalError("The router failed; its log says why. Try again."))


EXCEPTION_HANDLERS: Mapping[int | type[Exception], Handler] = {
    Refusal: answer,
    HTTPException: _by_litestar,
    Exception: _crashed,
}
