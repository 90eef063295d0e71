"""Responses and messages through the official Node SDKs: one process asks for all of it."""

import json
import os

import pytest

from tests.clients.conftest import NODE, run

ENDS = {
    "responses": {"response.completed", "response.incomplete"},
    "messages": {"message_stop"},
}


@pytest.fixture
async def found(platform, node_modules):
    """What each of the SDKs got."""
    given = {"BASE_URL": platform.base_url, "KEY": platform.key, "MODEL": platform.model}
    if "CARAVAN_TEST_BASE_URL" not in os.environ:  # real engines cannot be asked to break
        given["FAKE"] = json.dumps({"cut_after": 3})
    out, err, status = await run(
        "node", "dialects.cjs", cwd=NODE, NODE_PATH=str(node_modules), **given
    )
    assert (err, status) == ("", 0)
    return json.loads(out)


async def test_node_gets_whole_streams_refusals_and_breaks_of_both_apis(found):
    for name, ends in ENDS.items():
        good, refused, broken = (found.get(f"{name}{end}") for end in ("", " refused", " broken"))

        assert good["error"] is None
        assert good["text"]
        assert good["last"] in ends
        assert good["usage"]["output_tokens"] > 0
        assert refused["error"]["status"] == 404
        assert "does not exist" in refused["error"]["message"]
        if broken:
            assert "broke off" in broken["error"]["message"]
            assert broken["text"]
            assert broken["last"] not in ends
