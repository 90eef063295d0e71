"""What the fake engine counts of itself, and how SGLang tells it."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from caravan.testing.engine.bodies import VERSION
from caravan.testing.engine.flags import Options
from caravan.testing.engine.slots import Slots


class Load:
    """Counters of one engine."""

    def __init__(self, options: Options, slots: Slots) -> None:
        self._options = options
        self._slots = slots
        self.held = 0
        """Tokens of the requests that run now."""
        self.prompt_tokens = self.cached_tokens = self.said_tokens = 0
        """Of all requests since the start."""
        self._recent: deque[float] = deque(maxlen=4096)
        self._prefixes: set[int] = set()

    def token(self) -> None:
        """Count one token said."""
        self.held += 1
        self.said_tokens += 1
        self._recent.append(time.monotonic())

    def prompt(self, words: Sequence[str], tokens: int) -> int:
        """Count a prompt; return how many of its tokens an earlier one has left in the cache."""
        cached, prefix = 0, 0
        for number, word in enumerate(words[:-1], start=1):  # the last token is always computed
            prefix = hash((prefix, word))
            if prefix in self._prefixes:
                cached = number
            self._prefixes.add(prefix)
        self.prompt_tokens += tokens
        self.cached_tokens += cached
        return cached if self._options.enable_cache_report else 0

    @property
    def throughput(self) -> float:
        """Tokens of the last second."""
        since = time.monotonic() - 1.0
        return float(sum(at > since for at in self._recent))

    @property
    def hit_rate(self) -> float:
        """The part of all prompt tokens that was cached."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def loads(self) -> dict[str, Any]:
        """Return the answer of ``/v1/loads``."""
        return {
            "timestamp": datetime.now(UTC).isoformat(),
            "version": VERSION,
            "accelerator": None,
            "num_accelerators": 1,
            "loads": [self._numbers() | _unused(self._slots.waiting, self._options)],
        }

    def _numbers(self) -> dict[str, Any]:
        running, waiting, total = (
            self._slots.running,
            self._slots.waiting,
            self._options.max_total_tokens,
        )
        steps = float(self.said_tokens)
        return {
            "timestamp": time.time(),
            "dp_rank": 0,
            "num_running_reqs": running,
            "num_waiting_reqs": waiting,
            "num_waiting_uncached_tokens": 0,
            "num_used_tokens": self.held,
            "num_total_tokens": self.held,
            "num_active_tokens": self.held,
            "num_prealloc_ready_tokens": 0,
            "max_total_num_tokens": total,
            "max_running_requests": self._options.max_running_requests,
            "token_usage": self.held / total,
            "gen_throughput": self.throughput,
            "cache_hit_rate": self.hit_rate,
            "utilization": running / self._options.max_running_requests,
            "total_prefill_uncached_tokens": self.prompt_tokens - self.cached_tokens,
            "total_prefill_busy_us": self.prompt_tokens,
            "decode_moments": None if self._options.is_embedding else [steps] * 6,
        }

    def metrics(self) -> str:
        """Return the answer of ``/metrics``, as far as somebody reads it."""
        labels = f'engine_type="unified",model_name="{self._options.served_model_name}"'
        gauges = {
            "num_running_reqs": self._slots.running,
            "num_queue_reqs": self._slots.waiting,
            "token_usage": self.held / self._options.max_total_tokens,
            "cache_hit_rate": self.hit_rate,
            "gen_throughput": self.throughput,
        }
        counters = {
            "prompt_tokens_total": self.prompt_tokens,
            "generation_tokens_total": self.said_tokens,
        }
        kinds = dict.fromkeys(gauges, "gauge") | dict.fromkeys(counters, "counter")
        lines = [
            f"# TYPE sglang:{name} {kinds[name]}\nsglang:{name}{{{labels}}} {float(value)}\n"
            for name, value in (gauges | counters).items()
        ]
        return "".join(lines)


def _unused(waiting: int, options: Options) -> dict[str, Any]:
    """What a worker has no use for; the keys are there as in the real answer."""
    queues = ("prefill_bootstrap", "prefill_inflight", "decode_prealloc", "decode_transfer")
    reqs = {f"{name}_queue_reqs": 0 for name in (*queues, "decode_retracted")}
    memory = {"weight_gb": 0.0, "kv_cache_gb": 0.0, "graph_gb": 0.0}
    speed = {"kv_transfer_speed_gb_s": 0.0, "kv_transfer_latency_ms": 0.0}
    others = {"grammar": 0, "paused": 0, "retracted": 0, "prealloc_ready": 0}
    return {
        "memory": memory | {"token_capacity": options.max_total_tokens},
        "disaggregation": {"mode": "null"} | reqs | speed,
        "queues": {"waiting": waiting} | others,
    }
