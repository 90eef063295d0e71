"""The three examples of the product page, with only base URL, key and model changed."""

import json
import shutil
import sys

import pytest

from tests.clients.conftest import HERE, NODE, run

EXAMPLES = HERE / "examples"


async def test_the_curl_example_gets_every_field_of_the_documented_answer(platform):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    out, err, status = await run("sh", "-c", platform.fitted((EXAMPLES / "curl.sh").read_text()))

    assert status == 0, err
    found = json.loads(out)
    assert {"id", "object", "created", "model", "choices", "usage"} <= set(found)
    assert found["object"] == "chat.completion"
    assert found["model"] == platform.model
    [choice] = found["choices"]
    assert choice["index"] == 0
    assert {"role", "content", "tool_calls"} <= set(choice["message"])
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


async def test_curl_streams(platform):
    text = platform.fitted((EXAMPLES / "curl.sh").read_text())
    text = text.replace("curl ", "curl -sN ").replace(
        '"temperature"', '"stream": true, "temperature"'
    )

    out, err, status = await run("sh", "-c", text)

    assert status == 0, err
    events = [line for line in out.split("\n") if line]
    assert all(line.startswith("data: ") for line in events)
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in events[:-1]]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in {"stop", "length"}


async def test_the_python_example_prints_an_answer(platform):
    text = platform.fitted((EXAMPLES / "python.txt").read_text())

    out, err, status = await run(sys.executable, "-c", text)

    assert status == 0, err
    assert out.strip()


async def node(platform, node_modules, path, key=None):
    text = platform.fitted(path.read_text(), key)
    return await run("node", "-e", text, cwd=NODE, NODE_PATH=str(node_modules))


async def test_the_node_example_prints_an_answer(platform, node_modules):
    out, err, status = await node(platform, node_modules, EXAMPLES / "node.cjs")

    assert (err, status) == ("", 0)
    assert out.strip()


async def test_the_node_examples_error_branch_shows_status_message_and_error(
    platform, node_modules
):
    out, err, status = await node(platform, node_modules, EXAMPLES / "node.cjs", key="sk-wrong")

    assert (out, status) == ("", 0)
    first, _, details = err.partition("\n")
    assert first.startswith("API Error: 401 401 ")
    assert "API key" in first
    assert details.startswith("Error details: {")
    assert "code: 'invalid_api_key'" in details
    assert "type: 'invalid_request_error'" in details


async def test_node_streams_with_usage(platform, node_modules):
    out, err, status = await node(platform, node_modules, NODE / "stream.cjs")

    assert (err, status) == ("", 0)
    found = json.loads(out)
    assert found["text"]
    assert found["finish"] in {"stop", "length"}
    assert found["usage"]["completion_tokens"] > 0
