"""What all exchanges of a process have in common."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from services.router.api.gate import Gate
from services.router.core.attempts import RetryBudget
from services.router.core.candidates import Targets
from services.router.core.inflight import InFlight
from services.router.core.job import Chances, Clock, Patience
from services.router.core.outliers import Outliers
from services.router.core.ports import Engines
from services.router.core.story import Story
from services.router.core.turn import Turn


class Telling(Protocol):
    """Is told of every request once, at its end."""

    tracing: bool
    """Whether requests want a ``traceparent`` of their own."""

    def traceparent(self, given: bytes) -> bytes:
        """Return what goes to the engine as ``traceparent``; ``given`` came from the client."""

    def ended(self, story: Story, now: float) -> None:
        """Take the story of a request that ended at ``now``, monotonic seconds."""


class Shared(Struct, frozen=True, kw_only=True):
    """The parts that exchanges are given."""

    gate: Gate
    targets: Targets
    in_flight: InFlight
    outliers: Outliers
    budget: RetryBudget
    engines: Engines
    patience: Patience
    chances: Chances
    clock: Clock
    """Set by who looks after the connections."""
    turn: Turn
    telling: Telling
    new_id: Callable[[], str]
    """Makes a request id where the client sent none."""
    body_limit: int
    """Bytes of a request body, expanded."""
