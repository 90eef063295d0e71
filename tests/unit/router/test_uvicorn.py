"""What the lane needs of uvicorn and httptools: fails where a release changes any of it.

Each line of the table in ``services/router/api/lane.py`` is a test; what to look at there stands in
the message. After reading uvicorn's changes, set ``lane.UVICORN`` to the new release.
"""

import ast
import importlib.metadata
import inspect
import re
import socket
import textwrap
from asyncio import get_running_loop
from collections import deque
from pathlib import Path

import httptools
import pytest
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from caravan.testing.wait import until
from services.router.api import lane
from services.router.api.exchange import Exchange

ROOT = Path(__file__).parents[3]
REQUEST = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
# What is between the parser and a cycle, and what the lane does with it.
METHODS = {
    "__init__": ("config server_state app_state _loop", "Lane.connection passes them on"),
    "connection_made": ("transport", "connection_made wraps it"),
    "connection_lost": ("exc", "connection_lost wraps it"),
    "data_received": ("data", "data_received stands in its place"),
    "eof_received": ("", "eof_received wraps it"),
    "pause_writing": ("", "pause_writing wraps it"),
    "resume_writing": ("", "resume_writing wraps it"),
    "on_message_begin": ("", "_to_litestar calls it late, to make a scope"),
    "on_url": ("url", "uvicorn's own collects self.url, by which _ROUTES is asked"),
    "on_header": ("name value", "on_header stands in its place"),
    "on_headers_complete": ("", "_to_litestar calls it, to make a cycle and start it"),
    "on_body": ("body", "on_body calls it for Litestar's requests"),
    "on_message_complete": ("", "on_message_complete calls it for Litestar's requests"),
    "on_response_complete": ("", "it stands in its place, as what every cycle calls at its end"),
    "_start_asgi_task": ("cycle app", "it starts exchanges, and leaves other cycles to uvicorn"),
    "send_400_response": ("msg", "it stands in its place"),
    "shutdown": ("", "shutdown wraps it: it must be happy with an Exchange as cycle"),
}
CYCLE = {"response_complete", "keep_alive", "disconnected", "message_event"}


class Connection(HttpToolsProtocol):
    """Uvicorn's own connection, on which no cycle runs."""

    def __init__(self):
        async def app(_scope, _receive, _send):
            raise AssertionError("no cycle is run")

        config = Config(app, http="httptools", ws="none", lifespan="off", log_config=None)
        super().__init__(config, ServerState(), {})
        self.started = []

    def _start_asgi_task(self, cycle, app):
        assert app is self.app, "lane._to_lane puts self.app into the pipeline, as uvicorn does"
        self.started.append(cycle)

    def paths(self):
        return [cycle.scope["path"] for cycle in self.started]


@pytest.fixture
async def connection():
    ours, theirs = socket.socketpair()
    with theirs:
        transport, made = await get_running_loop().connect_accepted_socket(Connection, ours)
        yield made
        transport.abort()
        await until(lambda: made not in made.connections)


def busy(connection):
    """Return the cycle of a request that waits for its answer."""
    connection.data_received(REQUEST % b"busy")
    return connection.cycle


def test_the_release_is_the_one_that_the_lane_was_written_against():
    locked = re.findall(
        r"^uvicorn==(\S+)", (ROOT / "requirements/all.txt").read_text(), re.MULTILINE
    )

    read = "read what uvicorn changed beside the table in lane.py, then set lane.UVICORN"
    assert locked == [lane.UVICORN], read
    assert importlib.metadata.version("uvicorn") == lane.UVICORN, read


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_what_the_lane_gives_or_expects(name):
    wanted, use = METHODS[name]
    found = " ".join(list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters)[1:])

    assert found == wanted, f"see ClientConnection in lane.py: {use}"


async def test_whatever_the_lane_takes_from_its_base_is_there(connection):
    """Also what somebody uses in a later version without an entry above."""
    busy(connection)  # there is a ``url`` only from the first request on
    used, assigned = set(), set()
    source = ast.parse(textwrap.dedent(inspect.getsource(lane.ClientConnection)))
    own = {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(source):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=context):
                (assigned if isinstance(context, ast.Store) else used).add(name)
    of_uvicorn = {name for name in used - own if not name.startswith("_")} - {"address"}

    assert {name for name in of_uvicorn if not hasattr(connection, name)} == set(), (
        "ClientConnection reads these of uvicorn's connection, which has them no more"
    )
    assert of_uvicorn | {"timeout_keep_alive_task"} >= {
        *("parser", "transport", "flow", "loop", "client", "url", "headers", "cycle", "pipeline"),
        *("server_state", "timeout_keep_alive"),
    }, "the table in lane.py names what ClientConnection uses no more"
    assert {"url", "expect_100_continue", "cycle", "parser"} <= assigned


async def test_a_new_connection_is_as_the_lane_finds_it():
    made = Connection()

    why = "ClientConnection relies on what HttpToolsProtocol.__init__ sets"
    assert made.transport is made.flow is made.client is made.cycle is made.scope is None, why
    assert made.timeout_keep_alive_task is None, why
    assert made.expect_100_continue is False, why
    assert made.timeout_keep_alive == made.config.timeout_keep_alive, f"{why}; look() uses it"
    assert isinstance(made.parser, httptools.HttpRequestParser), why
    assert made.server_state.total_requests == 0, f"{why}; on_response_complete counts there"
    assert type(made.pipeline) is deque, f"{why}; _to_lane appends on the left"


async def test_connection_made_sets_what_the_lane_reads_after_it(connection):
    why = "ClientConnection.connection_made and look() rely on it"
    assert connection.transport is not None, why
    assert isinstance(connection.flow, FlowControl), why
    assert connection in connection.server_state.connections, (
        "uvicorn's shutdown waits for the connections there; the lane leaves that to it"
    )


async def test_a_scope_is_made_when_the_lane_asks_for_one_late(connection):
    """What ``_to_litestar`` does: the head is read, then a scope is made and filled."""
    connection.on_message_begin()
    connection.headers.extend([(b"host", b"x")])

    assert connection.url == b"", "_to_litestar sets self.url after on_message_begin emptied it"
    assert connection.scope["headers"] is connection.headers, (
        "_to_litestar extends self.headers, which have to be the scope's"
    )
    assert connection.scope["type"] == "http"


async def test_a_cycle_has_what_an_exchange_has_in_its_place(connection):
    cycle = busy(connection)

    assert isinstance(cycle, RequestResponseCycle), "on_headers_complete makes it for _to_litestar"
    assert {name for name in CYCLE if not hasattr(cycle, name)} == set(), "see Exchange"
    assert {name for name in CYCLE - {"keep_alive"} if not hasattr(Exchange, name)} == set()
    assert "keep_alive" in inspect.getsource(Exchange.__init__)
    assert (cycle.response_complete, cycle.disconnected) == (False, False)
    assert cycle.on_response == connection.on_response_complete, (
        "a cycle of Litestar's has to end in ClientConnection.on_response_complete"
    )
    assert cycle.keep_alive is True


async def test_uvicorn_asks_no_more_of_a_cycle_than_an_exchange_has():
    """Where the connection itself, not the cycle, looks at ``self.cycle``."""
    asked = set()
    for name in ("shutdown", "connection_lost", "on_response_complete"):
        asked |= set(
            re.findall(r"self\.cycle\.(\w+)", inspect.getsource(getattr(HttpToolsProtocol, name)))
        )

    assert asked <= CYCLE, f"Exchange lacks {asked - CYCLE}, which uvicorn looks at"


async def test_requests_wait_on_the_left_of_the_pipeline_and_come_from_its_right(connection):
    for name in (b"a", b"b", b"c"):
        connection.data_received(REQUEST % name)
    why = "_to_lane and on_response_complete in lane.py use the pipeline in this order"
    waiting = [cycle.scope["path"] for cycle, _ in connection.pipeline]
    assert (connection.paths(), waiting) == (["/a"], ["/c", "/b"]), why
    assert connection.flow.read_paused, "_to_lane pauses reading as uvicorn does"

    connection.started[0].response_complete = True
    connection.on_response_complete()

    assert connection.paths() == ["/a", "/b"], why
    assert connection.server_state.total_requests == 1, "on_response_complete in lane.py counts it"
    assert not connection.flow.read_paused, "on_response_complete in lane.py reads on, too"


async def test_a_stop_closes_an_idle_connection_and_lets_a_busy_one_end(connection):
    cycle = busy(connection)

    connection.shutdown()
    assert (cycle.keep_alive, connection.transport.is_closing()) == (False, False), (
        "Exchange.finish reads keep_alive, which shutdown sets while the request runs"
    )

    cycle.response_complete = True
    connection.shutdown()
    assert connection.transport.is_closing(), "an OVER exchange says response_complete"


async def test_a_lost_connection_is_told_to_its_cycle(connection):
    cycle = busy(connection)

    connection.transport.abort()
    await until(lambda: connection not in connection.connections)

    assert cycle.disconnected, "connection_lost in lane.py leaves Litestar's cycles to uvicorn"
    assert cycle.message_event.is_set(), "Exchange has a message_event that wakes nobody"
    assert connection.parser is None, "nothing may be parsed after connection_lost"


async def test_flow_control_is_what_pauses_and_resumes(connection):
    flow, why = connection.flow, "see Exchange.waits and ClientConnection.look"
    assert (flow.write_paused, flow.read_paused) == (False, False), why

    connection.pause_writing()
    flow.pause_reading()
    assert (flow.write_paused, flow.read_paused) == (True, True), why
    assert not connection.transport.is_reading(), why

    connection.resume_writing()
    flow.resume_reading()
    assert (flow.write_paused, flow.read_paused) == (False, False), why
    assert connection.transport.is_reading(), why


# httptools


class Heard:
    """Notes what a parser calls."""

    def __init__(self, kind=httptools.HttpRequestParser):
        self.calls = []
        self.parser = kind(self)

    def on_url(self, url):
        self.calls.append(("url", url))

    def on_header(self, name, value):
        self.calls.append(("header", name, value))

    def on_headers_complete(self):
        self.calls.append("headers")

    def on_body(self, body):
        self.calls.append(("body", body))

    def on_message_complete(self):
        self.calls.append(("complete", self.parser.should_keep_alive()))


def test_an_url_comes_in_pieces_and_a_header_whole():
    heard = Heard()
    for piece in (b"GET /a", b"b HTTP/1.1\r\nHo", b"st: ", b"x\r", b"\n\r\n"):
        heard.parser.feed_data(piece)

    assert heard.calls[:3] == [("url", b"/a"), ("url", b"b"), ("header", b"Host", b"x")], (
        "on_message_begin empties self.url, on_url adds to it; on_header in lane.py adds nothing up"
    )


def test_what_comes_after_a_body_is_told_as_a_header():
    heard = Heard()
    heard.parser.feed_data(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nKey: y\r\n\r\n"
    )

    assert heard.calls[2:] == ["headers", ("header", b"Key", b"y"), ("complete", True)], (
        "on_header in lane.py asks _in_head because of that"
    )


def test_an_offer_to_upgrade_ends_with_its_message_before_it_raises():
    heard = Heard()
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"

    with pytest.raises(httptools.HttpParserUpgrade) as raised:
        heard.parser.feed_data(head + b"abc")

    assert heard.calls[-2:] == ["headers", ("complete", True)], (
        "on_message_complete in lane.py looks at _offer because of that; no body has come"
    )
    assert raised.value.args[0] == len(head), "_without_upgrade takes it for where the head ends"
    assert heard.parser.should_upgrade()


def test_whether_a_connection_is_kept_is_known_only_at_the_messages_end():
    heard = Heard(httptools.HttpResponseParser)
    heard.parser.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

    assert heard.calls[-1] == ("complete", True), "see on_message_complete in adapters/engine.py"
    assert not heard.parser.should_keep_alive(), (
        "adapters/engine.py keeps the answer of on_message_complete; it need not any more"
    )


@pytest.mark.parametrize(
    "length", [b"", b"+1", b"-1", b"1_0", b"0x1", b"1 1", b"1, 1", b"1\r\nContent-Length: 1"]
)
def test_a_length_is_one_row_of_digits(length):
    with pytest.raises(httptools.HttpParserError):
        Heard().parser.feed_data(b"POST / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n")


def test_a_callback_that_fails_stops_the_parser():
    class Failing(Heard):
        def on_headers_complete(self):
            raise ValueError("mine")

    heard = Failing()
    with pytest.raises(httptools.HttpParserCallbackError):
        heard.parser.feed_data(REQUEST % b"")

    assert ("complete", True) not in heard.calls, "_check_head in lane.py stops the parser so"


def test_a_parser_may_be_told_to_pass_over_what_follows_a_last_request():
    heard = Heard()
    heard.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    heard.parser.feed_data(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n" + REQUEST % b"more")

    assert heard.calls[-1] == ("complete", False), "_without_upgrade makes a parser as uvicorn does"
