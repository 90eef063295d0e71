"""The Responses API, key by key as SGLang 0.5.21 has it."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from caravan.testing.engine import bodies
from caravan.testing.engine.answers import Answer
from caravan.testing.engine.asked import RESPONSES, Ask, Fields, content, invalid
from caravan.testing.engine.bodies import Body
from caravan.testing.engine.errors import RefusedError
from caravan.testing.engine.plan import in_prompt, without_plan
from caravan.testing.engine.slots import FULL

HEADROOM = 2
"""So many tokens SGLang says less than it may."""
_STATUS = {"length": "incomplete", "abort": "failed"}
_STORE = (
    "Response store is disabled. Stateful Responses require --enable-response-store on a"
    " standalone server; response storage is unavailable in PD mode."
)


def asked_for(body: Mapping[str, Any], served: str) -> Ask:
    """Return what a request asks of the model ``served``; raises :class:`RefusedError`."""
    fields = Fields(RESPONSES, body)
    texts = _texts(body)
    limit = fields.integer("max_output_tokens", None)
    _check(fields, body, served)
    words = without_plan(" ".join([body.get("instructions") or "", *texts])).split()
    return Ask(
        chat=True,
        model=served,
        prompts=[without_plan(texts[-1])],
        prompt_tokens=max(len(words), 1),
        first_words=words,
        limit=None if limit is None else limit - HEADROOM,
        clipped=True,
        stream=fields.boolean("stream"),
        stops=[stop] if isinstance(stop := body.get("stop") or [], str) else stop,
        rid=body.get("request_id"),
        temperature=None if (warmth := body.get("temperature")) is None else float(warmth),
        changes=in_prompt(texts[-1]) | (body.get("fake") or {}),
    )


def _texts(body: Mapping[str, Any]) -> list[str]:
    if "input" not in body:
        raise invalid(RESPONSES, ("missing", ("input",), "Field required", dict(body)))
    given = body["input"]
    if isinstance(given, str):
        return [given]
    return [content(RESPONSES, i, message) for i, message in enumerate(given)] or [""]


def _check(fields: Fields, body: Mapping[str, Any], served: str) -> None:
    for name in ("previous_response_id", "background"):
        if body.get(name):
            raise RefusedError(_STORE, "invalid_request_error", param=name)
    model = fields.body.get("model", served)
    if model != served:
        said = f"The model '{model}' does not exist"
        raise RefusedError(said, "invalid_request_error", 404, "model")


def error(refused: RefusedError) -> Body:
    """An error in OpenAI's envelope; its code is a number."""
    kind = "invalid_request_error" if refused.kind == "BadRequestError" else refused.kind
    shown = {"message": refused.message, "type": kind, "param": refused.param}
    return {"error": shown | {"code": refused.status}}


class Response:
    """One response."""

    def __init__(self, ask: Ask, rid: str, *, usage: bool) -> None:
        del usage  # it is always told
        self._ask, self._rid = ask, rid if ask.rid else f"resp_{uuid.uuid4().hex}"
        self._item = f"msg_{uuid.uuid4().hex}"
        self._text, self._number, self._end = "", 0, Answer([], "stop", None)
        self._open = False

    def whole(self, answers: list[Answer], cached: int) -> Body:
        """The response, with what was said as one message."""
        answer, text = answers[0], answers[0].text
        used = bodies.usage(self._ask.prompt_tokens, len(answer.pieces), cached)
        status = _STATUS.get(answer.finish_reason, "completed")
        said = [self._message(text)] if text else []
        return self._head(int(time.time())) | {
            "output": said,
            "status": status,
            "usage": _usage(used),
            "error": _aborted(status),
            "incomplete_details": _incomplete(status),
            "reasoning": {"effort": None, "summary": None},
            "text": {"format": {"type": "text"}} if text else None,
        }

    def greeting(self) -> bytes:
        """The response, created and in progress."""
        fresh = self._response("in_progress", None, None)
        created = self._event("response.created", response=fresh)
        return created + self._event("response.in_progress", response=fresh)

    def first(self, index: int, cached: int) -> bytes:
        """Nothing: the message is opened by its first word."""
        del index, cached
        return b""

    def piece(self, index: int, text: str, used: Body | None, end: Answer | None) -> bytes:
        """A delta, if there is a word."""
        del index, used
        self._end = end or self._end
        if not text:
            return b""
        opened = b"" if self._open else self._opened()
        self._text += text
        return opened + self._event(
            "response.output_text.delta", **self._part_place(), delta=text, logprobs=[]
        )

    def last(self, used: Body) -> bytes:
        """The message closed, and the whole response again."""
        status = _STATUS.get(self._end.finish_reason, "completed")
        whole = self._response(status, _usage(used), _aborted(status))
        return self._closed() + self._event(f"response.{status}", response=whole)

    def refuses_inside(self, refused: RefusedError) -> bool:
        """It does for everything that is found after the form was checked."""
        del refused
        return True

    def refusal(self, refused: RefusedError) -> RefusedError:
        """Always 400; another status stands in the message."""
        if refused.status == 400:
            return refused
        message = f"{refused.status}: {refused.message}"
        return RefusedError(message, "invalid_request_error")

    def failure(self, refused: RefusedError, *, begun: bool) -> bytes:
        """The response, failed: without usage when the request was wrong."""
        greeting = b"" if self._number else self.greeting()
        closed = self._closed() if begun else b""
        used = None if refused.status == 400 else _usage(bodies.usage(0, 0, 0))
        # Of a full queue only the sentence is left here; what else fails keeps its status in front.
        bare = refused.status == 400 or refused.message == FULL
        message = refused.message if bare else f"{refused.status}: {refused.message}"
        why = {"code": "server_error", "message": message}
        failed = self._response("failed", used, why)
        return greeting + closed + self._event("response.failed", response=failed)

    def _opened(self) -> bytes:
        self._open = True
        item = self._message("") | {"content": [], "status": "in_progress"}
        added = self._event("response.output_item.added", output_index=0, item=item)
        return added + self._event(
            "response.content_part.added", **self._part_place(), part=_part("")
        )

    def _closed(self) -> bytes:
        if not self._open:
            return b""
        place, text = self._part_place(), self._text
        said = self._event("response.output_text.done", **place, logprobs=[], text=text)
        part = self._event("response.content_part.done", **place, part=_part(text))
        item = self._message(text)
        return said + part + self._event("response.output_item.done", output_index=0, item=item)

    def _part_place(self) -> Body:
        return {"content_index": 0, "item_id": self._item, "output_index": 0}

    def _message(self, text: str) -> Body:
        message = {"id": self._item, "content": [_part(text)], "role": "assistant"}
        return message | {"status": "completed", "type": "message", "phase": "final_answer"}

    def _event(self, name: str, **fields: object) -> bytes:
        data = fields | {"sequence_number": self._number, "type": name}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))

    def _head(self, created: float) -> Body:
        return {
            "id": self._rid,
            "object": "response",
            "created_at": created,
            "model": self._ask.model,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "instructions": None,
            "max_output_tokens": None if self._ask.limit is None else self._ask.limit + HEADROOM,
            "previous_response_id": None,
            "store": True,
            "temperature": self._ask.temperature,
            "top_p": None,
            "truncation": "disabled",
            "user": None,
            "metadata": {},
        }

    def _response(self, status: str, used: Body | None, why: Body | None) -> Body:
        """The response inside an event, which has more keys than a plain one."""
        said = [self._message(self._text)] if self._text and used is not None else []
        nothing = ("background", "conversation", "max_tool_calls", "prompt", "prompt_cache_key")
        more = ("safety_identifier", "service_tier", "top_logprobs")
        form = {"format": {"type": "text"}, "verbosity": None}
        return self._head(float(int(time.time()))) | {
            "error": why,
            "incomplete_details": _incomplete(status),
            "output": said,
            "reasoning": {"effort": None, "generate_summary": None, "summary": None},
            "status": status,
            "text": form if said else None,
            "usage": used,
            **dict.fromkeys(nothing + more),
        }


def _part(text: str) -> Body:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}


def _incomplete(status: str) -> Body | None:
    return {"reason": "max_output_tokens"} if status == "incomplete" else None


def _aborted(status: str) -> Body | None:
    why = {"code": "server_error", "message": "Generation aborted"}
    return why if status == "failed" else None


def _usage(used: Body) -> Body:
    cached = (used["prompt_tokens_details"] or {}).get("cached_tokens", 0)
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used["total_tokens"],
    }
