"""What is known of one request: filled on its way, told once at its end."""

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


class Story(Struct, kw_only=True):
    """One request, for the log line and the metrics; no part of a prompt or an answer is in it."""

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
    retried: list[str] = []
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

    def line(self, now: float) -> dict[str, Any]:
        """Return the pairs of the log line; what has nothing to say is left out."""
        pairs: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "client": self.client,
            "status": self.status,
            "outcome": self.outcome,
            "ms": round((now - self.began) * 1000, 1),
            "first_byte_ms": round((self.answered - self.began) * 1000, 1) if self.answered else "",
            "code": self.code,
            "key": self.key,
            "deployment": self.deployment,
            "instance": self.instance,
            "stream": self.stream,
            "attempts": self.attempts,
            "retried": self.retried,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "why": self.why,
        }
        if self.usage is not None:
            pairs["prompt_tokens"] = self.usage.prompt_tokens
            pairs["completion_tokens"] = self.usage.completion_tokens
        return {name: value for name, value in pairs.items() if value or name == "status"}
