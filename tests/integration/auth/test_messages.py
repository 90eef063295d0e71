"""Every verb of auth, as any NATS client uses it."""

import asyncio
import contextlib

import msgspec
import pytest

from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal
from caravan.contracts.events import Event
from caravan.contracts.keys import well_formed
from caravan.contracts.names import TENANT
from tests.integration.auth.conftest import PATIENCE_S, new_id

OTHER = "u-0123456789ab"


@contextlib.contextmanager
def refused(code, param=None):
    with pytest.raises(RemoteRefusal) as refusal:
        yield refusal
    assert refusal.value.problem.code == code
    if param is not None:
        assert refusal.value.problem.param == param


async def test_a_key_lives_from_create_to_revoke(auth_on_each):
    auth = auth_on_each
    created = await auth.create("ci", scopes=["demo", "demo", "other"])
    assert well_formed(created.secret)
    assert created.key.hint == created.secret[-4:]
    assert not created.accepted
    entry = await auth.entry(created.secret)  # there already: create answers after the bucket
    assert (entry.id, entry.tenant, entry.state) == (created.key.id, auth.tenant, "active")
    assert entry.scopes == [f"{auth.tenant}/demo", f"{auth.tenant}/other"]
    assert await auth.keys() == [created.key]

    ask = admin.RevokeKey(request_id=new_id(), id=created.key.id)
    assert (await auth.ask(topology.REVOKE_KEY, ask)).state == "revoked"
    assert (await auth.entry(created.secret)).state == "revoked"
    assert (await auth.ask(topology.REVOKE_KEY, ask)).state == "revoked"


async def test_rotation_gives_a_new_secret_and_the_old_one_its_grace(auth):
    old = await auth.create("ci", scopes=["demo"])
    ask = admin.RotateKey(request_id=new_id(), id=old.key.id, grace_s=600)
    new = await auth.ask(topology.ROTATE_KEY, ask)
    assert new.secret != old.secret
    assert (new.key.label, new.key.scopes) == ("ci", ["demo"])
    ends = (await auth.entry(old.secret)).expires_at
    assert ends == pytest.approx(new.key.created_at + 600)
    assert (await auth.entry(new.secret)).expires_at is None

    at_once = admin.RotateKey(request_id=new_id(), id=new.key.id)
    await auth.ask(topology.ROTATE_KEY, at_once)
    assert (await auth.entry(new.secret)).expires_at <= (await auth.keys())[-1].created_at
    again = admin.RotateKey(request_id=new_id(), id=new.key.id)
    with refused("key_not_found", "id") as refusal:
        await auth.ask(topology.ROTATE_KEY, again)
    assert "is expired" in refusal.value.problem.message


@pytest.mark.parametrize("verb", ["create", "rotate"])
async def test_a_secret_is_shown_once_and_the_repeat_names_the_key(auth, verb):
    endpoint, ask = topology.CREATE_KEY, admin.CreateKey(request_id=new_id(), label="x")
    if verb == "rotate":
        old = await auth.create("x")
        endpoint, ask = topology.ROTATE_KEY, admin.RotateKey(request_id=new_id(), id=old.key.id)
    made = await auth.ask(endpoint, ask)
    with refused("key_already_shown", made.key.id) as refusal:
        await auth.ask(endpoint, ask)
    assert made.key.id in refusal.value.problem.message
    assert made.secret not in refusal.value.problem.message
    assert len(await auth.keys()) == (2 if verb == "rotate" else 1)


async def test_a_request_id_that_meant_something_else_is_refused(auth):
    ask = admin.CreateKey(request_id="r1", label="a")
    await auth.ask(topology.CREATE_KEY, ask)
    with refused("request_id_reused", "request_id"):
        await auth.ask(topology.CREATE_KEY, msgspec.structs.replace(ask, label="b"))


async def test_of_equal_creates_at_the_same_time_one_shows_the_secret(auth):
    ask = admin.CreateKey(request_id="r1", label="a")
    asking = [auth.ask(topology.CREATE_KEY, ask) for _ in range(8)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(answer, admin.KeyCreated) for answer in answers) == 1
    assert len(await auth.keys()) == 1


async def test_another_tenants_key_is_not_found(auth):
    mine = await auth.create()
    ask = admin.CreateTenant(request_id=new_id(), label="other")
    other = await auth.ask(topology.CREATE_TENANT, ask)
    for endpoint, request in (
        (topology.REVOKE_KEY, admin.RevokeKey(request_id=new_id(), id=mine.key.id)),
        (topology.ROTATE_KEY, admin.RotateKey(request_id=new_id(), id=mine.key.id)),
    ):
        with refused("key_not_found", "id"):
            await auth.ask(endpoint, request, tenant=other.id)
    assert (await auth.ask(topology.LIST_KEYS, admin.ListKeys(), tenant=other.id)).items == []
    assert (await auth.entry(mine.secret)).state == "active"


async def test_a_tenant_that_does_not_exist_has_no_keys(auth):
    for endpoint, request in (
        (topology.CREATE_KEY, admin.CreateKey(request_id=new_id())),
        (topology.LIST_KEYS, admin.ListKeys()),
    ):
        with refused("tenant_not_found", "tenant"):
            await auth.ask(endpoint, request, tenant=OTHER)


async def test_tenants_are_listed_oldest_first_and_labels_told_apart(auth):
    ask = admin.CreateTenant(request_id=new_id(), label="team")
    made = await auth.ask(topology.CREATE_TENANT, ask)
    assert await auth.ask(topology.CREATE_TENANT, ask) == made
    page = await auth.ask(topology.LIST_TENANTS, admin.ListTenants())
    assert [tenant.label for tenant in page.items] == ["default", "team"]
    assert all(TENANT.fullmatch(tenant.id) for tenant in page.items)
    with refused("name_taken", "label"):
        again = admin.CreateTenant(request_id=new_id(), label="team")
        await auth.ask(topology.CREATE_TENANT, again)


WRONG = [
    (admin.CreateKey(request_id="r1", label="x" * 101), "label"),
    (admin.CreateKey(request_id="r2", label="a\nb"), "label"),
    (admin.CreateKey(request_id="r3", expires_in_s=0), "expires_in_s"),
    (admin.CreateKey(request_id="r4", expires_in_s=-5), "expires_in_s"),
    (admin.CreateKey(request_id="r5", expires_in_s=1e300), "expires_in_s"),
    (admin.CreateKey(request_id="r6", scopes=["No Name"]), "scopes"),
    (admin.CreateKey(request_id="", label="x"), "request_id"),
]


async def test_a_wrong_field_is_named_and_nothing_is_made(auth):
    for ask, param in WRONG:
        with refused("invalid_request", param):
            await auth.ask(topology.CREATE_KEY, ask)
    assert await auth.keys() == []


async def test_keys_are_listed_in_pages_oldest_first(auth):
    made = [(await auth.create(str(number))).key.id for number in range(5)]
    found, cursor = [], ""
    for _ in range(3):
        ask = admin.ListKeys(cursor=cursor, limit=2)
        page = await auth.ask(topology.LIST_KEYS, ask)
        found += [key.id for key in page.items]
        cursor = page.cursor
    assert (found, cursor) == (made, "")
    with refused("invalid_request", "cursor"):
        await auth.ask(topology.LIST_KEYS, admin.ListKeys(cursor="k-nonsense"))
    with refused("invalid_request", "limit"):
        await auth.ask(topology.LIST_KEYS, admin.ListKeys(limit=0))


async def test_what_happened_is_told_with_who_asked_and_without_secrets(auth):
    ask = admin.CreateKey(request_id=new_id(), label="ci")
    made = await auth.ask(topology.CREATE_KEY, ask, actor="alice")
    revoke = admin.RevokeKey(request_id=new_id(), id=made.key.id)
    await auth.ask(topology.REVOKE_KEY, revoke, actor="bob")
    events, texts = [], []
    subscription = await auth.bus.js.subscribe("caravan.events.>", ordered_consumer=True)
    for _ in range(3):
        message = await subscription.next_msg(PATIENCE_S)
        texts.append(message.data.decode())
        events.append(msgspec.json.decode(message.data, type=Event))
    assert [(e.number, e.kind, e.what, e.actor) for e in events] == [
        (1, "tenant", "created", ""),
        (2, "key", "created", "alice"),
        (3, "key", "revoked", "bob"),
    ]
    assert made.secret not in "".join(texts)
    log = (auth.folder / "auth.log").read_text()
    assert made.secret not in log
    assert "admin.answered" in log
