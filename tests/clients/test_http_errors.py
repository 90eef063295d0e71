"""HTTP.md, the table from its top to "nothing ready": what the official SDK raises for each row.

Bare connections and every odd body: tests/integration/router/test_{refusals,keys,engine_errors}.py.
"""

import logging
import re

import openai
import pytest

from caravan.contracts import keys
from tests.clients.calls import chat, checked, counted, official, post
from tests.integration.router.engine import FLAT, polite
from tests.integration.router.world import CHAT, MODEL, SECRET, TENANT, eventually

OTHER = keys.mint(2**254 + 5)
WHERE = "http://10.0.0.7:30000/v1 (10.0.0.7:30000), /opt/models/qwen/config.json"


async def raised(world, kind, ask=chat, **options):
    """Return the error of type ``kind``, no other, that the official client raises."""
    async with official(world, **options) as client:
        with pytest.raises(kind) as refusal:
            await ask(client)
    assert type(refusal.value) is kind
    return checked(refusal.value)


def says(found, status, headers=""):
    """Return the script of an engine that always answers so."""

    async def script(_, connection):
        await connection.answer(found, status, headers)

    return script


SAID = [
    (400, FLAT | {"message": "bad n"}, openai.BadRequestError, "invalid_request", "bad n"),
    (403, FLAT | {"message": "no"}, openai.PermissionDeniedError, "invalid_request", "no"),
    (404, {"detail": "Not Found"}, openai.NotFoundError, "not_offered", "does not offer"),
    (409, {"error": "twice"}, openai.ConflictError, "invalid_request", "twice"),
    (413, {"detail": "long"}, openai.APIStatusError, "request_too_large", "long"),
    (
        422,
        {"detail": [{"loc": ["body", "n"], "msg": "must be an int"}]},
        openai.UnprocessableEntityError,
        "invalid_request",
        "n: must be an int",
    ),
    (500, b"Traceback", openai.InternalServerError, "engine_failed", "Internal Server Error"),
    (500, b"", openai.InternalServerError, "engine_failed", "Internal Server Error"),
]


async def test_what_an_engine_says_is_a_typed_error_with_its_sentence(world, engine):
    """Row "errors"."""
    await world.serving(engine)

    for status, found, kind, code, message in SAID:
        engine.script = says(found, status)
        error = await raised(world, kind)
        assert (error.status_code, error.code) == (status, code)
        assert error.type == ("invalid_request_error" if status < 500 else "server_error")
        assert message in error.message
    assert len(engine.requests) == len(SAID)


async def test_the_param_that_an_engine_names_is_the_errors_param(world, engine):
    """Row "errors"."""
    engine.script = says(FLAT | {"message": "too high", "param": "temperature"}, 400)
    await world.serving(engine)

    assert (await raised(world, openai.BadRequestError)).param == "temperature"


async def test_no_address_no_path_and_no_header_of_a_machine_shows(world, engine):
    """Row "errors"."""
    engine.script = says(
        FLAT | {"message": f"could not open {WHERE}"},
        500,
        "server: uvicorn\r\nx-machine: /opt/gpu7\r\nset-cookie: a=b\r\n",
    )
    await world.serving(engine)

    error = await raised(world, openai.InternalServerError)

    shown = f"{error} {error.body} {error.response.text} {error.response.headers}"
    assert not re.search(r"10\.0\.0\.7|/opt|uvicorn|set-cookie", shown)
    assert str(engine.port) not in shown
    assert "could not open [address]" in error.message


async def test_a_route_that_is_not_there_is_a_not_found_error(world):
    """Row "errors"."""
    await world.serving()

    error = await raised(
        world,
        openai.NotFoundError,
        lambda c: c.audio.speech.create(model=MODEL, input="x", voice="alloy"),
    )

    assert (error.type, error.code) == ("invalid_request_error", "route_not_found")


async def test_a_method_that_is_not_there_is_405_and_names_the_one_that_is(world):
    """Row "errors"."""
    await world.serving()

    error = await raised(world, openai.APIStatusError, lambda c: c.models.delete(MODEL))
    assert (error.status_code, error.code) == (405, "method_not_allowed")
    assert error.response.headers["allow"]

    error = await raised(
        world, openai.APIStatusError, lambda c: c.get("/chat/completions", cast_to=dict)
    )
    assert (error.status_code, error.code) == (405, "method_not_allowed")
    assert error.response.headers["allow"] == "POST"


async def models(client, **options):
    return await client.models.list(**options)


NO_KEYS = [openai.Omit(), "", "Bearer", "Basic abc", "Bearer sk-1", SECRET, f"Bearer {SECRET[:-1]}"]


@pytest.mark.parametrize(
    "ask", [chat, lambda c, **more: c.models.list(**more)], ids=["chat", "models"]
)
async def test_a_missing_or_malformed_key_is_an_authentication_error(world, ask):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.serving()

    for header in NO_KEYS:
        error = await raised(
            world,
            openai.AuthenticationError,
            lambda c, header=header: ask(c, extra_headers={"Authorization": header}),
        )
        assert (error.type, error.code) == ("invalid_request_error", "invalid_api_key")
        assert SECRET[:-1] not in error.response.text


@pytest.mark.parametrize("fields", [None, {"state": "revoked"}, {"expires_at": 1.0}], ids=str)
async def test_so_is_a_wrong_a_revoked_or_an_expired_one_on_every_route(world, fields):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.serving()
    if fields is not None:
        await world.key(OTHER, id="k-2", **fields)

    for ask in (
        chat,
        lambda c: chat(c, stream=True),
        lambda c: c.completions.create(model=MODEL, prompt="x"),
        lambda c: c.embeddings.create(model=MODEL, input="x"),
        lambda c: c.models.list(),
        lambda c: c.models.retrieve(MODEL),
    ):
        error = await raised(world, openai.AuthenticationError, ask, api_key=OTHER)
        assert (error.type, error.code) == ("invalid_request_error", "invalid_api_key")
        assert OTHER not in error.response.text


async def test_views_that_never_were_complete_are_503_never_401(world):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.key()
    await world.start(start_wait_s=0.2)

    for ask in (chat, lambda c: c.models.list(), lambda c: c.models.retrieve(MODEL)):
        error = await raised(world, openai.InternalServerError, ask)
        assert (error.status_code, error.code) == (503, "unavailable")
        assert error.type == "service_unavailable_error"
        assert int(error.response.headers["retry-after"]) >= 1


async def test_a_key_made_just_now_works_at_once(world, engine):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.serving(engine)
    await world.key(OTHER, id="k-2")

    async with official(world, api_key=OTHER) as client:
        assert (await chat(client)).choices


async def test_a_look_up_that_fails_is_503_never_401(world, engine, nats_server):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.serving(engine)
    await nats_server.stop()

    async def unavailable():
        error = await raised(world, openai.InternalServerError, api_key=OTHER)
        assert error.status_code == 503
        return error.code == "unavailable"

    await eventually(unavailable)


async def test_look_ups_that_are_too_many_are_503_never_401(world, engine):
    """Row "key missing, malformed, wrong, revoked, expired"."""
    await world.serving(engine)
    seen = set()
    for n in range(40):
        async with official(world, api_key=keys.mint(1000 + n)) as client:
            with pytest.raises(openai.APIStatusError) as refusal:
                await chat(client)
        seen.add((refusal.value.status_code, checked(refusal.value).code))

    assert seen == {(401, "invalid_api_key"), (503, "unavailable")}


@pytest.mark.parametrize(
    "model", [f"{TENANT}/none", "u-000000000001/test", "gpt-4o", f"{TENANT}/gone", "a/b/c"]
)
async def test_a_model_that_this_key_cannot_name_is_a_not_found_error(world, model):
    """Row "unknown model, another tenant's, deleted"."""
    await world.serving()
    await world.deploy("u-000000000001/test")
    await world.deploy(f"{TENANT}/gone", state="deleted")

    for ask in (
        lambda c: chat(c, model=model),
        lambda c: chat(c, model=model, stream=True),
        lambda c: c.models.retrieve(model),
    ):
        error = await raised(world, openai.NotFoundError, ask)
        assert (error.type, error.code) == ("invalid_request_error", "model_not_found")
        assert error.param == "model"


async def test_the_list_has_openais_fields_and_only_what_a_request_may_name(world, engine):
    """Row "unknown model, another tenant's, deleted"."""
    await world.serving(engine)
    await world.deploy(f"{TENANT}/sleeps", state="stopped")
    await world.deploy(f"{TENANT}/gone", state="deleted")
    await world.deploy("u-000000000001/test")
    async with official(world) as client:
        await client.models.retrieve(f"{TENANT}/sleeps")
        raw = await client.models.with_raw_response.list()

    assert raw.headers["content-type"] == "application/json"
    found = {one.id: one for one in raw.parse().data}
    assert set(found) == {MODEL, f"{TENANT}/sleeps"}
    one = found[MODEL]
    assert (one.object, one.owned_by, one.created) == ("model", TENANT, 1733724462)
    assert one.max_model_len == 2048


@pytest.mark.parametrize("path", [MODEL, MODEL.replace("/", "%2F")])
async def test_an_id_with_a_slash_is_found_escaped_or_not(world, path):
    """Row "unknown model, another tenant's, deleted"."""
    await world.serving()

    async with official(world) as client:
        found = await client.get(f"/models/{path}", cast_to=openai.types.Model)

    assert found.id == MODEL


UNREADABLE = [
    (b"", None),
    (b"no json", None),
    (b"[]", None),
    (b'{"model":', None),
    (b"{}", "model"),
    (b'{"model":null}', "model"),
    (b'{"model":["x"]}', "model"),
    (b'{"model":"x","stream":"yes"}', "stream"),
]


async def test_they_are_bad_request_errors_that_name_the_field(world):
    """Row "model missing in the body, body that is no JSON"."""
    await world.serving()

    for raw, param in UNREADABLE:
        error = await raised(world, openai.BadRequestError, lambda c, raw=raw: post(c, raw))
        assert (error.type, error.code) == ("invalid_request_error", "invalid_request")
        assert error.param == param


@pytest.mark.parametrize("said", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_json_is_json_whatever_the_content_type_says(world, engine, said):
    """Row "model missing in the body, body that is no JSON"."""
    await world.serving(engine)
    raw = b'{ "model" : "%b" }' % MODEL.encode()

    async with official(world) as client:
        found = await post(client, raw, content_type=said)

    assert found.status_code == 200
    assert engine.requests[0].body == raw
    assert engine.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("state", ["pending", "starting", "failed", "asleep"])
async def test_it_is_503_with_a_time_within_a_minute(world, state, stream):
    """Row "nothing ready"."""
    await world.serving(state=state, reason="waiting for a GPU")

    error = await raised(world, openai.InternalServerError, lambda c: chat(c, stream=stream))

    assert (error.status_code, error.code) == (503, "model_not_ready")
    assert error.type == "service_unavailable_error"
    assert "waiting for a GPU" in error.message
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in headers


async def test_an_engine_that_asks_for_an_hour_is_told_on_as_a_minute(world, engine):
    """Row "nothing ready"."""
    engine.script = says(FLAT, 503, "retry-after: 3600\r\n")
    await world.serving(engine)

    headers = (await raised(world, openai.InternalServerError)).response.headers

    assert (headers["retry-after"], headers["retry-after-ms"]) == ("60", "60000")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_full_engine_is_not_ready_and_no_other_error(world, engine, status):
    """Row "nothing ready"."""
    engine.script = says(FLAT | {"message": "The request queue is full."}, status)
    await world.serving(engine)

    error = await raised(world, openai.InternalServerError)

    assert (error.status_code, error.code) == (503, "model_not_ready")
    assert error.response.headers["retry-after"]


async def test_the_sdk_waits_as_long_as_retry_after_ms_says_and_asks_again(world, engine, caplog):
    """Row "nothing ready"."""

    async def script(request, connection):
        if len(engine.requests) == 1:
            await connection.answer(FLAT, 503, "retry-after: 0.2\r\n")
        else:
            await polite(request, connection)

    engine.script = script
    await world.serving(engine)
    with caplog.at_level(logging.INFO, "openai"):
        async with official(world, max_retries=2) as client:
            found = await chat(client)

    assert found.choices
    # Its own pause would be 0.375 s at the least.
    [wait] = re.findall(
        r"Retrying request to \S+ in ([0-9.]+)|Retrying request in ([0-9.]+)", caplog.text
    )
    assert 0 < float("".join(wait)) <= 0.2
    assert len(engine.requests) == 2
    assert engine.requests[1].headers["x-request-id"]


async def test_the_sdk_gives_up_after_as_many_requests_as_it_was_told(world, engine):
    """Row "nothing ready"."""
    engine.script = says(FLAT, 503, "retry-after: 0.05\r\n")
    await world.serving(engine)

    await raised(world, openai.InternalServerError, max_retries=3)

    async def four():
        return await counted(world, route=CHAT, status="503") == 4

    await eventually(four)
    assert len(engine.requests) == 4


@pytest.mark.parametrize("state", ["stopped", "stopping"])
async def test_a_stopped_model_is_asked_for_once_though_the_sdk_would_retry(world, state):
    """Row "nothing ready"."""
    await world.serving(state=state)

    error = await raised(world, openai.InternalServerError, max_retries=5)

    assert (error.status_code, error.code) == (503, "model_stopped")
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers

    async def told():
        return await counted(world, route=CHAT)

    assert await eventually(told) == 1
