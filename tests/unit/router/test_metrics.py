"""What /metrics says: each number moves for one reason, and Prometheus can read it."""

import os
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.router.api import metrics as own
from services.router.api.metrics import Metrics
from services.router.core.inflight import InFlight
from services.router.core.loudness import Loudness
from services.router.core.outliers import Outliers
from services.router.core.sse import Usage
from services.router.core.story import Story

CHAT = "/v1/chat/completions"
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


class Router:
    """What a router process has, so far as its metrics look at it."""

    def __init__(self):
        self.in_flight, self.outliers, self.loudness = InFlight(), Outliers(), Loudness(0.0)
        self.ages = {"keys": 0.5}
        self.metrics = Metrics(
            self.in_flight, lambda: self.ages, outliers=self.outliers, loudness=self.loudness
        )

    def families(self):
        text = generate_latest(self.metrics.registry).decode()
        return list(text_string_to_metric_families(text))

    def samples(self):
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families()
            for sample in family.samples
        }

    def moved(self, act):
        """Return by how much ``act`` moves what is no matter of the process itself."""
        before = self.samples()
        act()
        return {
            key: value - before.get(key, 0)
            for key, value in self.samples().items()
            if value != before.get(key) and not key[0].startswith("process_")
        }


@pytest.fixture
def router():
    return Router()


def story(**more):
    known = {
        "request_id": "r",
        "method": "POST",
        "path": CHAT,
        "client": "",
        "began": 100.0,
        "route": CHAT,
        "status": 200,
        "outcome": "complete",
    }
    return Story(**(known | more))


def answered(**more):
    return story(instance="i-a", answered=100.3, deployment="u-1/demo", **more)


def test_a_request_is_counted_by_route_status_and_outcome(router):
    refused = story(status=404, outcome="refused", route="")

    def act():
        router.metrics.observe(refused, 101.0)
        router.metrics.observe(refused, 101.0)

    assert router.moved(act) == {
        (
            "caravan_router_requests_total",
            ("outcome", "refused"),
            ("route", "other"),
            ("status", "404"),
        ): 2.0
    }


def test_times_are_those_of_requests_that_an_instance_answered(router):
    router.metrics.observe(answered(), 104.0)
    router.metrics.observe(answered(outcome="truncated"), 102.0)
    router.metrics.observe(answered(status=400, outcome="refused"), 150.0)
    router.metrics.observe(story(), 150.0)

    samples, route = router.samples(), ("route", CHAT)
    assert samples["caravan_router_first_byte_seconds_count", route] == 2
    assert samples["caravan_router_first_byte_seconds_sum", route] == pytest.approx(0.6)
    assert samples["caravan_router_duration_seconds_count", route] == 2
    assert samples["caravan_router_duration_seconds_sum", route] == pytest.approx(6.0)


@pytest.mark.parametrize("what", ["first_byte", "duration"])
@pytest.mark.parametrize(
    ("seconds", "le"), [(0.01, 0.01), (0.5, 0.5), (0.51, 1.0), (59.0, 60.0), (120.0, 120.0)]
)
def test_a_time_is_in_every_bucket_from_its_own_bound_on(router, what, seconds, le):
    router.metrics.observe(
        story(instance="i-a", began=0.0, answered=seconds if what == "first_byte" else 1e-9),
        seconds,
    )

    buckets = {
        float(dict(key[1:])["le"]): value
        for key, value in router.samples().items()
        if key[0] == f"caravan_router_{what}_seconds_bucket"
    }
    assert buckets == {bound: float(bound >= le) for bound in buckets}
    assert len(buckets) == 15


def test_a_time_above_all_bounds_is_in_the_last_bucket_alone(router):
    router.metrics.observe(answered(), 100_000.0)

    key = ("caravan_router_duration_seconds_bucket", ("le", "+Inf"), ("route", CHAT))
    assert router.samples()[key] == 1
    key = ("caravan_router_duration_seconds_bucket", ("le", "600.0"), ("route", CHAT))
    assert router.samples()[key] == 0


def test_tokens_are_counted_by_deployment_and_kind(router):
    usage = [Usage(prompt_tokens=7, completion_tokens=64), Usage(prompt_tokens=5)]

    def act():
        for one in usage:
            router.metrics.observe(answered(usage=one), 101.0)

    moved, name = router.moved(act), "caravan_router_tokens_total"
    assert moved[name, ("deployment", "u-1/demo"), ("kind", "prompt")] == 12
    assert moved[name, ("deployment", "u-1/demo"), ("kind", "completion")] == 64


def test_names_without_end_end_as_other(router):
    for n in range(own.DEPLOYMENTS + 50):
        end = story(deployment=f"u-1/d{n}", usage=Usage(prompt_tokens=1))
        router.metrics.observe(end, 101.0)

    counted = {
        dict(key[1:])["deployment"]: value
        for key, value in router.samples().items()
        if key[0] == "caravan_router_tokens_total" and ("kind", "prompt") in key
    }
    assert len(counted) == own.DEPLOYMENTS + 1
    assert counted["other"] == 50


def test_a_retry_is_counted_by_why_the_attempt_before_it_failed(router):
    moved = router.moved(
        lambda: router.metrics.observe(answered(retried=["refused", "broken", "refused"]), 101.0)
    )

    assert moved["caravan_router_retries_total", ("why", "refused")] == 2
    assert moved["caravan_router_retries_total", ("why", "broken")] == 1


def test_in_flight_is_what_is_under_way_by_model_id(router):
    key = ("caravan_router_in_flight", ("deployment", "u-1/demo"))

    router.in_flight.load("u-1.demo").running += 1
    assert router.samples()[key] == 1
    router.in_flight.load("u-1.demo").running -= 1
    assert key not in router.samples()


def test_an_ejection_is_counted_and_shown_until_the_instance_heals(router):
    shown = ("caravan_router_ejected", ("deployment", "u-1/demo"), ("instance", "i-a"))

    def fails():
        while not router.outliers.failed("u-1.demo.i-a", 5.0, connection=True):
            pass

    assert router.moved(fails) == {("caravan_router_ejections_total",): 1.0, shown: 1.0}
    router.outliers.good("u-1.demo.i-a")
    assert shown not in router.samples()
    assert router.samples()["caravan_router_ejections_total",] == 1


def test_one_failure_ejects_nothing(router):
    assert router.moved(lambda: router.outliers.failed("u-1.demo.i-a", 5.0)) == {}


def test_the_age_of_a_view_is_that_of_the_moment(router):
    router.ages = {"keys": 7.5}

    assert router.samples()["caravan_router_view_age_seconds", ("bucket", "keys")] == 7.5


def test_lines_left_out_are_counted(router):
    assert router.moved(lambda: router.loudness.take(1.0)) == {
        ("caravan_router_log_lines_left_out_total",): 1.0
    }


def test_the_process_shows_its_memory_time_and_files(router):
    samples = router.samples()

    assert samples["process_resident_memory_bytes",] > 2**20
    assert samples["process_cpu_seconds_total",] > 0
    before = samples["process_open_fds",]
    opened = os.open("/dev/null", os.O_RDONLY)
    try:
        assert router.samples()["process_open_fds",] == before + 1
    finally:
        os.close(opened)


def test_every_metric_of_ours_stands_in_the_reference_with_its_labels(router):
    router.metrics.observe(answered(retried=["broken"], usage=Usage()), 101.0)
    while not router.outliers.failed("u-1.demo.i-a", 5.0):
        pass
    page = REFERENCE.read_text()

    router.in_flight.load("u-1.demo").running += 1
    families = router.families()
    for family in families:
        name = family.name + "_total" * (family.type == "counter")
        assert f"`{name}`" in page
        if name.startswith("caravan_"):
            (row,) = [line for line in page.splitlines() if f"`{name}`" in line]
            assert all(f"`{label}`" in row for label in family.samples[0].labels if label != "le")
