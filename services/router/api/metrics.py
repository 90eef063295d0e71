"""What Prometheus may read of a router process."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.router.core.inflight import InFlight
from services.router.core.story import Story

_FIRST_BYTE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counts every story; gauges are read when they are asked for."""

    def __init__(self, in_flight: InFlight, ages: Callable[[], dict[str, float]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Gauges(in_flight, ages))
        self._requests = Counter(
            "caravan_router_requests",
            "Requests by route, status and outcome.",
            ("route", "status", "outcome"),
            registry=self.registry,
        )
        self._retries = Counter(
            "caravan_router_retries",
            "Attempts after the first, by why the one before failed.",
            ("why",),
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "caravan_router_first_byte_seconds",
            "From the request's head to the answer's, for requests that an instance answered.",
            ("route",),
            buckets=_FIRST_BYTE_S,
            registry=self.registry,
        )

    def observe(self, story: Story) -> None:
        """Count a request that has ended."""
        route = story.route or "other"
        self._requests.labels(route, str(story.status), story.outcome).inc()
        for why in story.retried:
            self._retries.labels(why).inc()
        if story.instance and story.answered and story.status < 400:
            self._first_byte.labels(route).observe(story.answered - story.began)


class _Gauges(Collector):
    def __init__(self, in_flight: InFlight, ages: Callable[[], dict[str, float]]) -> None:
        self._in_flight, self._ages = in_flight, ages

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily(
            "caravan_router_in_flight", "Requests under way by deployment.", labels=["deployment"]
        )
        for name, use in self._in_flight.deployments().items():
            running.add_metric([name], use.running)
        yield running
        age = GaugeMetricFamily(
            "caravan_router_view_age_seconds",
            "Since NATS last said that nothing is missing in a view.",
            labels=["bucket"],
        )
        for bucket, seconds in self._ages().items():
            age.add_metric([bucket], seconds)
        yield age
