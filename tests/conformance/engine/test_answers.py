"""What the engines answer has the form of the golden file, which was written by real SGLang."""

import json
import os
from pathlib import Path

import pytest

from tests.conformance.engine import shapes
from tests.conformance.engine.cases import CASES

GOLDEN = Path(__file__).with_name("golden.json")
RECORD = "CARAVAN_RECORD_ENGINE"
"""Set, the golden file is written anew from the answers of real SGLang."""


async def ask(client, engine, case):
    """Return status, content type and bytes of the answer, at the second time of asking."""
    headers = engine.auth | case.headers
    if isinstance(case.body, dict):
        headers = headers | {"Content-Type": "application/json"}
    data = json.dumps(case.body).encode() if isinstance(case.body, dict) else case.body
    method = "GET" if case.body is None else "POST"
    if method == "POST" and isinstance(case.body, bytes):
        headers = {"Content-Type": "application/json"} | headers
    for _ in range(2):  # then the prompt is in the cache, on both
        url = engine.url + case.path
        async with client.request(method, url, data=data, headers=headers) as answer:
            found = answer.status, answer.headers.get("Content-Type", ""), await answer.read()
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_has_the_recorded_form(site, client, case):
    found = shapes.answer(*await ask(client, site.engine(case.task), case))
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if site.kind == "sglang" and RECORD in os.environ:
        golden[case.name] = found
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    elif case.whole:
        assert found == golden[case.name]
    else:
        assert shapes.lacking(golden[case.name], found) == []
