"""What is told of a request at its end: counted, written as a line, traced."""

from collections.abc import Callable
from typing import Protocol

import structlog

from caravan.kit import log as logs
from services.router.api.metrics import Metrics
from services.router.core.loudness import Loudness
from services.router.core.story import CANCELLED, CLIENT_GONE, COMPLETE, REFUSED, Story

QUIET = frozenset({"/health", "/ready", "/metrics"})
"""Asked for all day by machines: told at level debug only."""
LATER_S = 0.05
"""So late is told what went well; a process that is killed takes so much of it along."""
MANY = 32
"""So many are told of in the loop's next turn."""


class Tracer(Protocol):
    """Sends spans away, and never waits."""

    def traceparent(self, given: bytes) -> bytes:
        """Return the ``traceparent`` of a new span: below ``given``, if that is well-formed."""

    def ended(self, story: Story, now: float) -> None:
        """Take the span of a request that ended at ``now``, monotonic seconds."""


class Telling:
    """Told of every request once, at its end. To be made after logs are configured.

    Lines: errors always, good requests as far as ``loudness`` lets them; the next line after some
    were left out says how many (``unlogged``).

    What went well is told of a little later, many requests in one go: a client that asks again as
    soon as it has its answer would else wait for what is told of the answer before. ``after`` is
    the loop's ``call_later``; without it everything is told at once.
    """

    def __init__(
        self,
        metrics: Metrics,
        loudness: Loudness,
        tracer: Tracer | None = None,
        after: Callable[[float, Callable[[], None]], object] = lambda _, tell: tell(),
    ) -> None:
        self._observe, self._loudness, self._tracer = metrics.observe, loudness, tracer
        metrics.catch_up = self.tell
        self._after = after
        self._soon = self._later = False
        """Whether it is settled that all is told of in the loop's next turn, or in ``LATER_S``."""
        self._untold: list[tuple[Story, float]] = []
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._write = logs.lines("request")
        self.tracing = tracer is not None
        """Whether requests want a :meth:`traceparent`."""

    def traceparent(self, given: bytes) -> bytes:
        """Return what goes to the engine as ``traceparent``; ``given`` came from the client.

        Where nothing is traced, the client's own travels on.
        """
        return given if self._tracer is None else self._tracer.traceparent(given)

    def ended(self, story: Story, now: float) -> None:
        """Take the story of a request that ended at ``now``, monotonic seconds."""
        self._untold.append((story, now))
        if story.outcome != COMPLETE or len(self._untold) >= MANY:
            if not self._soon:
                self._soon = True
                self._after(0.0, self.tell)
        elif not self._later:
            self._later = True
            self._after(LATER_S, self._tell_later)

    def tell(self) -> None:
        """Tell of all that have ended, now."""
        self._soon = False
        untold, self._untold = self._untold, []
        for story, now in untold:
            self._told(story, now)

    def _tell_later(self) -> None:
        self._later = False
        self.tell()

    def _told(self, story: Story, now: float) -> None:
        if not story.status or not story.outcome:
            _settle(story)
        self._observe(story, now)
        if story.route in QUIET:
            self._log.debug("request", **story.line(now))
        elif self._to_be_told(story, now):
            self._tell(story, now)
        if self._tracer is not None:
            self._tracer.ended(story, now)

    def _to_be_told(self, story: Story, now: float) -> bool:
        good = story.outcome == COMPLETE and story.status < 400
        return not good or self._loudness.take(now)

    def _tell(self, story: Story, now: float) -> None:
        line = story.told(now)
        line.unlogged = self._loudness.untold()
        self._write(line)


def _settle(story: Story) -> None:
    """Give a story its end where nobody did: the client left before there was a status."""
    if not story.status:
        story.status, story.outcome = CLIENT_GONE, story.outcome or CANCELLED
    story.outcome = story.outcome or (COMPLETE if story.status < 400 else REFUSED)
