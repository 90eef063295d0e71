"""What the official Python SDK makes of our answers and refusals."""

import openai
import pytest

HELLO = [{"role": "user", "content": "Say this is a test!"}]


@pytest.fixture
async def client(platform):
    async with openai.AsyncOpenAI(
        base_url=platform.base_url, api_key=platform.key, max_retries=0
    ) as client:
        yield client


async def test_an_answer(client, platform):
    found = await client.chat.completions.create(
        model=platform.model, messages=HELLO, max_tokens=16
    )

    assert found.model == platform.model
    assert found.choices[0].message.content
    assert found.choices[0].finish_reason in {"stop", "length"}
    assert found.usage.total_tokens > 0
    assert found._request_id


async def test_a_stream_without_usage_has_a_choice_in_every_chunk(client, platform):
    stream = await client.chat.completions.create(
        model=platform.model, messages=HELLO, max_tokens=16, stream=True
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_with_usage_ends_in_it(client, platform):
    stream = await client.chat.completions.create(
        model=platform.model,
        messages=HELLO,
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


async def test_a_completion_plain_and_streamed(client, platform):
    found = await client.completions.create(model=platform.model, prompt="This is", max_tokens=8)
    assert found.choices[0].text

    stream = await client.completions.create(
        model=platform.model, prompt="This is", max_tokens=8, stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream])


async def test_models_are_listed_and_found_by_an_id_with_a_slash(client, platform):
    models = [model.id async for model in client.models.list()]
    assert platform.model in models

    found = await client.models.retrieve(platform.model)
    assert (found.id, found.object) == (platform.model, "model")
    assert found.created > 0
    assert found.owned_by == platform.model.split("/")[0]


async def test_a_wrong_key_is_an_authentication_error(platform):
    async with openai.AsyncOpenAI(base_url=platform.base_url, api_key="ck-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refusal:
            await client.chat.completions.create(model=platform.model, messages=HELLO)

    error = refusal.value
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    assert error.type == "invalid_request_error"
    assert error.request_id


async def test_an_unknown_model_is_a_not_found_error(client, platform):
    with pytest.raises(openai.NotFoundError) as refusal:
        await client.chat.completions.create(model=platform.model + "-none", messages=HELLO)

    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


async def test_what_the_engine_refuses_is_a_bad_request_error_with_its_sentence(client, platform):
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.chat.completions.create(
            model=platform.model, messages=HELLO, max_tokens=10_000_000
        )

    assert refusal.value.type == "invalid_request_error"
    assert "tokens" in refusal.value.message


async def test_embeddings_of_a_model_that_makes_none_are_refused_with_what_to_do(client, platform):
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        await client.embeddings.create(model=platform.model, input="x")


async def test_a_client_that_leaves_a_stream_can_ask_again(client, platform):
    for _ in range(2):
        stream = await client.chat.completions.create(
            model=platform.model, messages=HELLO, max_tokens=16, stream=True
        )
        async for _ in stream:
            break
        await stream.close()

    found = await client.chat.completions.create(model=platform.model, messages=HELLO, max_tokens=4)
    assert found.choices
