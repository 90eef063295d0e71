"""What SGLang says of its load, and whether it moves."""

from collections.abc import Sequence

from msgspec import Struct


class Load(Struct, frozen=True, kw_only=True):
    """One reading of ``/v1/loads``, all ranks together."""

    running: int = 0
    waiting: int = 0
    cache_hit_rate: float = 0.0
    tokens_per_s: float = 0.0
    max_running: int = 0
    """0 when the engine does not say."""
    mark: tuple[float, ...] = ()
    """Counts that change with every step of the engine's work, and stand still when it hangs."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self.running + self.waiting == 0


class Rank(Struct, frozen=True, kw_only=True):
    """One entry of ``loads``; what is not named here is of no use to a worker."""

    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_used_tokens: int = 0
    total_prefill_uncached_tokens: int = 0
    decode_moments: list[float] | None = None
    max_running_requests: int = 0
    gen_throughput: float = 0.0
    cache_hit_rate: float = 0.0


class Loads(Struct, frozen=True, kw_only=True):
    """The body of ``/v1/loads``."""

    loads: list[Rank]


def combined(ranks: Sequence[Rank]) -> Load:
    """Return the load of an engine from those of its data-parallel ranks."""
    return Load(
        running=sum(rank.num_running_reqs for rank in ranks),
        waiting=sum(rank.num_waiting_reqs for rank in ranks),
        cache_hit_rate=sum(rank.cache_hit_rate for rank in ranks) / max(len(ranks), 1),
        tokens_per_s=sum(rank.gen_throughput for rank in ranks),
        max_running=sum(rank.max_running_requests for rank in ranks),
        mark=tuple(count for rank in ranks for count in _counts(rank)),
    )


def _counts(rank: Rank) -> tuple[float, ...]:
    # Neither the reading's timestamp nor what waits: both move while the work stands still.
    return (
        rank.num_used_tokens,
        rank.total_prefill_uncached_tokens,
        *(rank.decode_moments or ()),
    )
