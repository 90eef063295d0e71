import asyncio
import socket

import aiohttp
import pytest
from litestar import get
from prometheus_client import CollectorRegistry, Counter

from caravan.contracts.errors import OnHoldError, Problem
from caravan.kit.listening import PortTakenError
from caravan.kit.web import WebServer, create_app


@get("/held", sync_to_thread=False)
def held() -> None:
    raise OnHoldError("On hold: release it.", param="path")


@get("/broken", sync_to_thread=False)
def broken() -> None:
    raise ZeroDivisionError


class Service:
    """The state that the app asks for."""

    def __init__(self):
        self.problem = None
        self.registry = CollectorRegistry()
        self.app = create_app(
            "part",
            ready=lambda: self.problem,
            handlers=[held, broken],
            registry=self.registry,
        )


@pytest.fixture
def service():
    return Service()


@pytest.fixture
async def ask(service):
    """Returns status, headers and body of a GET on a real socket."""
    async with (
        WebServer(service.app, "127.0.0.1", 0) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):

        async def get_path(path):
            async with session.get(path) as response:
                body = await response.text()
                if response.content_type == "application/json":
                    body = await response.json()
                return response.status, response.headers, body

        yield get_path


async def test_health_says_that_the_loop_turns(ask):
    status, _, body = await ask("/health")
    assert (status, body) == (200, {"status": "ok", "service": "part"})


async def test_ready_says_what_is_missing_until_nothing_is(ask, service):
    service.problem = Problem(code="unavailable", message="NATS does not answer.")
    status, headers, body = await ask("/ready")
    assert (status, body["code"], body["message"]) == (503, "unavailable", "NATS does not answer.")
    assert int(headers["Retry-After"]) > 0
    service.problem = None
    assert (await ask("/ready"))[0] == 200


async def test_metrics_come_in_prometheus_form(ask, service):
    Counter("doors_opened", "Doors", registry=service.registry).inc(3)
    status, headers, body = await ask("/metrics")
    assert status == 200
    assert "doors_opened_total 3.0" in body
    assert headers["Content-Type"].startswith("text/plain; version=")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/held", 409, "on_hold"),
        ("/broken", 500, "internal_error"),
        ("/no", 404, "invalid_request"),
    ],
)
async def test_every_failure_is_a_problem(ask, path, status, code):
    found, _, body = await ask(path)
    assert (found, body["code"]) == (status, code)
    assert body["message"]
    assert "Traceback" not in str(body)


async def test_a_taken_port_is_refused_with_its_number(service):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port} on 127.0.0.1 is taken") as refusal:
            async with WebServer(service.app, "127.0.0.1", port):
                pass
    assert (refusal.value.problem.code, refusal.value.exit) == ("port_taken", 3)


async def test_an_address_of_another_machine_is_refused(service):
    with pytest.raises(PortTakenError, match="cannot be opened"):
        async with WebServer(service.app, "192.0.2.1", 0):
            pass


async def test_a_request_that_is_open_at_the_end_is_answered(service):
    began, go = asyncio.Event(), asyncio.Event()

    @get("/slow")
    async def slow() -> str:
        began.set()
        await go.wait()
        return "done"

    service.app.register(slow)
    async with aiohttp.ClientSession() as session:
        server = WebServer(service.app, "127.0.0.1", 0, grace_s=60)
        async with server:
            url = f"http://127.0.0.1:{server.port}"
            asking = asyncio.create_task(_text(session, f"{url}/slow"))
            await began.wait()
            asyncio.get_running_loop().call_later(0.05, go.set)
        assert await asking == "done"
        with pytest.raises(aiohttp.ClientConnectorError):
            await _text(session, f"{url}/health")


async def _text(session, url):
    async with session.get(url) as response:
        return await response.text()
