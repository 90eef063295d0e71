"""The engine's side of an exchange: which instance is asked, and what becomes of the attempt.

At most one attempt at a time; a new one only while the client has nothing. What a failure allows
stands in :mod:`services.router.core.attempts`.
"""

from typing import Protocol
from urllib.parse import urlsplit

from caravan.contracts.errors import Refusal
from services.router.api.answering import Answer, Answering
from services.router.api.answers import answer, pass_whole
from services.router.api.shared import Shared
from services.router.core import admission, asked
from services.router.core.answer_head import AnswerHead
from services.router.core.attempts import Attempts, Failure
from services.router.core.candidates import Target
from services.router.core.errors import EngineFailedError, HttpRefusal, NotReadyError
from services.router.core.outliers import is_failure
from services.router.core.policies import Ask, Candidate
from services.router.core.ports import Link, Opening


class Exchange(Answering, Protocol):
    """What the engine's side needs of the client's."""

    body: bytes
    trace: bytes
    """The header line ``traceparent``, or nothing."""

    def refuse(self, refusal: Refusal) -> None:
        """Answer with ``refusal``."""

    def crashed(self) -> None:
        """A defect has ended it."""

    def waits(self) -> bool:
        """Tell whether the client reads too slowly for what was written."""


class Asking:
    """Asks instances of one deployment for an answer to one request."""

    _attempts: Attempts | None = None
    _candidate: Candidate | None = None
    _link: Link | None = None
    _opening: Opening | None = None
    _answer: Answer | None = None

    def __init__(self, exchange: Exchange, shared: Shared, target: Target) -> None:
        self._exchange, self._shared, self._target = exchange, shared, target

    # Attempts

    def ask(self) -> None:
        """Send the request to an instance that has not had it; refuse it if there is none.

        There is no pause between the choice and the count: what the views say is obeyed.
        """
        shared, exchange = self._shared, self._exchange
        choices = self._target.choose_from(self._attempts.tried if self._attempts else ())
        if len(choices) > 1:
            candidate = self._target.policy.choose(Ask(shared.chances.draw()), choices)
        elif choices:
            candidate = choices[0]
        else:
            exchange.refuse(self._exhausted(None, ""))
            return
        candidate.in_flight += 1
        self._candidate = candidate
        exchange.story.attempts += 1
        exchange.story.instance = candidate.instance
        url, head = candidate.record.url, self._head(candidate)
        # A second attempt takes no kept connection: that one may have been closed meanwhile too.
        again = self._attempts is not None
        link = None if again else shared.engines.send(self, url, head, exchange.body)
        self._link = link
        if link is None:
            self._opening = shared.engines.open(self, url, head, exchange.body)
        elif exchange.waits():
            link.pause(self)

    def _head(self, candidate: Candidate) -> bytes:
        exchange = self._exchange
        begin = candidate.heads.get(exchange.route)
        if begin is None:
            begin = candidate.heads[exchange.route] = _begin(candidate, exchange.route)
        return b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n" % (
            begin,
            exchange.story.request_id.encode(),
            exchange.trace,
            len(exchange.body),
        )

    def failed(self, failure: Failure, why: str, *, status: int = 0, wait: bytes = b"") -> None:
        """Give an attempt up; ask another instance if what happened allows it.

        ``status`` and ``wait`` (``Retry-After``) are the engine's, where it said so itself.
        """
        candidate, shared, story = self._candidate, self._shared, self._exchange.story
        assert candidate is not None
        self._leave()
        now = shared.chances.monotonic()
        self._hold_against(candidate, failure, why, now, status=status, wait=wait)
        attempts = self._attempts = self._attempts or Attempts(shared.budget)
        attempts.begin(candidate.key)
        target = shared.targets.of(story.deployment, self._target.name, now) or self._target
        self._target = target
        others = bool(target.choose_from(attempts.tried))
        if attempts.may_go_on(failure, candidate.key, now, others=others):
            story.retried = (*story.retried, failure.value)
            self.ask()
        else:
            self._exchange.refuse(self._exhausted(failure, why))

    def _exhausted(self, failure: Failure | None, why: str) -> HttpRefusal:
        model, target = self._exchange.story.deployment, self._target
        if failure is None:
            return admission.no_instance(model, target.entry)
        self._exchange.story.why = why
        match failure:
            case Failure.BROKEN | Failure.STALE:
                return EngineFailedError(
                    f"An instance of {model} took the request and failed. Send it again, "
                    "or a smaller one if it fails again."
                )
            case Failure.REFUSED:
                now = self._shared.chances.monotonic()
                wait_s = self._shared.targets.standing.wait_s(target.keys(), now)
                return NotReadyError(
                    f"Every instance of {model} is full at the moment. Try again later.",
                    retry_after_s=wait_s or admission.RETRY_SOON_S,
                )
            case _:
                return NotReadyError(
                    f"No instance of {model} can be reached. Try again later.",
                    retry_after_s=admission.RETRY_SOON_S,
                )

    # What the connection to the engine tells

    def connected(self, link: Link) -> None:
        self._link, self._opening = link, None
        if self._exchange.waits():
            link.pause(self)

    def answered(self, head: AnswerHead) -> Answer:
        self._answer = answer(self, self._exchange, head)
        return self._answer

    def answered_whole(self, head: AnswerHead, body: bytes) -> None:
        if not pass_whole(self, self._exchange, head, body):
            answered = self.answered(head)
            answered.came(body)
            answered.ended()

    def broke(self, failure: Failure, why: str) -> None:
        self._opening = None
        self.failed(failure, why)

    def crashed(self) -> None:
        self._exchange.crashed()

    # What the answer tells

    def well(self) -> None:
        """The engine has answered well; nothing more is needed of it."""
        candidate, shared = self._candidate, self._shared
        assert candidate is not None
        candidate.last_answer_at = shared.chances.now()
        if shared.outliers.good(candidate.key):
            shared.targets.changed_instance(candidate.key)
        link, self._link = self._link, None
        if link is not None:
            link.let_go(self)

    def badly(self, why: str, status: int = 0) -> None:
        """The engine has answered, but broke off or failed with ``status``."""
        candidate, now = self._candidate, self._shared.chances.monotonic()
        assert candidate is not None
        self._hold_against(candidate, Failure.BROKEN, why, now, status=status)

    # What the client and the clock tell

    def look(self, now: float) -> None:
        """Give up an engine that is silent for too long, unless the client is the slow one."""
        link, patience = self._link, self._shared.patience
        if link is None or self._exchange.waits():
            return
        begun = self._answer is not None and self._answer.begun
        patience_s = patience.between_s if begun else patience.first_byte_s
        if now - link.heard(now) < patience_s:
            return
        receiver = self._answer or self
        link.abort(self)
        receiver.broke(Failure.BROKEN, f"the engine sent nothing for {patience_s:g} s")

    def pause(self) -> None:
        """Read no more of the answer: the client does not keep up."""
        if self._link is not None:
            self._link.pause(self)

    def resume(self) -> None:
        """Read on."""
        if self._link is not None:
            self._link.resume(self)

    def over(self) -> None:
        """Leave nothing counted or open."""
        answer = self._answer
        self._leave()
        if answer is not None:
            self._exchange.sent += answer.passed

    def stop(self) -> None:
        """End what the client has of a stream as not complete: the router stops."""
        if self._answer is not None:
            self._answer.stop()

    # The rest

    def _leave(self) -> None:
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            candidate.in_flight -= 1
        link, opening = self._link, self._opening
        self._link = self._opening = self._answer = None
        if link is not None:
            link.abort(self)
        elif opening is not None:
            opening.cancel()

    def _hold_against(  # noqa: PLR0913 - what happened, in full
        self,
        candidate: Candidate,
        failure: Failure,
        why: str,
        now: float,
        *,
        status: int = 0,
        wait: bytes = b"",
    ) -> None:
        shared, targets = self._shared, self._shared.targets
        candidate.last_error_at, candidate.last_error = shared.chances.now(), why
        wait_s = asked.seconds(wait)
        if failure is Failure.UNAUTHORIZED:
            targets.standing.unauthorized(candidate.key, candidate.record)
        elif wait_s is not None:
            targets.standing.refuses_until(candidate.key, now + wait_s)
        connection = failure is Failure.NEVER_DELIVERED
        broken = failure is Failure.BROKEN and not status
        if connection or broken or is_failure(status):
            shared.outliers.failed(
                candidate.key,
                now,
                connection=connection,
                why=why,
                life=candidate.record.incarnation,
            )
        targets.changed_instance(candidate.key)


def _begin(candidate: Candidate, route: str) -> bytes:
    """Return what every request to this instance on this route begins with."""
    record = candidate.record
    key = f"authorization: Bearer {record.engine_key}\r\n" if record.engine_key else ""
    host = urlsplit(record.url).netloc
    return (
        f"POST {route} HTTP/1.1\r\nhost: {host}\r\n{key}content-type: application/json\r\n"
    ).encode()
