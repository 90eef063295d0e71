"""Reranking over bare HTTP: no official SDK knows it."""

import httpx
import pytest

from caravan.testing.engine.process import EngineProcess
from tests.integration.router.world import MODEL, SECRET

BODY = {"model": MODEL, "query": "What is a panda?", "documents": ["hi", "A panda is a bear."]}


@pytest.fixture
async def rerank(world, tmp_path):
    """``await rerank(top_n=1)``: what a deployment of the task ``rerank`` answers."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    engine = EngineProcess(folder, tmp_path / "engine.log", "--is-embedding", name=MODEL)
    with engine:
        await world.serving(engine, engine_key=engine.key, task="rerank")
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with httpx.AsyncClient(base_url=world.base, headers=headers) as client:

            async def ask(path="/v1/rerank", headers=None, **fields):
                return await client.post(path, json=BODY | fields, headers=headers)

            yield ask


def error(answer):
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    return answer.json()["error"]


async def test_every_document_gets_a_score(rerank):
    answer = await rerank()
    scores = answer.json()

    assert answer.status_code == 200
    assert sorted(score["index"] for score in scores) == [0, 1]
    assert all(BODY["documents"][score["index"]] == score["document"] for score in scores)
    assert scores == sorted(scores, key=lambda score: -score["score"])


async def test_the_best_ones_can_be_asked_for_alone(rerank):
    [score] = (await rerank(top_n=1, return_documents=False)).json()

    assert score["score"] == max(one["score"] for one in (await rerank()).json())
    assert "document" not in score


async def test_what_the_engine_refuses_is_told_in_the_envelope_without_its_paths(rerank):
    answer = await rerank(documents=[])

    assert answer.status_code == 400
    assert error(answer)["message"] == "Documents cannot be empty"
    assert "site-packages" not in (await rerank(top_n=0)).text


async def test_a_wrong_key_is_refused(rerank):
    answer = await rerank(headers={"Authorization": "Bearer ck-wrong"})

    assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
async def test_elsewhere_its_model_says_where_to_ask(rerank, path):
    answer = await rerank(path, messages=[], input="x")

    assert answer.status_code == 400
    assert "/v1/rerank" in error(answer)["message"]
