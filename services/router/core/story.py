"""What is known of one request: filled on its way, told once at its end."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct

from services.router.core.sse import Usage

COMPLETE = "complete"
TRUNCATED = "truncated"
CANCELLED = "cancelled"
REFUSED = "refused"
FAILED = "failed"

CLIENT_GONE = 499
"""What the log calls the status of a request whose client left before there was one."""


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

    def line(self, now: float) -> dict[str, Any]:
        """Return the pairs of the log line at ``now``; what has nothing to say is left out."""
        usage = self.usage
        told = {name: value for name, value in zip(_TOLD, _values(self), strict=True) if value}
        told["ms"] = round((now - self.began) * 1000, 1)
        if self.answered:
            told["first_byte_ms"] = round((self.answered - self.began) * 1000, 1)
        if usage is not None:
            told["prompt_tokens"] = usage.prompt_tokens
            if usage.completion_tokens is not None:
                told["completion_tokens"] = usage.completion_tokens
        return told


_TOLD = (
    "request_id",
    "method",
    "path",
    "client",
    "status",
    "outcome",
    "code",
    "key",
    "deployment",
    "instance",
    "stream",
    "attempts",
    "retried",
    "bytes_in",
    "bytes_out",
    "why",
    "trace",
)
_values = attrgetter(*_TOLD)
