"""Admin messages: strict about what is asked, clear about what is wrong, never in the way."""

import asyncio
import json

import pytest
import structlog.testing

from caravan.contracts import admin, topology
from caravan.contracts.errors import OnHoldError, RemoteRefusal, UnavailableError
from caravan.kit import endpoints
from caravan.kit.bus import Bus
from caravan.kit.endpoints import serving
from caravan.testing.wait import until

TENANT = "u-8105f7322477"
CREATE = topology.CREATE_KEY
KEY = admin.Key(id="k-1", tenant=TENANT, label="", hint="abcd", state="active", created_at=0.0)
CREATED = admin.KeyCreated(key=KEY, secret="ck-1")


class Desk:
    """A handler that remembers its calls and does what the test says."""

    def __init__(self):
        self.calls = []
        self.outcome = CREATED

    async def __call__(self, call, request):
        self.calls.append((call, request))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
async def served(bus, desk):
    async with serving(bus, "auth", {CREATE: desk}):
        yield bus


def ask(bus, **fields):
    request = admin.CreateKey(**{"request_id": "r-1", **fields})
    return bus.ask(CREATE, request, tenant=TENANT, actor="ada")


async def raw(bus, body, subject=None):
    """Send bytes as `nats req` does; return the reply's payload and headers."""
    reply = await bus.client.request(subject or CREATE.of(TENANT), body, timeout=30)
    return json.loads(reply.data), reply.headers or {}


async def test_a_handler_hears_who_asks_for_whom_and_its_answer_comes_back(served, desk):
    assert await ask(served, label="laptop") == CREATED

    call, request = desk.calls[0]
    assert request == admin.CreateKey(request_id="r-1", label="laptop")
    assert (call.tenant, call.actor, call.request_id) == (TENANT, "ada", "r-1")
    assert (call.endpoint, call.subject) == (CREATE, f"caravan.auth.keys.create.{TENANT}")


async def test_one_intent_has_one_digest_however_it_is_written(served, desk):
    await raw(served, b'{"request_id":"a","label":"x","scopes":["b"]}')
    await raw(served, b' {"scopes": ["b"], "label":"x",\n"request_id":"b"}')
    await raw(served, b'{"request_id":"a","label":"y","scopes":["b"]}')

    first, second, third = (call.digest for call, _ in desk.calls)
    assert first == second != third


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "request_id"),
        (b"{}", "request_id"),
        (b"nonsense", None),
        (b"[1]", None),
        (b"null", None),
        (b'{"request_id":"a"', None),
        (b'{"request_id":"a","labell":"x"}', "labell"),
        (b'{"request_id":"a","label":5}', "label"),
        (b'{"request_id":"a","scopes":["x",5]}', "scopes[1]"),
        (b'{"request_id":"a","tenant":"u-000000000000"}', "tenant"),
        (b'{"request_id":""}', "request_id"),
        (b'{"request_id":"a\\nb"}', "request_id"),
        (b'{"request_id":"' + b"a" * 129 + b'"}', "request_id"),
        (b'{"request_id":"\xff"}', None),
        (b'{"request_id":"a","deep":' + b"[" * 100_000, "deep"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_the_name_of_the_field(served, desk, body, param):
    problem, headers = await raw(served, body)

    assert (problem["code"], problem["param"]) == ("invalid_request", param)
    assert headers["Nats-Service-Error-Code"] == "400"
    assert headers["Nats-Service-Error"].startswith("invalid_request: ")
    assert desk.calls == []


@pytest.mark.parametrize("tenant", ["U-8105f7322477", "u-1", "default", "u-8105f732247g"])
async def test_a_tenant_of_another_form_is_refused(served, desk, tenant):
    problem, _ = await raw(served, b'{"request_id":"a"}', CREATE.of(tenant))

    assert (problem["code"], problem["param"]) == ("invalid_request", "tenant")
    assert desk.calls == []


async def test_a_request_without_fields_may_be_empty(bus):
    async def tenants(_call, _request):
        return admin.TenantPage(items=[])

    async with serving(bus, "auth", {topology.LIST_TENANTS: tenants}):
        answer, _ = await raw(bus, b"", topology.LIST_TENANTS.subject)

    assert answer["items"] == []


async def test_a_refusal_reaches_the_one_who_asked_as_it_was_said(served, desk):
    desk.outcome = OnHoldError("auth is on hold: release it first", param="label")

    with pytest.raises(RemoteRefusal) as refused:
        await ask(served)

    assert refused.value.problem == desk.outcome.problem
    assert (refused.value.status, refused.value.exit) == (409, 4)
    _, headers = await raw(served, b'{"request_id":"a"}')
    assert headers["Nats-Service-Error-Code"] == "409"
    assert headers["Nats-Service-Error"] == "on_hold: auth is on hold: release it first"


async def test_our_own_mistake_is_logged_with_its_cause_and_told_without(served, desk):
    desk.outcome = ZeroDivisionError("a secret detail")

    with structlog.testing.capture_logs() as lines, pytest.raises(RemoteRefusal) as refused:
        await ask(served)

    assert refused.value.problem.code == "internal_error"
    assert "secret detail" not in str(refused.value)
    assert any(line["event"] == "admin.failed" and line["exc_info"] for line in lines)


async def test_each_message_leaves_one_line_in_the_log(served, desk):
    with structlog.testing.capture_logs() as lines:
        await ask(served)
        desk.outcome = OnHoldError("no")
        with pytest.raises(RemoteRefusal):
            await ask(served)

    assert [(line["event"], line["code"]) for line in lines] == [
        ("admin.answered", "ok"),
        ("admin.answered", "on_hold"),
    ]
    assert lines[0]["tenant"] == TENANT
    assert lines[0]["actor"] == "ada"
    assert lines[0]["request_id"] == "r-1"
    assert not any("ck-1" in str(value) for line in lines for value in line.values())


async def test_one_that_waits_holds_up_no_other(bus):
    go_on = asyncio.Event()

    async def create(_call, request):
        if request.label == "slow":
            await go_on.wait()
        return CREATED

    async with serving(bus, "auth", {CREATE: create}):
        slow = asyncio.create_task(ask(bus, label="slow"))
        assert await ask(bus, label="quick") == CREATED
        assert not slow.done()
        go_on.set()
        assert await slow == CREATED


async def test_a_service_that_ends_tells_those_at_work_to_ask_again(bus):
    at_work = asyncio.Event()

    async def create(_call, _request):
        at_work.set()
        await asyncio.Event().wait()

    async with serving(bus, "auth", {CREATE: create}, grace_s=0.05):
        asked = asyncio.create_task(ask(bus))
        await asyncio.wait_for(at_work.wait(), 60)

    with pytest.raises(RemoteRefusal, match="is ending: ask again") as refused:
        await asked
    assert refused.value.problem.code == "unavailable"
    with pytest.raises(UnavailableError, match="does not run"):
        await ask(bus)


async def test_a_service_that_is_swamped_says_so_at_once(bus, monkeypatch):
    monkeypatch.setattr(endpoints, "AT_ONCE", 1)
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def create(_call, _request):
        at_work.set()
        await go_on.wait()
        return CREATED

    async with serving(bus, "auth", {CREATE: create}):
        first = asyncio.create_task(ask(bus))
        await asyncio.wait_for(at_work.wait(), 60)
        with pytest.raises(RemoteRefusal, match="busy"):
            await ask(bus)
        go_on.set()
        assert await first == CREATED


async def test_an_answer_larger_than_the_bus_carries_says_to_ask_for_less(served, desk):
    key = admin.Key(**{f: getattr(KEY, f) for f in KEY.__struct_fields__} | {"label": "x" * 2**20})
    desk.outcome = admin.KeyCreated(key=key, secret="ck-1")

    with pytest.raises(RemoteRefusal, match="ask for less"):
        await ask(served)


async def test_a_service_is_found_with_its_endpoints_and_their_types(served):
    """What `nats micro ls`, `info` and `stats` show."""
    ping, _ = await raw(served, b"", "$SRV.PING.caravan-auth")
    info, _ = await raw(served, b"", "$SRV.INFO.caravan-auth")

    assert ping["name"] == "caravan-auth"
    assert [(e["name"], e["subject"], e["metadata"]) for e in info["endpoints"]] == [
        (
            "keys-create",
            "caravan.auth.keys.create.*",
            {
                "request": "CreateKey",
                "answer": "KeyCreated",
                "changes": "true",
                "tenant": "last token",
            },
        )
    ]


async def test_stats_count_what_was_asked_and_refused(served, desk):
    await ask(served)
    desk.outcome = OnHoldError("no")
    with pytest.raises(RemoteRefusal):
        await ask(served)

    stats, _ = await raw(served, b"", "$SRV.STATS.caravan-auth")

    (endpoint,) = stats["endpoints"]
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (2, 1)
    assert endpoint["processing_time"] > 0


async def test_every_endpoint_of_the_topology_can_be_served(bus):
    handlers = dict.fromkeys(topology.ENDPOINTS, Desk())

    async with serving(bus, "all", handlers):
        info, _ = await raw(bus, b"", "$SRV.INFO.caravan-all")

    assert len(info["endpoints"]) == len(topology.ENDPOINTS)


@pytest.mark.parametrize("wiped", [False, True], ids=["same disk", "empty disk"])
async def test_a_service_answers_again_after_nats_was_away(served, nats_server, wiped):
    await nats_server.kill()
    if wiped:
        nats_server.wipe()
    await nats_server.start()
    await served.reachable(60)

    assert await ask(served) == CREATED


async def test_one_of_two_processes_answers_unless_each_shall(bus, nats_server):
    answered = []

    def status(run):
        async def answer(_call, _request):
            answered.append(run)
            return admin.HoldAnswer(on_hold=False)

        return answer

    endpoint = topology.HOLD_AUTH
    async with Bus(nats_server.url, name="second") as second:
        one, two = {endpoint: status("one")}, {endpoint: status("two")}
        async with serving(bus, "x", one), serving(second, "x", two):
            await bus.ask(endpoint, admin.Hold(request_id="a"))
            await bus.client.flush()
            assert len(answered) == 1
        answered.clear()
        async with serving(bus, "x", one, each=True), serving(second, "x", two, each=True):
            await bus.ask(endpoint, admin.Hold(request_id="a"))
            await until(lambda: set(answered) == {"one", "two"})
