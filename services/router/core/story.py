"""What is known of one request: filled on its way, told once at its end."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Refusal
from services.router.core.errors import EngineRefusal
from services.router.core.sse import Usage

COMPLETE = "complete"
TRUNCATED = "truncated"
CANCELLED = "cancelled"
REFUSED = "refused"
FAILED = "failed"

CLIENT_GONE = 499
"""What the log calls the status of a request whose client left before there was one."""


def why(refusal: Refusal) -> str:
    """Return what a story may tell of ``refusal``: an engine's own words may quote a prompt."""
    if isinstance(refusal, EngineRefusal):
        return f"the engine answered {refusal.status}"
    return refusal.problem.message


class Story(Struct, kw_only=True, gc=False):
    """One request, for log, metrics and trace; no part of a prompt or an answer is in it.

    Made once per request, so its defaults are constants; nothing in it points back to it.
    """

    request_id: str
    method: str
    path: str
    client: str
    began: float
    """Monotonic seconds, as are the other times."""
    origin: bool = False
    """Whether it came from a browser's page, so that answers carry the CORS headers."""
    route: str = ""
    """One of our own; empty where there is none."""
    key: str = ""
    deployment: str = ""
    instance: str = ""
    stream: bool = False
    attempts: int = 0
    retried: Sequence[str] = ()
    """Why each attempt but the last failed."""
    status: int = 0
    code: str = ""
    """Of the refusal, if it was one."""
    outcome: str = ""
    answered: float = 0.0
    """When the head of the answer was sent; 0 never."""
    bytes_in: int = 0
    bytes_out: int = 0
    usage: Usage | None = None
    why: str = ""
    traceparent: str = ""
    """The client's, as it came; empty where there was none."""
    trace: str = ""
    """The ``traceparent`` that the engine got of us; empty where nothing is traced."""

    def told(self, now: float) -> "Line":
        """Return what the log says of this request, which ended at ``now``."""
        line = Line(*_told(self))
        line.ms = _ms(now - self.began)
        if self.answered:
            line.first_byte_ms = _ms(self.answered - self.began)
        if self.usage is not None:
            line.prompt_tokens = self.usage.prompt_tokens
            line.completion_tokens = self.usage.completion_tokens
        return line

    def line(self, now: float) -> dict[str, Any]:
        """Return :meth:`told` as pairs; what has nothing to say is left out."""
        return dict(msgspec.to_builtins(self.told(now)))


class Line(Struct, omit_defaults=True, gc=False):
    """The pairs of a request's line in the log; encoded, what has nothing to say is left out."""

    request_id: str
    method: str
    path: str
    client: str
    status: int
    outcome: str = ""
    code: str = ""
    key: str = ""
    deployment: str = ""
    instance: str = ""
    stream: bool = False
    attempts: int = 0
    retried: Sequence[str] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    why: str = ""
    trace: str = ""
    ms: float = -1.0
    """From the request's head to its end; the fields above are those of the story."""
    first_byte_ms: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    unlogged: int = 0
    """Lines left out since the one before."""


_told = attrgetter(*Line.__struct_fields__[: Line.__struct_fields__.index("ms")])


def _ms(seconds: float) -> float:
    return round(seconds * 10_000) / 10
