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

    ``soon`` is given what tells of all requests that have ended since it was called last: a busy
    router's loop calls it once per turn, for many requests in one go.
    """

    def __init__(
        self,
        metrics: Metrics,
        loudness: Loudness,
        tracer: Tracer | None = None,
        soon: Callable[[Callable[[], None]], object] = lambda tell: tell(),
    ) -> None:
        self._observe, self._loudness, self._tracer = metrics.observe, loudness, tracer
        self._soon = soon
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
        untold = self._untold
        untold.append((story, now))
        if len(untold) == 1:
            self._soon(self._tell_all)

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        for story, now in untold:
            self._told(story, now)

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
