"""Which instance answers a request. A policy sees values and returns a choice: no I/O, no clock."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.router.core.policies.asks import Ask, Candidate
from services.router.core.policies.least_in_flight import LeastInFlight

__all__ = ["DEFAULT", "POLICIES", "Ask", "Candidate", "LeastInFlight", "Policy", "policy"]


class Policy(Protocol):
    """Pick one of ``candidates`` (never empty)."""

    def choose(self, ask: Ask, candidates: Sequence[Candidate]) -> Candidate: ...


DEFAULT = "least-in-flight"
POLICIES: Mapping[str, Policy] = {DEFAULT: LeastInFlight()}
"""By the name that a deployment's entry carries; one file each."""


def policy(name: str) -> Policy:
    """Return the policy called ``name``, or the default for one of a newer scheduler."""
    return POLICIES.get(name, POLICIES[DEFAULT])
