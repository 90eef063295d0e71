"""Request bodies, understood and refused as SGLang does."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from caravan.testing.engine.errors import RefusedError, UnexpectedError
from caravan.testing.engine.plan import in_prompt, without_plan

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"

FILE = "/opt/engine/lib/python3.11/site-packages/sglang/srt/entrypoints/http_server.py"
"""SGLang tells its own path in these errors, and so do we: a router must not pass it on."""
_WHERE = {
    CHAT: (1777, "openai_v1_chat_completions"),
    COMPLETIONS: (1769, "openai_v1_completions"),
    EMBEDDINGS: (1787, "openai_v1_embeddings"),
    RERANK: (2006, "v1_rerank_request"),
    RESPONSES: (1971, "v1_responses_request"),
    MESSAGES: (2065, "anthropic_v1_messages"),
}


Body = dict[str, Any]


class _Abort(Struct):
    rid: str


class Ask(Struct, kw_only=True):
    """One request for text."""

    chat: bool
    model: str
    prompts: list[str]
    """What is answered; for a chat the last message."""
    prompt_tokens: int
    first_words: list[str]
    """Of the whole first prompt, for the prefix cache."""
    limit: int | None
    clipped: bool = False
    """Whether a limit that does not fit is made to, instead of being refused."""
    n: int = 1
    stream: bool
    stops: list[str]
    endless: bool = False
    echo: bool = False
    usage_each: bool = False
    usage: bool = False
    rid: str | None = None
    temperature: float | None = None
    """Where it is told again."""
    changes: dict[str, Any]
    """What the request plans for itself."""


def rid_of(data: bytes) -> str:
    """Return the id that an abort request names."""
    try:
        found = msgspec.json.decode(data, type=_Abort)
    except msgspec.DecodeError as error:
        raise UnexpectedError from error
    return found.rid


def body_of(path: str, content_type: str, data: bytes) -> Body:
    """Return the JSON object of a request; raises :class:`RefusedError`."""
    if content_type.lower().partition(";")[0].strip() != "application/json":
        raise RefusedError(*_unsupported())
    if not data:
        raise invalid(path, ("missing", (), "Field required", None))
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = {"ctx": {"error": str(error)}}
        raise invalid(path, ("json_invalid", (0,), "JSON decode error", {}), detail) from error
    if not isinstance(found, dict) and path in {CHAT, COMPLETIONS, EMBEDDINGS}:
        raise UnexpectedError
    if not isinstance(found, dict):
        said = "Input should be a valid dictionary or object to extract fields from"
        raise invalid(path, ("model_attributes_type", (), said, found))
    return found


def chat(body: Mapping[str, Any]) -> Ask:
    """Return what a chat completion asks; raises :class:`RefusedError`."""
    fields = Fields(CHAT, body)
    texts = [content(CHAT, i, message) for i, message in enumerate(fields.messages())]
    limit = fields.integer("max_completion_tokens", None)
    limit = fields.integer("max_tokens", None) if limit is None else limit
    if limit is not None and limit < 0:
        raise RefusedError(f"max_new_tokens must be at least 0, got {limit}.")
    return _ask(fields, [texts[-1]], " ".join(texts), limit, chat=True)


def completion(body: Mapping[str, Any]) -> Ask:
    """Return what a completion asks; raises :class:`RefusedError`."""
    fields = Fields(COMPLETIONS, body)
    limit = fields.integer("max_tokens", 16)
    if limit is None:
        raise invalid(
            COMPLETIONS, ("int_type", ("max_tokens",), "Input should be a valid integer", None)
        )
    if limit <= 0:
        said = "Value error, max_tokens must be positive"
        raise invalid(COMPLETIONS, ("value_error", ("max_tokens",), said, limit))
    prompts = texts(COMPLETIONS, body, "prompt")
    if not any(prompts):
        raise RefusedError("Prompt cannot be empty")
    return _ask(fields, prompts, " ".join(prompts), limit, chat=False)


def _ask(fields: "Fields", prompts: list[str], whole: str, limit: int | None, *, chat: bool) -> Ask:
    fields.check_temperature()
    words = without_plan(whole).split()
    options = fields.body.get("stream_options") or {}
    stop = fields.body.get("stop") or []
    return Ask(
        chat=chat,
        model=fields.model(),
        prompts=[without_plan(prompt) for prompt in prompts],
        prompt_tokens=max(len(words), 1),
        first_words=words,
        limit=limit,
        n=fields.integer("n", 1) or 1,
        stream=fields.boolean("stream"),
        stops=[stop] if isinstance(stop, str) else stop,
        endless=fields.boolean("ignore_eos"),
        echo=fields.boolean("echo"),
        usage=bool(options.get("include_usage")),
        usage_each=bool(options.get("continuous_usage_stats")),
        rid=fields.body.get("rid"),
        changes=in_prompt(prompts[-1]) | (fields.body.get("fake") or {}),
    )


def texts(path: str, body: Mapping[str, Any], field: str) -> list[str]:
    """Return the texts of ``field``: one or several, as words or as the numbers of tokens."""
    if field not in body:
        raise invalid(path, ("missing", (field,), "Field required", dict(body)))
    value = body[field]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(entry, int) for entry in value):
        return [" ".join(map(str, value))] if value else []
    if isinstance(value, list) and all(isinstance(entry, (str, list)) for entry in value):
        return [e if isinstance(e, str) else " ".join(map(str, e)) for e in value]
    raise invalid(path, ("list_type", (field,), "Input should be a valid list", value))


def content(path: str, index: int, message: object) -> str:
    """Return the text of a message."""
    if not isinstance(message, dict):
        said = "Input should be a valid dictionary or object to extract fields from"
        raise invalid(path, ("model_attributes_type", ("messages", index), said, message))
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        if message.get("role") == "assistant":
            return ""  # it may have called tools instead
        raise invalid(path, ("missing", ("messages", index, "content"), "Field required", message))
    return content


class Fields:
    """The fields of a request body; each is looked at when it is asked for."""

    def __init__(self, path: str, body: Mapping[str, Any]) -> None:
        self.path, self.body = path, body

    def messages(self) -> list[Any]:
        """Return the messages; not one of them is looked at."""
        if "messages" not in self.body:
            raise invalid(self.path, ("missing", ("messages",), "Field required", dict(self.body)))
        messages = self.body["messages"]
        if not isinstance(messages, list):
            raise self._wrong("messages", "list_type", "list")
        if not messages:
            raise RefusedError("Messages cannot be empty.")
        return messages

    def model(self) -> str:
        """Return the model, whatever its name; an adapter is refused."""
        model = self.body.get("model", "default")
        if not isinstance(model, str):
            raise self._wrong("model", "string_type", "string")
        if adapter := model.partition(":")[2].strip():
            raise RefusedError(
                f"LoRA adapter '{adapter}' was requested, but LoRA is not enabled. Please launch"
                " the server with --enable-lora flag and preload adapters using --lora-paths or"
                " /load_lora_adapter endpoint."
            )
        return model

    def integer(self, name: str, default: int | None) -> int | None:
        """Return a whole number."""
        value = self.body.get(name, default)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self._wrong(name, "int_type", "integer")
        return value

    def boolean(self, name: str) -> bool:
        """Return true or false; what is not there is false."""
        value = self.body.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "bool_type", "boolean")
        return value

    def check_temperature(self) -> None:
        """Refuse what is no temperature."""
        value = self.body.get("temperature")
        if value is None:
            return
        if not isinstance(value, (int, float)):
            raise self._wrong("temperature", "float_type", "number")
        if value < 0:
            said = f"temperature must be a non-negative finite number, got {float(value)}."
            raise RefusedError(said)

    def _wrong(self, name: str, kind: str, wanted: str) -> RefusedError:
        said = f"Input should be a valid {wanted}"
        return invalid(self.path, (kind, (name,), said, self.body[name]))


def invalid(
    path: str,
    error: tuple[str, tuple[object, ...], str, object],
    more: Mapping[str, object] | None = None,
) -> RefusedError:
    """Return the refusal of a body whose form is wrong, in the words of FastAPI and SGLang."""
    kind, place, said, value = error
    if path == MESSAGES:
        where = ".".join(str(part) for part in place)
        return RefusedError(f"{where}: {said}" if where else said, "invalid_request_error")
    shown = {"type": kind, "loc": ("body", *place), "msg": said, "input": value} | dict(more or {})
    line, function = _WHERE[path]
    where = f'  File "{FILE}", line {line}, in {function}\n    POST {path}'
    message = f"1 validation error:\n  {shown!r}\n\n{where} {[shown]!r}"
    return RefusedError(message, "Bad Request")


def _unsupported() -> tuple[str, str]:
    said = "Unsupported Media Type: Only 'application/json' is allowed"
    shown = {"loc": ["header", "content-type"], "msg": said, "type": "value_error"}
    return f"1 validation error:\n  {shown!r} {[shown]!r}", "Bad Request"
