"""What the router's decisions need from outside."""

from collections.abc import ItemsView, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Record
from caravan.contracts.keys import KeyEntry
from services.router.core.attempts import Failure


class AttemptError(Exception):
    """An attempt that failed; ``failure`` says what that allows."""

    def __init__(self, failure: Failure, why: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s
        self.failure = failure
        self.why = why


class Call(Struct, frozen=True, kw_only=True):
    """One request as an engine gets it."""

    url: str
    """Of the engine, without a path."""
    route: str
    engine_key: str
    body: bytes
    request_id: str


class Answer(Protocol):
    """An engine's answer, head first."""

    status: int
    content_type: str
    retry_after_s: float | None
    length: int | None

    async def piece(self, patience_s: float) -> bytes:
        """Return the next bytes, b"" at the end; AttemptError when it breaks or stalls."""


class Engine(Protocol):
    """Sends requests to engines."""

    def send(self, call: Call, patience_s: float) -> AbstractAsyncContextManager[Answer]:
        """Send ``call``; leaving the context early closes the connection at once.

        AttemptError when no head of an answer comes within ``patience_s``.
        """


class Views(Protocol):
    """The live views of three buckets."""

    def fresh(self) -> bool:
        """Whether keys and deployments may be decided on: complete once, and not too old."""

    def key(self, digest: str) -> KeyEntry | None: ...

    async def look_up_key(self, digest: str) -> KeyEntry | None:
        """Ask the bucket once; UnavailableError when it does not answer."""

    def deployment(self, key: str) -> DeploymentEntry | None: ...

    async def look_up_deployment(self, key: str) -> DeploymentEntry | None:
        """Ask the bucket once; UnavailableError when it does not answer."""

    def deployments(self) -> ItemsView[str, DeploymentEntry]: ...

    def records(self, deployment: str) -> Mapping[str, Record]:
        """Return the records of one deployment by instance."""
