"""Asking when answers get lost and services come late: one intent stays one intent."""

import asyncio

import msgspec
import pytest

from caravan.cli import session as asking
from caravan.cli.home import Context, Home
from caravan.cli.session import Where, connect
from caravan.contracts import admin, topology
from caravan.contracts.errors import InvalidRequestError, Problem, Refusal, UnavailableError

TENANT = "u-0123456789ab"
STOP = topology.STOP_DEPLOYMENT


def stopping():
    return admin.StopDeployment(request_id=asking.intent(), name="chat")


@pytest.fixture
def place(tmp_path, nats_server):
    return Where(home=Home(tmp_path), nats_url=nats_server.url, tenant=TENANT)


async def asked(place, endpoint, request, **options):
    """Ask from a thread, as a session blocks."""

    def ask():
        with connect(place) as session:
            return session.ask(endpoint, request, **options)

    return await asyncio.to_thread(ask)


def deployment():
    return admin.Deployment(
        tenant=TENANT,
        name="chat",
        path=f"{TENANT}/chat",
        task="text-generation",
        source="hf://a/b",
        state="stopping",
        reason="",
        instances=0,
        ready=0,
        generation=1,
        created_at=1.0,
        updated_at=1.0,
    )


async def test_a_lost_answer_is_asked_for_again_with_the_same_request_id(bus, place, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_S", 0.3)
    seen = []

    async def answer_the_second(message):
        seen.append(msgspec.json.decode(message.data, type=admin.StopDeployment))
        if len(seen) > 1:
            await message.respond(msgspec.json.encode(deployment()))

    await bus.client.subscribe(STOP.of(TENANT), cb=answer_the_second)
    await bus.client.flush()
    request = stopping()

    assert await asked(place, STOP, request) == deployment()
    assert seen[:2] == [request, request]


async def test_a_service_that_never_answers_is_named(bus, place, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_S", 0.1)

    async def nothing(_): ...

    await bus.client.subscribe(STOP.of(TENANT), cb=nothing)
    await bus.client.flush()

    with pytest.raises(UnavailableError, match="The scheduler gives no answer"):
        await asked(place, STOP, stopping())


async def test_a_service_that_is_being_started_again_is_waited_for(bus, place):
    waiting = asyncio.create_task(asked(place, STOP, stopping(), restart_s=60.0))
    await asyncio.sleep(0)

    async def answer(message):
        await message.respond(msgspec.json.encode(deployment()))

    await bus.client.subscribe(STOP.of(TENANT), cb=answer)

    assert await waiting == deployment()


async def test_a_service_that_is_not_there_is_named(place):
    with pytest.raises(UnavailableError, match="The scheduler is not there: see `caravan status`"):
        await asked(place, STOP, stopping(), restart_s=0.0)


async def test_what_a_service_refuses_is_told_on_as_it_came(bus, place):
    problem = Problem(code="name_taken", message="Take another.", param="name")

    async def refuse(message):
        headers = {"Nats-Service-Error": "x", "Nats-Service-Error-Code": "409"}
        await bus.client.publish(message.reply, msgspec.json.encode(problem), headers=headers)

    await bus.client.subscribe(STOP.of(TENANT), cb=refuse)
    await bus.client.flush()

    with pytest.raises(Refusal) as refused:
        await asked(place, STOP, stopping())
    assert (refused.value.problem, refused.value.exit) == (problem, 4)


async def test_the_tenant_is_the_named_one_else_the_homes_else_the_default(bus, place):
    async def tenants(message):
        page = admin.TenantPage(items=[admin.Tenant(id=TENANT, label="default", created_at=1.0)])
        await message.respond(msgspec.json.encode(page))

    await bus.client.subscribe(topology.LIST_TENANTS.of(), cb=tenants)
    await bus.client.flush()

    def tenant(where):
        with connect(where) as session:
            return session.tenant

    home = Context(nats_url=place.nats_url, router_url="http://x", tenant="u-aaaaaaaaaaaa")
    change = msgspec.structs.replace
    assert await asyncio.to_thread(tenant, change(place, tenant="")) == TENANT
    place.home.write(home)
    assert await asyncio.to_thread(tenant, change(place, tenant="", nats_url="")) == home.tenant
    assert await asyncio.to_thread(tenant, change(place, tenant="u-bbbbbbbbbbbb")) != home.tenant
    with pytest.raises(InvalidRequestError, match="12 hex digits"):
        await asyncio.to_thread(tenant, change(place, tenant="me"))
