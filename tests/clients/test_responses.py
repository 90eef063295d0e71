"""What the official OpenAI SDK makes of our responses."""

import os

import openai
import pytest


async def read(stream, seen):
    """Append each event's type to ``seen``, also those before an error."""
    async for event in stream:
        seen.append(event.type)


@pytest.fixture
async def client(platform):
    async with openai.AsyncOpenAI(
        base_url=platform.base_url, api_key=platform.key, max_retries=0
    ) as client:
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
    body = {"model": platform.model, "input": "Say this is a test!", "max_output_tokens": 64}
    return lambda **fields: client.responses.create(**body | fields)


async def test_an_answer(ask, platform):
    found = await ask()

    assert (found.object, found.model) == ("response", platform.model)
    assert found.output_text
    assert found.status in {"completed", "incomplete"}
    assert found.usage.output_tokens > 0
    assert found._request_id


async def test_a_stream_is_numbered_and_ends_in_the_whole_response(ask):
    events = [event async for event in await ask(stream=True)]
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [e.type for e in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert events[-1].response.output_text == said != ""
    assert events[-1].response.usage.output_tokens > 0


async def test_a_limit_that_is_reached_is_no_failure(ask):
    *_, last = [event async for event in await ask(stream=True, max_output_tokens=5)]

    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"


async def test_a_wrong_key_is_an_authentication_error(platform):
    async with openai.AsyncOpenAI(base_url=platform.base_url, api_key="ck-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refusal:
            await client.responses.create(model=platform.model, input="x")

    assert refusal.value.code == "invalid_api_key"


async def test_an_unknown_model_is_a_not_found_error(ask, platform):
    with pytest.raises(openai.NotFoundError) as refusal:
        await ask(model=platform.model + "-none")

    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_engine_refuses_is_a_bad_request_error_with_its_sentence(ask, stream):
    """SGLang says so in the third event of a stream of status 200."""
    with pytest.raises(openai.BadRequestError) as refusal:
        await ask(input="word " * 200_000, stream=stream)

    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_engine_is_503(ask, faults, stream):
    """SGLang hides it behind a 400 in a plain answer, behind a 200 in a stream."""
    with pytest.raises(openai.InternalServerError) as refusal:
        await ask(stream=stream, extra_body=faults(status=503))

    assert refusal.value.status_code == 503
    assert refusal.value.type == "service_unavailable_error"


@pytest.mark.parametrize(
    "plan", [{"cut_after": 3}, {"end_after": 3}, {"error_after": 3}, {"crash_after": 3}], ids=str
)
async def test_a_broken_stream_raises_and_is_never_completed(ask, faults, plan):
    seen = []
    with pytest.raises(openai.APIError, match="broke off") as broken:
        await read(await ask(stream=True, extra_body=faults(**plan)), seen)

    assert broken.value.code == "engine_failed"
    assert "response.output_text.delta" in seen
    assert not {"response.completed", "response.incomplete"} & set(seen)
