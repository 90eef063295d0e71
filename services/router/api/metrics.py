"""What Prometheus may read of a router process; docs/reference/metrics.md tells what each means.

Counted in plain numbers, since ``labels()`` of the client library costs more per request than all
that stands here; they become metrics when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from caravan.contracts import names
from services.router.core.inflight import InFlight
from services.router.core.loudness import Loudness
from services.router.core.story import Story

FIRST_BYTE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
DURATION_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
DEPLOYMENTS = 1000
"""So many have their tokens counted by name; those that come later are ``other`` together."""
OTHER = "other"


class Held(Protocol):
    """What is held against an instance."""

    @property
    def ejected(self) -> bool: ...


class Outliers(Protocol):
    """Who knows which instances are ejected, by their key in the bucket ``instances``."""

    @property
    def ejections(self) -> int: ...

    def seen(self) -> Mapping[str, Held]: ...


class _Ended:
    """Requests that ended alike: of one route, status and outcome."""

    __slots__ = ("count", "duration", "duration_s", "first_byte", "first_byte_s")

    def __init__(self) -> None:
        self.count = 0
        self.first_byte = [0] * (len(FIRST_BYTE_S) + 1)
        """One count per bucket, the last for what is above all bounds."""
        self.first_byte_s = 0.0
        self.duration = [0] * (len(DURATION_S) + 1)
        self.duration_s = 0.0

    def time(self, first_byte_s: float, duration_s: float) -> None:
        self.first_byte[bisect_left(FIRST_BYTE_S, first_byte_s)] += 1
        self.first_byte_s += first_byte_s
        self.duration[bisect_left(DURATION_S, duration_s)] += 1
        self.duration_s += duration_s


_AllEnded = Mapping[tuple[str, int, str], _Ended]


class Metrics:
    """Counts every story; what is a matter of the moment is read when it is asked for."""

    def __init__(
        self,
        in_flight: InFlight,
        ages: Callable[[], dict[str, float]],
        outliers: Outliers | None = None,
        loudness: Loudness | None = None,
    ) -> None:
        self._ended: dict[tuple[str, int, str], _Ended] = {}
        self._retries: Counter[str] = Counter()
        self._tokens: dict[str, list[int]] = {}
        self.catch_up: Callable[[], None] = lambda: None
        """Counts what has ended and was not observed yet; called before anybody reads."""
        self.registry = CollectorRegistry()
        self.registry.register(_Families(self._counted))
        self.registry.register(_Families(lambda: _moment(in_flight, ages)))
        if outliers is not None:
            self.registry.register(_Families(lambda: _ejections(outliers)))
        if loudness is not None:
            self.registry.register(_Families(lambda: _left_out(loudness)))
        ProcessCollector(registry=self.registry)

    def observe(self, story: Story, now: float) -> None:
        """Count a request that ended at ``now``, monotonic seconds."""
        status, answered, usage = story.status, story.answered, story.usage
        alike = (story.route, status, story.outcome)
        ended = self._ended.get(alike) or self._ended.setdefault(alike, _Ended())
        ended.count += 1
        if answered and status < 400 and story.instance:
            began = story.began
            ended.time(answered - began, now - began)
        if usage is not None:
            deployment = story.deployment
            tokens = self._tokens.get(deployment) or self._begun(deployment)
            tokens[0] += usage.prompt_tokens
            tokens[1] += usage.completion_tokens or 0
        if story.retried:
            self._retries.update(story.retried)

    def _begun(self, deployment: str) -> list[int]:
        name = deployment if len(self._tokens) < DEPLOYMENTS else OTHER
        return self._tokens.setdefault(name, [0, 0])

    def _counted(self) -> Iterator[Metric]:
        self.catch_up()
        yield _requests(self._ended)
        yield _retries(self._retries)
        yield _tokens(self._tokens)
        yield _first_byte(self._ended)
        yield _duration(self._ended)


class _Families(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _requests(ended: _AllEnded) -> Metric:
    family = CounterMetricFamily(
        "caravan_router_requests",
        "Requests that have ended, by route, status and outcome.",
        labels=["route", "status", "outcome"],
    )
    for (route, status, outcome), alike in ended.items():
        family.add_metric([route or OTHER, str(status), outcome], alike.count)
    return family


def _retries(retries: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "caravan_router_retries",
        "Attempts after the first, by why the one before failed.",
        labels=["why"],
    )
    for why, count in retries.items():
        family.add_metric([why], count)
    return family


def _tokens(tokens: Mapping[str, Sequence[int]]) -> Metric:
    family = CounterMetricFamily(
        "caravan_router_tokens",
        "Tokens as the engines counted them, by deployment and kind (prompt, completion).",
        labels=["deployment", "kind"],
    )
    for deployment, (prompt, completion) in tokens.items():
        family.add_metric([deployment, "prompt"], prompt)
        family.add_metric([deployment, "completion"], completion)
    return family


def _first_byte(ended: _AllEnded) -> Metric:
    family = HistogramMetricFamily(
        "caravan_router_first_byte_seconds",
        "From a request's head to its answer's first byte (a stream's first event), "
        "for requests that an instance answered.",
        labels=["route"],
    )
    for route, group in _by_route(ended).items():
        counts = [alike.first_byte for alike in group]
        total = sum(alike.first_byte_s for alike in group)
        family.add_metric([route], _cumulated(FIRST_BYTE_S, counts), sum_value=total)
    return family


def _duration(ended: _AllEnded) -> Metric:
    family = HistogramMetricFamily(
        "caravan_router_duration_seconds",
        "From a request's head to its answer's end, for requests that an instance answered.",
        labels=["route"],
    )
    for route, group in _by_route(ended).items():
        counts = [alike.duration for alike in group]
        total = sum(alike.duration_s for alike in group)
        family.add_metric([route], _cumulated(DURATION_S, counts), sum_value=total)
    return family


def _by_route(ended: _AllEnded) -> dict[str, list[_Ended]]:
    """Return those that were timed; routes that no instance ever answered have no histogram."""
    groups: dict[str, list[_Ended]] = {}
    for (route, _, _), alike in ended.items():
        if any(alike.duration):
            groups.setdefault(route or OTHER, []).append(alike)
    return groups


def _cumulated(bounds: Sequence[float], counts: Iterable[Sequence[int]]) -> list[tuple[str, float]]:
    ends = [*(str(bound) for bound in bounds), "+Inf"]
    return list(zip(ends, accumulate(map(sum, zip(*counts, strict=True))), strict=True))


def _moment(in_flight: InFlight, ages: Callable[[], dict[str, float]]) -> Iterator[Metric]:
    running = GaugeMetricFamily(
        "caravan_router_in_flight", "Requests under way by deployment.", labels=["deployment"]
    )
    for key, use in in_flight.deployments().items():
        running.add_metric([_model(key)], use.running)
    yield running
    age = GaugeMetricFamily(
        "caravan_router_view_age_seconds",
        "Since NATS last said that nothing is missing in a view.",
        labels=["bucket"],
    )
    for bucket, seconds in ages().items():
        age.add_metric([bucket], seconds)
    yield age


def _ejections(outliers: Outliers) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "caravan_router_ejections",
        "Instances set aside because they failed this process again and again.",
        value=outliers.ejections,
    )
    ejected = GaugeMetricFamily(
        "caravan_router_ejected",
        "1 for an instance that is set aside now.",
        labels=["deployment", "instance"],
    )
    for key, held in outliers.seen().items():
        if held.ejected:
            deployment, _, instance = key.rpartition(".")
            ejected.add_metric([_model(deployment), instance], 1)
    yield ejected


def _left_out(loudness: Loudness) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "caravan_router_log_lines_left_out",
        "Log lines of good requests that were more than `ROUTER_LOG_SUCCESSES_PER_S`.",
        value=loudness.left_out,
    )


def _model(key: str) -> str:
    """Return the model id, by which logs and clients know the deployment of ``key``."""
    return names.path(*key.split(".", 1))
