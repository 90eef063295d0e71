"""What each router process reports every second on ``caravan.report.<run>``; may be lost."""

from msgspec import Struct


class Position(Struct, frozen=True, kw_only=True):
    """How far a view has read."""

    created: str
    """When the stream was created; positions of different streams cannot be compared."""
    sequence: int
    complete: bool = False
    age_s: float = 0.0
    """Since NATS was last heard to say that nothing is missing."""


class DeploymentUse(Struct, frozen=True, kw_only=True):
    """Requests of one deployment at one router process."""

    running: int = 0
    waiting: int = 0
    refused: int = 0
    """Since the process started."""


class InstanceUse(Struct, frozen=True, kw_only=True):
    """What one router process saw of one instance."""

    in_flight: int = 0
    last_answer_at: float = 0.0
    """When it last answered well, seconds since the epoch; 0 never."""
    last_error_at: float = 0.0
    last_error: str = ""
    ejected: bool = False
    """Whether it is used last, until it answers a probe."""
    failures: int = 0
    """In a row, as far as they count against it."""


class Report(Struct, frozen=True, kw_only=True, tag="report.v1"):
    """One router process, once a second. Counts are of now, so the newest report is the truth."""

    run: str
    """A UUID of this life of the process."""
    number: int
    at: float
    """By the router's clock, seconds since the epoch."""
    positions: dict[str, Position] = {}
    """By bucket: ``keys``, ``deployments``, ``instances``."""
    deployments: dict[str, DeploymentUse] = {}
    """By ``<tenant>.<name>``; those with nothing to say are left out."""
    instances: dict[str, InstanceUse] = {}
    """By ``<tenant>.<name>.<instance>``; those with nothing to say are left out."""
    keys: dict[str, int] = {}
    """Requests per key id since the process started."""
    leaving: bool = False
    """The last report of a process that ends: count it no longer."""
