"""Embeddings."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from caravan.testing.engine import bodies
from caravan.testing.engine.answers import vector
from caravan.testing.engine.asked import EMBEDDINGS, texts
from caravan.testing.engine.errors import AbortedError, BrokenOffError, PlannedError, RefusedError
from caravan.testing.engine.pace import Pace
from caravan.testing.engine.plan import in_prompt
from caravan.testing.engine.slots import FULL, FullError
from caravan.testing.engine.state import State
from caravan.testing.engine.wire import Reply

NOT_EMBEDDING = (
    "This model does not appear to be an embedding model by default. Please add"
    " `--is-embedding` when launching the server or try another model."
)


async def reply_vectors(state: State, body: Mapping[str, Any], reply: Reply) -> None:
    """Answer with one vector for each text; raises :class:`RefusedError`."""
    inputs = _inputs(state, body)
    if await in_turn(state, body, inputs[-1], reply):
        _answer(state, inputs, body, reply)


async def in_turn(state: State, body: Mapping[str, Any], text: str, reply: Reply) -> bool:
    """Wait for a turn, and for what the plan says; tell whether an answer is still wanted."""
    plan = state.plan.over(in_prompt(text) | (body.get("fake") or {}))
    with state.open_request(body.get("rid")) as (_, aborted):
        try:
            plan.check_status()
            async with state.slots.one():
                await Pace(plan, reply, aborted).frame(0)
        except FullError as error:
            raise RefusedError(FULL, "503", 503) from error
        except PlannedError as error:
            raise RefusedError("planned by the test", "500", 500) from error
        except AbortedError as error:
            raise RefusedError("Abort in waiting queue") from error
        except BrokenOffError:
            return False
    return True


def _inputs(state: State, body: Mapping[str, Any]) -> list[str]:
    """Return the texts; raises :class:`RefusedError`."""
    form = body.get("encoding_format", "float")
    inputs = texts(EMBEDDINGS, body, "input")
    if form not in {"float", "base64"}:
        raise RefusedError(f"encoding_format must be either 'float' or 'base64', got {form!r}")
    if not inputs or inputs == [""]:
        raise RefusedError("Input cannot be empty")
    _check_blank(inputs, one=isinstance(body["input"], str))
    if not state.options.is_embedding:
        raise RefusedError(NOT_EMBEDDING)
    if body.get("dimensions") is not None:
        raise RefusedError(
            f"Model '{state.options.model_path}' does not support matryoshka representation,"
            " changing output dimensions will lead to poor results."
        )
    _check_length(state, inputs)
    return inputs


def _check_blank(inputs: list[str], *, one: bool) -> None:
    for index, text in enumerate(inputs):
        if not text.strip():
            where = "Input" if one else f"Input at index {index}"
            raise RefusedError(f"{where} cannot be empty or whitespace only")


def _check_length(state: State, inputs: list[str]) -> None:
    most = state.options.context_length or state.model.max_position_embeddings
    longest = max(len(text.split()) for text in inputs)
    if longest >= most:
        raise RefusedError(
            f"The input ({longest} tokens) is longer than the model's context length"
            f" ({most} tokens)."
        )


def _answer(state: State, inputs: list[str], body: Mapping[str, Any], reply: Reply) -> None:
    tokens = sum(len(text.split()) for text in inputs)
    for text in inputs:
        words = text.split()
        state.load.prompt(words, len(words))
    vectors: list[Any] = [vector(text, state.model.hidden_size) for text in inputs]
    if body.get("encoding_format") == "base64":
        packed = [struct.pack(f"<{len(numbers)}f", *numbers) for numbers in vectors]
        vectors = [base64.b64encode(data).decode() for data in packed]
    reply.send(200, bodies.embeddings(state.options.model_path, vectors, tokens))
