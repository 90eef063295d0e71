"""What the scheduler says of a deployment to routers, workers and consoles."""

from msgspec import Struct

TEXT_GENERATION = "text-generation"
EMBEDDING = "embedding"
TASKS = (TEXT_GENERATION, "image-understanding", "image-generation", EMBEDDING, "rerank")

SERVE = "serve"
SUSPECT = "suspect"
DRAIN = "drain"

MAX_INSTANCES = 64


class Verdict(Struct, frozen=True, kw_only=True):
    """What the scheduler says of one instance."""

    word: str
    """serve, suspect (use last), drain; a word not known here means no traffic"""
    deadline: float = 0.0
    """When a drain ends at the latest, seconds since the epoch; 0 when there is no drain."""


class DeploymentEntry(Struct, frozen=True, kw_only=True, tag="deployment.v1"):
    """The value of ``<tenant>.<name>`` in the bucket ``deployments``; written by the scheduler."""

    task: str
    generations: list[int]
    """Those that may serve."""
    state: str
    """One of ``STATES`` of ``caravan.contracts.admin``; a word not known here means not ready."""
    verdicts: dict[str, Verdict] = {}
    """By instance; one that is missing gets no traffic."""
    reason: str = ""
    """Why it does not serve, in a sentence; for the message of a 503."""
    policy: str = "least-in-flight"
    limits: dict[str, float] = {}
    drain_s: float = 120.0
    stall_s: float = 120.0
    created_at: float = 0.0
    epoch: int = 0


class Complete(Struct, frozen=True, kw_only=True, tag="complete.v1"):
    """The value of ``_complete`` in a bucket: its owner has compared the whole of it."""

    created: str
    """When the bucket's stream was created, as the server says it; tells streams apart."""
    epoch: int
    """The number of the owner's newest event row."""


COMPLETE_KEY = "_complete"
