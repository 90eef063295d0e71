"""Scores of documents for a query."""

from collections.abc import Mapping
from typing import Any

from caravan.testing.engine.answers import vector
from caravan.testing.engine.asked import RERANK, Fields, invalid
from caravan.testing.engine.bodies import Body
from caravan.testing.engine.errors import RefusedError
from caravan.testing.engine.state import State
from caravan.testing.engine.vectors import NOT_EMBEDDING, in_turn
from caravan.testing.engine.wire import Reply


async def reply_scores(state: State, body: Mapping[str, Any], reply: Reply) -> None:
    """Answer with one score for each document; raises :class:`RefusedError`."""
    documents, top_n = _documents(state, body)
    if await in_turn(state, body, documents[-1], reply):
        scores = [_score(state, body, index, text) for index, text in enumerate(documents)]
        scores.sort(key=lambda score: -score["score"])
        reply.send(200, scores[:top_n])


def _documents(state: State, body: Mapping[str, Any]) -> tuple[list[str], int | None]:
    for name in ("query", "documents"):
        if name not in body:
            raise invalid(RERANK, ("missing", (name,), "Field required", dict(body)))
    top_n = Fields(RERANK, body).integer("top_n", None)
    if top_n is not None and top_n < 1:
        said = "Value error, Value error, parameter top_n should be larger than 0."
        raise invalid(RERANK, ("value_error", ("top_n",), said, top_n))
    if not body["query"].strip():
        raise RefusedError("Query cannot be empty" + _blank(body["query"]))
    if not body["documents"]:
        raise RefusedError("Documents cannot be empty")
    for text in body["documents"]:
        if not text:
            raise RefusedError("Each document must be a non-empty string")
        if not text.strip():
            raise RefusedError("Each document cannot be empty or whitespace only")
    if not state.options.is_embedding:
        raise RefusedError(NOT_EMBEDDING)
    return body["documents"], top_n


def _blank(text: str) -> str:
    return " or whitespace only" if text else ""


def _score(state: State, body: Mapping[str, Any], index: int, text: str) -> Body:
    """A number that is the same for the same two texts."""
    words = f"{body['query']} {text}".split()
    state.load.prompt(words, len(words))
    number = vector(" ".join(words), 2)[0]
    document = {"document": text} if body.get("return_documents", True) else {}
    meta = {"id": f"{index}", "finish_reason": {"type": "length", "length": 0}}
    told = {"prompt_tokens": len(words), "weight_version": "default", "num_retractions": 0}
    return {"score": number} | document | {"index": index, "meta_info": meta | told}
