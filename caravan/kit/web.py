"""The HTTP side of a service: one Litestar base app, one uvicorn server in the service's loop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import structlog
import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from caravan.contracts.errors import Problem, Refusal, meaning
from caravan.kit.listening import listen

log = structlog.get_logger()

_Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]


def create_app(
    service: str,
    *,
    ready: Callable[[], Problem | None],
    handlers: Sequence[ControllerRouterHandler] = (),
    registry: CollectorRegistry = REGISTRY,
    exception_handlers: Mapping[int | type[Exception], _Handler] | None = None,
    **more: Any,  # noqa: ANN401 - passed to Litestar as it is
) -> Litestar:
    """Return an app with ``/health``, ``/ready`` and ``/metrics`` beside ``handlers``.

    ``/ready`` answers 503 with what ``ready`` says, 200 when it says None. Refusals are answered
    as ``Problem``; ``exception_handlers`` may put them into another envelope.
    """
    translated: dict[int | type[Exception], _Handler] = {
        Refusal: _refused,
        HTTPException: _refused_by_litestar,
        Exception: _crashed,
    }
    translated.update(exception_handlers or {})
    return Litestar(
        [*_own_routes(service, ready, registry), *handlers],
        exception_handlers=translated,
        openapi_config=more.pop("openapi_config", None),
        logging_config=None,  # caravan.kit.log has routed ``logging`` already
        **more,
    )


def _own_routes(
    service: str, ready: Callable[[], Problem | None], registry: CollectorRegistry
) -> list[ControllerRouterHandler]:
    @get("/health", sync_to_thread=False)
    def health() -> dict[str, str]:
        """Answer as long as the process's loop turns."""
        return {"status": "ok", "service": service}

    @get("/ready", sync_to_thread=False)
    def is_ready() -> Response[Any]:
        """Say whether the service can do its work, and if not, why."""
        problem = ready()
        if problem is None:
            return Response({"status": "ready", "service": service})
        return Response(problem, status_code=503, headers={"Retry-After": "2"})

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        """Answer in Prometheus's text form."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [health, is_ready, metrics]


def _refused(_: Request[Any, Any, Any], exc: Refusal) -> Response[Problem]:
    return Response(exc.problem, status_code=exc.status)


def _refused_by_litestar(_: Request[Any, Any, Any], exc: HTTPException) -> Response[Problem]:
    code = "invalid_request" if exc.status_code < 500 else "internal_error"
    problem = Problem(code=code, message=exc.detail or str(exc))
    return Response(problem, status_code=exc.status_code, headers=exc.headers)


def _crashed(request: Request[Any, Any, Any], exc: Exception) -> Response[Problem]:
    log.error("http.crashed", path=request.url.path, exc_info=exc)
    problem = Problem(code="internal_error", message="The service failed; its log says why.")
    return Response(problem, status_code=meaning(problem.code).status)


class WebServer:
    """An HTTP server for ``app`` in the running loop; signals are the service's business.

    ``async with``: open and answering inside, ``port`` says where (also when 0 was asked for);
    at the end no new connection is taken, open requests get ``grace_s``, then they are cancelled.
    With ``reuse_port`` other processes of the service may have the same port.
    """

    def __init__(
        self,
        app: ASGIApp | Litestar,
        host: str,
        port: int,
        *,
        grace_s: float = 5.0,
        reuse_port: bool = False,
        **more: Any,  # noqa: ANN401 - passed to uvicorn.Config as it is
    ) -> None:
        self.host, self.port, self._reuse_port = host, port, reuse_port
        settings: dict[str, Any] = {
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "lifespan": "on" if isinstance(app, Litestar) else "off",
            "timeout_graceful_shutdown": max(1, round(grace_s)),
        }
        self._server = _Server(uvicorn.Config(app, **{**settings, **more}))
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        sock = listen(self.host, self.port, reuse_port=self._reuse_port)
        self.port = sock.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="web")
        started = asyncio.create_task(self._server.opened.wait())
        await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            sock.close()
            await self._task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.leave()
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    """Uvicorn that waits for an event instead of polling, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.opened = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.opened.set()

    async def main_loop(self) -> None:
        # Uvicorn looks ten times a second; once is enough for the Date header.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._leaving.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
