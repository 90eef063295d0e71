"""The JSON that SGLang 0.5.21 answers, key by key."""

import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from caravan.testing.engine.answers import Answer
from caravan.testing.engine.asked import Ask

Body = dict[str, Any]
DONE = b"data: [DONE]\n\n"
VERSION = "0.5.21"


def error(message: str, kind: str, status: int) -> Body:
    """An error, flat as SGLang has it."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


def error_event(message: str, kind: str, status: int) -> bytes:
    """An error inside a stream; SGLang writes this one with spaces."""
    return f"data: {json.dumps({'error': error(message, kind, status)})}\n\n".encode()


def event(body: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def usage(prompt: int, completion: int, cached: int) -> Body:
    """The tokens of a request; the cached ones are told when there are any."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
        "reasoning_tokens": 0,
    }


def whole(ask: Ask, rid: str, answers: list[Answer], cached: int) -> Body:
    """A plain answer."""
    counts = [len(answer.pieces) for answer in answers]
    version = {"version": "default", "start": 0, "end": counts[0]}
    return {
        "id": rid,
        "object": "chat.completion" if ask.chat else "text_completion",
        "created": int(time.time()),
        "model": ask.model,
        "choices": [_choice(ask, index, answer) for index, answer in enumerate(answers)],
        "usage": usage(ask.prompt_tokens, sum(counts), cached),
        "metadata": {"weight_version": "default", "weight_versions": [version]},
    }


def _choice(ask: Ask, index: int, answer: Answer) -> Body:
    if ask.chat:
        message = {"role": "assistant", "content": answer.text}
        said: Body = {"message": message | {"reasoning_content": None, "tool_calls": None}}
    else:
        echo = ask.prompts[index // ask.n] if ask.echo else ""
        said = {"text": echo + answer.text}
    end = {"finish_reason": answer.finish_reason, "matched_stop": answer.matched_stop}
    return {"index": index} | said | {"logprobs": None} | end


class Chunks:
    """The events of one stream."""

    def __init__(self, ask: Ask, rid: str) -> None:
        self._ask = ask
        self._head: Body = {
            "id": rid,
            "object": "chat.completion.chunk" if ask.chat else "text_completion",
            "created": int(time.time()),
            "model": ask.model,
        }

    def role(self, index: int) -> bytes:
        """The first event of a chat's choice."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, text: str, used: Body | None, end: Answer | None) -> bytes:
        """One token; ``end`` is its choice's answer when it is the last one.

        A chat ends in an event of its own, a completion in the event of its last token.
        """
        if not self._ask.chat:
            return self._chunk(index, text, used, end)
        said = self._chunk(index, {"content": text}, used) if text else b""
        return said + (self._chunk(index, {}, None, end) if end else b"")

    def usage(self, used: Body) -> bytes:
        """The last event before ``[DONE]``."""
        if not self._ask.chat:
            used = {name: value for name, value in used.items() if value is not None}
        return event(self._head | {"choices": [], "usage": used})

    def _chunk(
        self, index: int, said: str | Body, used: Body | None = None, end: Answer | None = None
    ) -> bytes:
        last = {
            "logprobs": None,
            "finish_reason": end.finish_reason if end else None,
            "matched_stop": end.matched_stop if end else None,
        }
        if isinstance(said, str):  # a completion always has the key, a chat only with a value
            return event(
                self._head | {"choices": [{"index": index, "text": said} | last], "usage": used}
            )
        delta = {"reasoning_content": None} | said
        choices = {"choices": [{"index": index, "delta": delta} | last]}
        return event(self._head | choices | ({"usage": used} if used else {}))


def embeddings(model_path: str, vectors: list[Any], tokens: int) -> Body:
    """An answer of vectors. SGLang names its folder as the model, not the name it is served by."""
    return {
        "data": [
            {"embedding": vector, "index": index, "object": "embedding"}
            for index, vector in enumerate(vectors)
        ],
        "model": model_path,
        "object": "list",
        "usage": usage(tokens, 0, 0),
    }


def model_card(name: str, max_model_len: int) -> Body:
    """One entry of ``/v1/models``."""
    return {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "sglang",
        "root": name,
        "parent": None,
        "max_model_len": max_model_len,
    }


def model_missing(name: str) -> Body:
    """The one error that SGLang puts into OpenAI's envelope."""
    return {
        "error": {
            "message": f"The model '{name}' does not exist",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
