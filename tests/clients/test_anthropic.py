"""What the official Anthropic SDK makes of our answers and refusals."""

import os

import anthropic
import pytest

HELLO = [{"role": "user", "content": "Say this is a test!"}]
LONG = [{"role": "user", "content": "word " * 200_000}]


def official(platform, **options):
    given = {"base_url": platform.base_url.removesuffix("/v1"), "max_retries": 0} | options
    return anthropic.AsyncAnthropic(**given)


async def read(stream, seen):
    """Append each event's type to ``seen``, also those before an error."""
    async for event in stream:
        seen.append(event.type)


@pytest.fixture
async def client(platform):
    async with official(platform, api_key=platform.key) as client:
        yield client


@pytest.fixture
def faults():
    """``extra_body=faults(cut_after=3)``: what only the fake engine can be asked for."""
    if "CARAVAN_TEST_BASE_URL" in os.environ:
        pytest.skip("real engines cannot be asked to break")
    return lambda **plan: {"fake": plan}


@pytest.fixture
def ask(client, platform):
    """``await ask(stream=True)``."""
    body = {"model": platform.model, "messages": HELLO, "max_tokens": 16}
    return lambda **fields: client.messages.create(**body | fields)


async def test_an_answer(ask, platform):
    found = await ask()

    assert (found.type, found.role, found.model) == ("message", "assistant", platform.model)
    assert found.content[0].text
    assert found.stop_reason in {"end_turn", "max_tokens"}
    assert found.usage.output_tokens > 0


async def test_the_key_may_come_as_a_bearer(platform):
    async with official(platform, auth_token=platform.key) as client:
        found = await client.messages.create(model=platform.model, messages=HELLO, max_tokens=16)

    assert found.content[0].text


async def test_a_stream_has_all_its_events_in_order(ask):
    events = [event async for event in await ask(stream=True)]
    kinds = [event.type for event in events if event.type != "content_block_delta"]

    assert kinds == [
        *("message_start", "content_block_start", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert "".join(e.delta.text for e in events if e.type == "content_block_delta")
    assert events[-2].delta.stop_reason in {"end_turn", "max_tokens"}
    assert events[-2].usage.output_tokens > 0


async def test_the_sdk_puts_a_stream_together(client, platform):
    async with client.messages.stream(
        model=platform.model, messages=HELLO, max_tokens=16
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        whole = await stream.get_final_message()

    assert whole.content[0].text == text != ""
    assert whole.stop_reason


async def test_a_wrong_key_is_an_authentication_error(platform):
    async with official(platform, api_key="ck-wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as refusal:
            await client.messages.create(model=platform.model, messages=HELLO, max_tokens=4)

    body = refusal.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "authentication_error"
    assert body["request_id"] == refusal.value.response.headers["x-request-id"]


async def test_an_unknown_model_is_a_not_found_error(ask, platform):
    with pytest.raises(anthropic.NotFoundError) as refusal:
        await ask(model=platform.model + "-none")

    assert refusal.value.body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_engine_refuses_is_a_bad_request_error_with_its_sentence(ask, stream):
    """SGLang says so inside a stream of status 200."""
    with pytest.raises(anthropic.BadRequestError) as refusal:
        await ask(messages=LONG, stream=stream)

    error = refusal.value.body["error"]
    assert error["type"] == "invalid_request_error"
    assert "context length" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_engine_is_overloaded(ask, faults, stream):
    """SGLang hides it behind a 500 in a plain answer, behind a 200 in a stream."""
    with pytest.raises(anthropic.APIStatusError) as refusal:
        await ask(stream=stream, extra_body=faults(status=503))

    assert refusal.value.status_code == 503
    assert refusal.value.body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(
    "plan", [{"cut_after": 3}, {"end_after": 3}, {"error_after": 3}, {"crash_after": 3}], ids=str
)
async def test_a_broken_stream_raises_and_never_stops_as_a_good_one(ask, faults, plan):
    seen = []
    with pytest.raises(anthropic.APIError, match="broke off"):
        await read(await ask(stream=True, extra_body=faults(**plan)), seen)

    assert "content_block_delta" in seen
    assert "message_stop" not in seen
