"""The APIs that the router speaks: which route is which, and which models fit it."""

from collections.abc import Mapping
from types import MappingProxyType

from caravan.contracts import deployments
from services.router.core.dialects.anthropic import Anthropic
from services.router.core.dialects.base import Dialect, Stream, broken_off
from services.router.core.dialects.openai import OpenAI, Rerank
from services.router.core.dialects.responses import Responses

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"

_OPENAI = OpenAI()

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        CHAT: _OPENAI,
        COMPLETIONS: _OPENAI,
        EMBEDDINGS: _OPENAI,
        RERANK: Rerank(),
        RESPONSES: Responses(),
        MESSAGES: Anthropic(),
    }
)
"""By route; elsewhere :data:`DEFAULT` is spoken."""
DEFAULT: Dialect = _OPENAI

_TEXT = frozenset({deployments.TEXT_GENERATION, "image-understanding"})
_FITTING = {
    CHAT: _TEXT,
    COMPLETIONS: _TEXT,
    RESPONSES: _TEXT,
    MESSAGES: _TEXT,
    EMBEDDINGS: frozenset({deployments.EMBEDDING}),
    # Not embedding models: SGLang answers for them, with numbers that mean nothing.
    RERANK: frozenset({"rerank"}),
}
_INSTEAD = {
    deployments.TEXT_GENERATION: f"it generates text: use {CHAT}",
    "image-understanding": f"it generates text: use {CHAT}",
    "image-generation": "it makes images: use /v1/images/generations",
    deployments.EMBEDDING: f"it makes embeddings: use {EMBEDDINGS}",
    "rerank": f"it reranks documents: use {RERANK}",
}


def wrong_route(route: str, task: str) -> str | None:
    """Return what a model of ``task`` does, and where, if ``route`` is not for it; else None.

    A task that is not known here may try: its engine knows better.
    """
    if task in _FITTING.get(route, _INSTEAD):
        return None
    return _INSTEAD.get(task)


__all__ = [
    "CHAT",
    "COMPLETIONS",
    "DEFAULT",
    "DIALECTS",
    "EMBEDDINGS",
    "MESSAGES",
    "RERANK",
    "RESPONSES",
    "Dialect",
    "Stream",
    "broken_off",
    "wrong_route",
]
