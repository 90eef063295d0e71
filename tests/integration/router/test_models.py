"""``/v1/models`` lists what a request may name, and nothing else."""

import pytest

from caravan.contracts import keys
from tests.integration.router.world import MODEL, SECRET, TENANT

OTHER = keys.mint(7)


async def get(world, path, secret=SECRET):
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    async with world.http.get(world.base + path, headers=headers) as response:
        return response.status, response.headers, await response.json()


async def test_the_list_is_openais(world, engine):
    await world.serving(engine)

    status, headers, found = await get(world, "/v1/models")

    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert found == {
        "object": "list",
        "data": [
            {
                "id": MODEL,
                "object": "model",
                "created": 1733724462,
                "owned_by": TENANT,
                "max_model_len": 2048,
            }
        ],
    }


@pytest.mark.parametrize("path", [f"/v1/models/{MODEL}", f"/v1/models/{MODEL.replace('/', '%2F')}"])
async def test_one_model_has_a_slash_in_its_id(world, engine, path):
    await world.serving(engine)

    status, _, found = await get(world, path)

    assert (status, found["id"]) == (200, MODEL)


async def test_only_the_keys_own_and_only_those_that_a_request_may_name(world, engine):
    await world.serving(engine)
    await world.deploy(f"{TENANT}/sleeps", state="stopped")
    await world.deploy(f"{TENANT}/gone", state="deleted")
    await world.deploy("u-000000000001/test")
    await world.key(OTHER, id="k-2", scopes=[f"{TENANT}/sleeps"])
    assert (await get(world, f"/v1/models/{TENANT}/sleeps"))[0] == 200
    assert (await get(world, f"/v1/models/{TENANT}/gone"))[0] == 404

    async def ids(secret):
        return [one["id"] for one in (await get(world, "/v1/models", secret))[2]["data"]]

    assert await ids(SECRET) == [f"{TENANT}/sleeps", MODEL]
    assert await ids(OTHER) == [f"{TENANT}/sleeps"]


@pytest.mark.parametrize("path", [f"{TENANT}/none", "u-000000000001/test", "x", "a/b/c"])
async def test_another_one_is_404(world, engine, path):
    await world.serving(engine)
    await world.deploy("u-000000000001/test")

    status, _, found = await get(world, f"/v1/models/{path}")

    assert (status, found["error"]["code"]) == (404, "model_not_found")


async def test_the_list_wants_a_key(world, engine):
    await world.serving(engine)

    status, _, found = await get(world, "/v1/models", secret=None)

    assert (status, found["error"]["code"]) == (401, "invalid_api_key")
