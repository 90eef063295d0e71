"""What the router's decisions need from outside."""

from collections.abc import ItemsView, Mapping
from typing import Protocol

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Record
from caravan.contracts.keys import KeyEntry
from services.router.core.answer_head import AnswerHead
from services.router.core.attempts import Failure
from services.router.core.turn import Transport


class Receiver(Protocol):
    """Who the body of an engine's answer goes to, from the event loop.

    ``came`` any number of times, then ``ended`` or ``broke`` once. A piece of one line in one chunk
    that ends with ``tail`` is ordinary: no parser and nobody else need look at it, and it may go
    ``to`` the client at once. A chunk has just ended where there is a tail.
    """

    tail: bytes
    passed: int
    """Bytes written past ``came``; whoever does it counts them here, at the latest at the end."""
    to: Transport

    def came(self, data: bytes) -> None:
        """Take the next bytes of the body, as they stand on the wire."""

    def ended(self) -> None:
        """The answer is whole."""

    def broke(self, failure: Failure, why: str) -> None:
        """There is no more of it."""


class Asker(Protocol):
    """Who an engine's answer goes to."""

    def connected(self, link: "Link") -> None:
        """The request was sent on a connection that had to be opened first."""

    def answered(self, head: AnswerHead) -> Receiver:
        """Take the head of the answer; return who takes its body."""

    def answered_whole(self, head: AnswerHead, body: bytes) -> None:
        """Take an answer with status 200 of which all is there, instead of ``answered``.

        ``body`` is as it stands on the wire; ``headers`` are its own but for ``content-length``.
        """

    def broke(self, failure: Failure, why: str) -> None:
        """There is no answer, and will be none."""

    def crashed(self) -> None:
        """A defect of the router has ended the request; its traceback is logged."""


class Link(Protocol):
    """The connection that serves an asker. For anybody else it is as if it was closed."""

    def heard(self, now: float) -> float:
        """Return when the engine last sent something, or was sent the request, by the coarse clock.

        Not earlier than when this was asked before it did so.
        """

    def let_go(self, asker: Asker) -> None:
        """Need no more of this answer; the connection may be used again."""

    def abort(self, asker: Asker) -> None:
        """Close at once: an engine notices only that its client is gone."""

    def pause(self, asker: Asker) -> None:
        """Read no more of the answer for now."""

    def resume(self, asker: Asker) -> None:
        """Read on."""


class Opening(Protocol):
    """A connection that is being opened."""

    def cancel(self) -> object:
        """Give the call up."""


class Engines(Protocol):
    """Sends requests to engines."""

    def send(self, asker: Asker, url: str, head: bytes, body: bytes) -> Link | None:
        """Send a request on a connection that is kept; what comes of it is told to ``asker``.

        ``url`` is the engine's, without a path. None when there is none: then it is to be opened.
        """

    def open(self, asker: Asker, url: str, head: bytes, body: bytes) -> Opening:
        """Send a request on a new connection; ``asker`` is told of it, or why there is none."""


class Views(Protocol):
    """The live views of three buckets."""

    def fresh(self) -> bool:
        """Whether keys and deployments may be decided on: complete once, and not too old."""

    def key(self, digest: str) -> KeyEntry | None: ...

    async def look_up_key(self, digest: str) -> KeyEntry | None:
        """Ask the bucket; UnavailableError when it does not answer."""

    def deployment(self, key: str) -> DeploymentEntry | None: ...

    async def look_up_deployment(self, key: str) -> DeploymentEntry | None:
        """Ask the bucket; UnavailableError when it does not answer."""

    def deployments(self) -> ItemsView[str, DeploymentEntry]: ...

    def records(self, deployment: str) -> Mapping[str, Record]:
        """Return the records of one deployment by instance."""
