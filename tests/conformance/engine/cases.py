"""Requests whose answers have the same form on both engines."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RERANK, RESPONSES, MESSAGES = "/v1/rerank", "/v1/responses", "/v1/messages"
MODEL = "u-0123456789ab/test"
SAY = [{"role": "user", "content": "Say hello to me"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Say hello to me"}]}]
LONG = "word " * 5000
NEVER_END = {"ignore_eos": True, "logit_bias": {"258": -100}}
END = {"logit_bias": {"258": 100}, "min_tokens": 4, "max_tokens": 64}
GOES_ON, ENDS = "What is it?", "zzz"
"""For routes without a bias: asked so at temperature 0, the tiny model goes on or says two words.

To ``SAY`` it says nothing.
"""
LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
AT_ONCE = [*LETTERS, "1"]
"""What either engine begins with."""
USAGE_UNWANTED = {"stream_options": {"include_usage": False}}
USAGE_EACH = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


class Case(NamedTuple):
    name: str
    path: str
    body: object = None
    """A dict goes as JSON, bytes as they are, None is a GET."""
    headers: Mapping = MappingProxyType({})
    task: str = "text"
    whole: bool = True
    """False: the fake knows a part of the keys only."""


def chat(name, **fields):
    return Case(name, CHAT, {"messages": SAY, "max_tokens": 8} | fields)


def completion(name, **fields):
    return Case(name, COMPLETIONS, {"prompt": "Once upon a time", "max_tokens": 8} | fields)


def vector(name, **fields):
    return Case(name, EMBEDDINGS, fields, task="vectors")


def response(name, **fields):
    body = {"model": MODEL, "input": GOES_ON, "max_output_tokens": 6, "temperature": 0}
    return Case(name, RESPONSES, body | fields)


def message(name, *, whole=True, **fields):
    body = {"model": MODEL, "messages": user(GOES_ON), "max_tokens": 4, "temperature": 0}
    return Case(name, MESSAGES, body | fields, whole=whole)


def user(content):
    return [{"role": "user", "content": content}]


def scores(name, task="vectors", *, whole=True, **fields):
    body = {"model": MODEL, "query": "hello", "documents": ["a b", "hello you"]}
    return Case(name, RERANK, body | fields, task=task, whole=whole)


def each(make, name, **fields):
    """Return the case plain and streamed."""
    return make(name, **fields), make(f"{name}, streamed", stream=True, **fields)


CASES = [
    Case("health", "/health"),
    Case("health_generate", "/health_generate"),
    Case("ready", "/ready"),
    Case("models", "/v1/models"),
    Case("model", "/v1/models/u-0123456789ab/test"),
    Case("model unknown", "/v1/models/u-0123456789ab/other"),
    Case("loads", "/v1/loads"),
    Case("loads of vectors", "/v1/loads", task="vectors"),
    Case("model_info", "/model_info", whole=False),
    Case("model_info of vectors", "/model_info", task="vectors", whole=False),
    Case("server_info", "/server_info", whole=False),
    chat("chat to its limit", **NEVER_END),
    chat("chat to its end", **END),
    chat("chat to a stop", stop=LETTERS, **NEVER_END),
    chat("chat of parts", messages=PARTS, **NEVER_END),
    chat("chat without a word", max_tokens=0),
    chat("chat with both limits", max_completion_tokens=4, max_tokens=9, **NEVER_END),
    chat("chat with an unknown field", nobody_knows=1, **NEVER_END),
    chat("chat with another model", model="nobody/else", **NEVER_END),
    chat("chat streamed to its limit", stream=True, **NEVER_END),
    chat("chat streamed to its end", stream=True, **END),
    chat("chat streamed without a word", stream=True, max_tokens=0),
    chat("chat streamed, usage each time", stream=True, **USAGE_EACH, **NEVER_END),
    chat("chat streamed, usage unwanted", stream=True, **USAGE_UNWANTED, **NEVER_END),
    completion("completion to its limit", **NEVER_END),
    completion("completion to its end", **END),
    completion("completion to a stop", stop=LETTERS, **NEVER_END),
    completion("completion of tokens", prompt=[65, 66, 67], **NEVER_END),
    completion("completion with echo", echo=True, **NEVER_END),
    completion("completion streamed to its limit", stream=True, **NEVER_END),
    completion("completion streamed to its end", stream=True, **END),
    completion("completion streamed, usage each time", stream=True, **USAGE_EACH, **NEVER_END),
    completion("completion streamed with echo", stream=True, echo=True, **NEVER_END),
    vector("vector", input="hello there"),
    vector("vectors", input=["hello", "you"]),
    vector("vector of tokens", input=[65, 66]),
    vector("vectors of tokens", input=[[65], [66, 67]]),
    vector("vector as base64", input="hello", encoding_format="base64"),
    vector("vector of a wrong form", input="hello", encoding_format="hex"),
    vector("vector of fewer dimensions", input="hello", dimensions=8),
    vector("vector of nothing", input=""),
    vector("vector of no texts", input=[]),
    vector("vector of blanks", input="  "),
    vector("vector of a blank among texts", input=["hello", ""]),
    vector("vector without input"),
    vector("vector of an object", input={"a": 1}),
    vector("vector of too much", input=LONG),
    Case("vector from a text engine", EMBEDDINGS, {"input": "hello"}),
    Case("no key", "/v1/models", headers={"Authorization": ""}),
    Case("wrong key", CHAT, {"messages": SAY}, {"Authorization": "Bearer wrong"}),
    Case("no key, no route", "/nothing", headers={"Authorization": ""}),
    Case("no key for loads", "/v1/loads", headers={"Authorization": ""}),
    Case("no key for health", "/health", headers={"Authorization": ""}),
    Case("no route", "/nothing"),
    Case("wrong method", CHAT),
    Case("no JSON", CHAT, b"{wrong"),
    Case("no body", CHAT, b""),
    Case("no object", CHAT, b"[]"),
    Case("no UTF-8", CHAT, b'{"messages":"\xff"}'),
    Case("no content type", CHAT, b"{}", {"Content-Type": "text/plain"}),
    Case("no messages", CHAT, {"model": "default"}),
    Case("no message", CHAT, {"messages": []}),
    Case("no content", CHAT, {"messages": [{"role": "user"}]}),
    Case("messages of words", CHAT, {"messages": "hello"}),
    Case("no prompt", COMPLETIONS, {"model": "default"}),
    Case("empty prompt", COMPLETIONS, {"prompt": ""}),
    chat("limit below zero", max_tokens=-1),
    chat("limit of words", max_tokens="many"),
    chat("model of a number", model=5),
    chat("stream of null", stream=None),
    chat("temperature below zero", temperature=-1),
    chat("adapter unknown", model="default:adapter"),
    chat("prompt too long", messages=[{"role": "user", "content": LONG}]),
    chat("prompt too long, streamed", messages=[{"role": "user", "content": LONG}], stream=True),
    chat("limit too large", max_tokens=5000),
    chat("limit too large, streamed", max_tokens=5000, stream=True),
    completion("completion limit of zero", max_tokens=0),
    completion("completion limit of null", max_tokens=None),
    completion("completion prompt too long", prompt=LONG),
    *each(response, "response to its limit"),
    *each(response, "response to a stop", stop=AT_ONCE),
    *each(response, "response to its end", input=ENDS, max_output_tokens=64),
    *each(response, "response to messages", input=user(GOES_ON)),
    *each(response, "response to a prompt too long", input=LONG),
    *each(response, "response with a limit too large", max_output_tokens=5000, stop=AT_ONCE),
    *each(response, "response with a limit below zero", max_output_tokens=-1),
    *each(response, "response of another model", model="nobody/else"),
    *each(response, "response to another one", previous_response_id="resp_1"),
    *each(response, "response in the background", background=True),
    Case("response to nothing", RESPONSES, {"model": MODEL}),
    Case("response to no JSON", RESPONSES, b"{wrong"),
    Case("response to no object", RESPONSES, b"[]"),
    *each(message, "message to its limit"),
    *each(message, "message to a stop", stop_sequences=AT_ONCE),
    # The fake keeps no prompt of one word in its cache.
    *each(message, "message to its end", messages=user(ENDS), max_tokens=64, whole=False),
    *each(message, "message to parts", messages=user([{"type": "text", "text": GOES_ON}])),
    *each(message, "message to a prompt too long", messages=user(LONG)),
    *each(message, "message with a limit too large", max_tokens=5000),
    *each(message, "message of another model", model="nobody/else"),
    *each(message, "message to no message", messages=[]),
    message("message with a limit of zero", max_tokens=0),
    Case("message to nothing", MESSAGES, {"model": MODEL}),
    Case("message to no JSON", MESSAGES, b"{wrong"),
    Case("message to no object", MESSAGES, b"[]"),
    Case("message with a wrong key", MESSAGES, {}, {"Authorization": "Bearer wrong"}),
    scores("scores", whole=False),
    scores("scores, the best one", top_n=1, return_documents=False, whole=False),
    scores("scores of none", top_n=0),
    scores("scores for nothing", query=""),
    scores("scores for a blank", query=" "),
    scores("scores of no documents", documents=[]),
    scores("scores of an empty document", documents=["a", ""]),
    scores("scores of a blank", documents=["a", " "]),
    scores("scores from a text engine", task="text"),
    Case("scores without a query", RERANK, {"documents": ["a"]}, task="vectors"),
]
