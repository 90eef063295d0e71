"""What an instance is told, what its worker announces, and how it shows that it lives."""

from msgspec import Struct

STARTING = "starting"
LOADING = "loading"
READY = "ready"
DRAINING = "draining"
FAILED = "failed"


class Spec(Struct, frozen=True, kw_only=True):
    """The rendered spec of an instance: fixed by the scheduler when it names the instance."""

    tenant: str
    name: str
    instance: str
    generation: int
    task: str
    source: str
    engine_args: list[str] = []
    """Flags for SGLang beside those that the worker sets itself."""
    drain_s: float = 120.0
    stall_s: float = 120.0
    resources: dict[str, float] = {}
    """``cpu_mhz``, ``memory_mib``, ``gpus``; what is missing is the cluster's default."""


class Record(Struct, frozen=True, kw_only=True, tag="instance.v1"):
    """The value of ``<tenant>.<name>.<instance>`` in the bucket ``instances``.

    Written by the instance's worker, on change only, by compare-and-set.
    """

    incarnation: str
    """A UUID made at the worker's start."""
    term: int
    """Orders incarnations: one more than the record that the worker found; 1 if there was none."""
    generation: int
    state: str
    """starting, loading, ready, draining, failed; a word not known here means not ready"""
    url: str = ""
    """Of the engine, e.g. ``http://127.0.0.1:30000``; empty until it is ready."""
    engine_key: str = ""
    """What the engine wants as Bearer; for routers only, never logged."""
    max_running: int = 32
    max_model_len: int = 0
    """Tokens of prompt and answer together; 0 when the engine does not say."""
    allocation: str = ""
    """What the cluster calls this life of the instance; on Nomad, the allocation."""
    reason: str = ""
    """Why it is failed or draining, in a sentence."""
    last_lines: list[str] = []
    """The end of the engine's output when it failed."""
    since: float = 0.0
    """When this state began, seconds since the epoch."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a worker is with its weights."""

    done_bytes: int
    total_bytes: int = 0
    """0 while unknown."""


class Lease(Struct, frozen=True, kw_only=True, tag="lease.v1"):
    """The value of the same key in the bucket ``leases``: TTL 10 s, renewed every 3 s."""

    incarnation: str
    state: str = STARTING
    running: int = 0
    waiting: int = 0
    cache_hit_rate: float = 0.0
    tokens_per_s: float = 0.0
    progress: Progress | None = None
    last_answer_at: float = 0.0
    """When the engine last gave a token, seconds since the epoch; 0 never."""
