"""Anthropic's Messages API, key by key as SGLang 0.5.21 has it."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from caravan.testing.engine.answers import Answer
from caravan.testing.engine.asked import MESSAGES, Ask, Fields, content, invalid
from caravan.testing.engine.bodies import Body
from caravan.testing.engine.errors import RefusedError
from caravan.testing.engine.plan import in_prompt, without_plan

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "request_timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def asked_for(body: Mapping[str, Any]) -> Ask:
    """Return what a request asks; raises :class:`RefusedError`."""
    missing = [name for name in ("model", "messages", "max_tokens") if name not in body]
    if missing:
        said = "; ".join(f"{name}: Field required" for name in missing)
        raise RefusedError(said, "invalid_request_error")
    fields = Fields(MESSAGES, body)
    texts = _texts(fields)
    limit = fields.integer("max_tokens", None)
    if limit is not None and limit <= 0:
        said = "Value error, max_tokens must be positive"
        raise invalid(MESSAGES, ("value_error", ("max_tokens",), said, limit))
    system = body.get("system") or ""
    words = without_plan(" ".join([_system(system), *texts])).split()
    return Ask(
        chat=True,
        model=fields.model(),
        prompts=[without_plan(texts[-1])],
        prompt_tokens=max(len(words), 1),
        first_words=words,
        limit=limit,
        stream=fields.boolean("stream"),
        stops=body.get("stop_sequences") or [],
        changes=in_prompt(texts[-1]) | (body.get("fake") or {}),
    )


def _texts(fields: Fields) -> list[str]:
    try:
        messages = fields.messages()
    except RefusedError as refused:
        raise RefusedError(refused.message, "invalid_request_error") from refused
    return [content(MESSAGES, i, message) for i, message in enumerate(messages)]


def _system(system: object) -> str:
    if isinstance(system, list):
        return " ".join(block.get("text", "") for block in system if isinstance(block, dict))
    return str(system)


def error(refused: RefusedError) -> Body:
    """An error in Anthropic's envelope, without an id."""
    kind = _type(refused.status) if refused.kind.isdigit() else refused.kind
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def _type(status: int) -> str:
    return _TYPES.get(status, "api_error")


class Message:
    """One message."""

    def __init__(self, ask: Ask, rid: str, *, usage: bool) -> None:
        del rid, usage  # an id cannot be asked for; usage is always told
        self._ask, self._id = ask, f"msg_{uuid.uuid4().hex}"
        self._end = Answer([], "stop", None)
        self._started = self._open = False
        self._cached = 0

    def whole(self, answers: list[Answer], cached: int) -> Body:
        """The message; one without a word has an empty block."""
        answer = answers[0]
        self._cached = cached
        block = {"type": "text", "text": answer.text}
        said = {"content": [block], "stop_reason": _stop_reason(answer)}
        return self._head(len(answer.pieces)) | said

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def first(self, index: int, cached: int) -> bytes:
        """Nothing: the message is started by its first word."""
        del index
        self._cached = cached
        return b""

    def piece(self, index: int, text: str, used: Body | None, end: Answer | None) -> bytes:
        """A delta, if there is a word."""
        del index, used
        self._end = end or self._end
        if not text:
            return b""
        started = self._start(counted=True) + (b"" if self._open else self._opened())
        delta = {"index": 0, "delta": {"type": "text_delta", "text": text}}
        return started + _event("content_block_delta", **delta)

    def last(self, used: Body) -> bytes:
        """The block closed, why it ends, and the end."""
        ended = {"delta": {"stop_reason": _stop_reason(self._end)}}
        tokens = {"usage": {"output_tokens": used["completion_tokens"]}}
        return (
            self._start(counted=False)
            + self._closed()
            + _event("message_delta", **ended, **tokens)
            + _event("message_stop")
        )

    def refuses_inside(self, refused: RefusedError) -> bool:
        """It does for everything that is found after the form was checked."""
        del refused
        return True

    def refusal(self, refused: RefusedError) -> RefusedError:
        """Its reason is told when the request was wrong, and hidden when the engine is full."""
        if refused.status in {500, 503}:
            return RefusedError("Internal server error", "api_error", 500)
        return refused

    def failure(self, refused: RefusedError, *, begun: bool) -> bytes:
        """An error in a message that is started for it, and ended as if it were a good one."""
        del begun
        why = {"type": _type(refused.status), "message": refused.message}
        started = self._start(counted=False) + self._closed()
        return started + _event("error", error=why) + _event("message_stop")

    def _start(self, *, counted: bool) -> bytes:
        """Start the message once. SGLang knows the prompt's tokens only with a word."""
        if self._started:
            return b""
        self._started = True
        head = self._head(0)
        if not counted:
            head["usage"] = {"input_tokens": 0, "output_tokens": 0}
        return _event("message_start", message=head)

    def _opened(self) -> bytes:
        self._open = True
        return _event("content_block_start", index=0, content_block={"type": "text", "text": ""})

    def _closed(self) -> bytes:
        return _event("content_block_stop", index=0) if self._open else b""

    def _head(self, said: int) -> Body:
        tokens = self._ask.prompt_tokens - self._cached
        usage = {"input_tokens": tokens, "output_tokens": said}
        if self._cached:
            usage["cache_read_input_tokens"] = self._cached
        head = {"id": self._id, "type": "message", "role": "assistant", "content": []}
        return head | {"model": self._ask.model, "usage": usage}


def _stop_reason(answer: Answer) -> str:
    return "max_tokens" if answer.finish_reason == "length" else "end_turn"


def _event(name: str, **fields: object) -> bytes:
    data = {"type": name} | fields
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
