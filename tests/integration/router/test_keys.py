"""Who may ask: 401 only when it is certain, 404 for what belongs to others."""

import time

import pytest

from caravan.contracts import keys
from tests.integration.router.world import MODEL, SECRET, TENANT, body, eventually

OTHER_SECRET = keys.mint(2**254 + 99)
OTHER_TENANT = "u-000000000001"
GONE = [{"state": "revoked"}, {"expires_at": 1.0}, {"state": "frozen-by-a-newer-auth"}]


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer sk-x", SECRET])
async def test_a_missing_or_malformed_key_is_401(world, engine, header):
    await world.serving(engine)

    status, error = await world.refused(
        body(), secret=None, headers={"authorization": header} if header is not None else {}
    )

    assert (status, error["type"], error["code"]) == (
        401,
        "invalid_request_error",
        "invalid_api_key",
    )


async def test_a_mistyped_key_is_401_without_a_look_up(world, engine, nats_server):
    await world.serving(engine)
    await nats_server.stop()
    wrong = SECRET[:-8] + ("x" if SECRET[-8] != "x" else "y") + SECRET[-7:]

    assert (await world.refused(body(), secret=wrong))[0] == 401


@pytest.mark.parametrize("fields", GONE, ids=str)
async def test_a_key_that_may_not_be_used_any_more_is_401(world, engine, fields):
    await world.serving(engine)
    await world.key(OTHER_SECRET, id="k-2", **fields)

    status, error = await world.refused(body(), secret=OTHER_SECRET)

    assert (status, error["code"]) == (401, "invalid_api_key")
    assert OTHER_SECRET not in error["message"]


async def test_a_key_expires_while_the_router_runs(world, engine):
    await world.serving(engine)
    await world.key(OTHER_SECRET, id="k-2", expires_at=time.time() + 3)
    assert (await world.asked(body(), secret=OTHER_SECRET))[0] == 200

    async def expired():
        return (await world.asked(body(), secret=OTHER_SECRET))[0] == 401

    await eventually(expired)


async def test_a_revoked_key_is_refused_as_soon_as_the_bucket_has_it(world, engine):
    await world.serving(engine)
    assert (await world.asked(body()))[0] == 200
    await world.key(state="revoked")

    async def refused():
        return (await world.asked(body()))[0] == 401

    await eventually(refused)


async def test_a_well_formed_key_that_nobody_made_is_401(world, engine):
    await world.serving(engine)

    assert (await world.refused(body(), secret=OTHER_SECRET))[0] == 401


async def test_a_key_that_cannot_be_looked_up_is_503_never_401(world, engine, nats_server):
    await world.serving(engine)
    await nats_server.stop()

    async def unavailable():
        status, headers, found = await world.asked(body(), secret=OTHER_SECRET)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        return found["error"]["code"] == "unavailable"

    await eventually(unavailable)
    assert (await world.asked(body()))[0] == 200


async def test_look_ups_are_bounded_per_client_and_the_rest_is_503(world, engine):
    await world.serving(engine)
    found = [(await world.refused(body(), secret=keys.mint(1000 + n)))[0] for n in range(40)]

    assert found[0] == 401
    assert found[-1] == 503
    assert set(found) == {401, 503}
    assert (await world.asked(body()))[0] == 200


async def test_who_goes_on_asking_for_a_model_that_is_not_there_is_told_so_each_time(world, engine):
    """A refusal by the bound would make the client's SDK ask again."""
    await world.serving(engine)
    gone = [(await world.refused(body(model=f"{TENANT}/gone")))[0] for _ in range(40)]

    assert gone == [404] * 40
    assert (await world.refused(body(model=f"{TENANT}/other")))[0] == 503, "nobody knows"


async def test_who_goes_on_asking_with_a_key_that_nobody_made_is_503_past_the_bound(world, engine):
    """By then it may be made, and a 401 would have the client throw it away."""
    await world.serving(engine)
    wrong = [(await world.refused(body(), secret=OTHER_SECRET))[0] for _ in range(40)]

    assert set(wrong) == {401, 503}
    assert wrong[-1] == 503


async def test_what_was_missing_a_moment_ago_answers_once_it_is_made(world, engine):
    await world.serving(engine)
    late = f"{TENANT}/late"
    for _ in range(40):
        await world.refused(body(model=late))
    await world.deploy(late, ["i-aaaaaa"])
    await world.record("i-aaaaaa", engine.url, late, engine_key="ek-i-aaaaaa")

    async def answers():
        return (await world.asked(body(model=late)))[0] == 200

    await eventually(answers)


async def test_another_tenants_model_does_not_exist(world, engine):
    await world.serving(engine)
    await world.key(OTHER_SECRET, id="k-2", tenant=OTHER_TENANT)

    status, error = await world.refused(body(), secret=OTHER_SECRET)

    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert engine.requests == []


async def test_a_model_outside_the_keys_scopes_does_not_exist(world, engine):
    await world.serving(engine)
    await world.key(OTHER_SECRET, id="k-2", scopes=[f"{TENANT}/else"])

    assert (await world.refused(body(), secret=OTHER_SECRET))[1]["code"] == "model_not_found"


async def test_a_model_within_the_keys_scopes_answers(world, engine):
    await world.serving(engine)
    await world.key(OTHER_SECRET, id="k-2", scopes=[f"{TENANT}/else", MODEL])

    assert (await world.asked(body(), secret=OTHER_SECRET))[0] == 200


async def test_a_model_that_was_just_used_is_still_nobody_elses(world, engine):
    await world.serving(engine)
    other, scoped = keys.mint(2**200 + 1), keys.mint(2**200 + 2)
    await world.key(other, id="k-2", tenant="u-000000000001")
    await world.key(scoped, id="k-3", scopes=[f"{MODEL}-other"])
    assert (await world.asked(body()))[0] == 200

    for secret in (other, scoped):
        status, error = await world.refused(body(), secret=secret)
        assert (status, error["code"]) == (404, "model_not_found")
    assert len(engine.requests) == 1
