"""Chat completions, completions, embeddings and rerank: one key, one envelope, one stream.

``/v1/rerank`` is no route of OpenAI's. SGLang 0.5.21 reads ``query``, ``documents``, ``top_n`` and
``return_documents``, no ``model``, and knows no stream; it answers a list of ``{"score",
"document", "index", "meta_info"}``. It wants a cross-encoder served with ``--is-embedding``, or a
Qwen3 reranker, known by its chat template. An engine that generates text refuses with a flat error
of status 400; any other embedding model answers 200 with numbers that mean nothing.
"""

from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Refusal
from services.router.core import errors, sse
from services.router.core.dialects.base import bearer


class ChatStream(sse.EventStream):
    """The stream of chat completions and completions; its events have no numbers."""

    seen = 0


class OpenAI:
    """What OpenAI's SDKs speak on all routes but ``/v1/responses``."""

    no_key: ClassVar[str] = "Send it as the header `Authorization: Bearer <key>`."

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return what follows ``Bearer``."""
        return bearer(headers)

    def headers(self, request_id: str) -> errors.Headers:
        """Return nothing: ``x-request-id`` is what OpenAI's SDKs read."""
        del request_id
        return []

    def envelope(self, refusal: Refusal, request_id: str) -> bytes:
        """Return ``{"error": {"message", "type", "param", "code"}}``."""
        del request_id
        return errors.envelope(refusal)

    def error_event(self, refusal: Refusal, request_id: str, seen: int = 0) -> bytes:
        """Return the envelope as an event; no ``[DONE]`` follows it."""
        del seen
        return b"data: " + self.envelope(refusal, request_id) + b"\n\n"

    def stream(self, *, show_usage: bool) -> ChatStream:
        """Return what watches over a stream that ends in ``[DONE]``."""
        return ChatStream(show_usage=show_usage)

    def usage_in(self, body: bytes) -> sse.Usage | None:
        """Return ``prompt_tokens`` and ``completion_tokens``."""
        return sse.usage_in(body)

    def failed_in(self, body: bytes) -> bool:
        """Tell no: here engines fail with a status that says so."""
        del body
        return False

    def meant(self, status: int, body: bytes) -> int:
        """Return ``status``: here engines mean what they say."""
        del body
        return status


class Rerank(OpenAI):
    """``/v1/rerank``: OpenAI's envelope, and an answer that counts tokens by document."""

    def usage_in(self, body: bytes) -> sse.Usage | None:
        """Return the tokens of all documents, each with the query."""
        try:
            scores = _SCORES.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return sse.Usage(sum(score.meta_info.prompt_tokens for score in scores), 0)


class _Meta(Struct, frozen=True):
    prompt_tokens: int


class _Score(Struct, frozen=True):
    meta_info: _Meta


_SCORES = msgspec.json.Decoder(list[_Score])
