"""What a real Nomad agent does with the jobs that NomadCluster makes."""

import asyncio

import pytest

from services.scheduler.adapters.nomad_jobs import Link
from tests.conformance.cluster_sites import TENANT, NomadSite, eventually, in_state, ref, until

JOB = f"caravan-{TENANT}-test"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def site(tmp_path, nomad_agent):
    site = NomadSite(tmp_path, nomad_agent)
    yield site
    site.close()


def job(site):
    return site.agent.ask("GET", f"/v1/job/{JOB}")


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"memory_mib": 900_000}, "no node has 900000 MiB of memory free"),
        ({"cpu_mhz": 900_000}, "no node has 900000 MHz of CPU free"),
        ({"gpus": 1}, "no node has such a GPU"),
    ],
)
async def test_what_fits_nowhere_waits_and_says_for_what(site, cluster, resources, reason):
    await cluster.start(site.spec("i-fits22"))
    await cluster.start(site.spec("i-aaaaaa", resources=resources))
    await until(cluster, in_state("i-fits22", "running"))
    seen = await until(cluster, lambda seen: "Nomad has not looked" not in seen["i-aaaaaa"].reason)
    assert (seen["i-aaaaaa"].state, seen["i-aaaaaa"].reason) == ("waiting", reason)
    await cluster.stop(ref("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "ended"))


async def test_a_job_says_what_it_is_and_which_instance_is_which(site):
    site.terms = site.terms.__class__(
        host_network="v4",
        cpu_mhz=20,
        memory_mib=48,
        links=(Link("Console", "https://console.example.test/{tenant}/{name}"),),
    )
    async with site.opened() as cluster:
        await cluster.start(site.spec("i-aaaaaa"))
        await cluster.start(site.spec("i-bbbbbb", generation=2))
    ui = job(site)["UI"]
    assert f"{TENANT}/test" in ui["Description"]
    assert ui["Links"] == [
        {"Label": "Console", "Url": f"https://console.example.test/{TENANT}/test"}
    ]
    tasks = {group["Name"]: group["Tasks"][0]["Name"] for group in job(site)["TaskGroups"]}
    assert tasks == {"i-aaaaaa": "i-aaaaaa-g1", "i-bbbbbb": "i-bbbbbb-g2"}


async def test_a_group_that_somebody_scales_to_zero_and_back_is_seen_to(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "running"))
    scale(site, "i-aaaaaa", 0)
    seen = await until(cluster, in_state("i-aaaaaa", "waiting"))
    assert "count to 0 in Nomad" in seen["i-aaaaaa"].reason
    assert not site.running("i-aaaaaa")
    scale(site, "i-aaaaaa", 1)
    await until(cluster, in_state("i-aaaaaa", "running"))
    await eventually(lambda: site.running("i-aaaaaa"))


def scale(site, group, count):
    body = {"Count": count, "Target": {"Group": group}, "Message": "by hand"}
    site.agent.ask("POST", f"/v1/job/{JOB}/scale", body)


async def test_a_job_that_somebody_stops_is_ended_and_begins_anew(site, cluster):
    await cluster.start(site.spec("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "running"))
    site.agent.ask("DELETE", f"/v1/job/{JOB}")
    await until(cluster, in_state("i-aaaaaa", "ended"))
    await cluster.forget(ref("i-aaaaaa"))
    await cluster.start(site.spec("i-aaaaaa"))
    await until(cluster, in_state("i-aaaaaa", "running"))


async def test_a_drain_time_of_half_an_hour_is_taken(site, cluster):
    await cluster.start(site.spec("i-aaaaaa", drain_s=1800.0))
    await cluster.start(site.spec("i-bbbbbb", drain_s=1800.0))
    seen = await until(cluster, in_state("i-bbbbbb", "running"))
    assert seen["i-aaaaaa"].state == "running"
    assert job(site)["TaskGroups"][0]["Tasks"][0]["KillTimeout"] == 1801 * 10**9


async def test_what_a_spec_says_reaches_the_worker_as_it_is(site, cluster):
    """Nothing in it is taken for something to fill in."""
    strange = '${NOMAD_ALLOC_ID} %{if} $x 100% "it\'s" {{ key }} \n é'
    await cluster.start(site.spec("i-aaaaaa", "--echo", strange))
    await until(cluster, in_state("i-aaaaaa", "running"))

    async def printed():
        return (await cluster.logs(ref("i-aaaaaa"), "")).lines

    lines = await eventually(printed)
    assert "\n".join(lines[:2]) == strange


async def test_a_group_keeps_the_text_that_it_was_started_with(site):
    async with site.opened() as cluster:
        await cluster.start(site.spec("i-aaaaaa"))
        await until(cluster, lambda _: site.running("i-aaaaaa"))
    before = job(site)["TaskGroups"][0]
    site.terms = site.terms.__class__(host_network="v4", cpu_mhz=40, memory_mib=64)
    async with site.opened() as cluster:
        await cluster.start(site.spec("i-aaaaaa"))
        await cluster.start(site.spec("i-bbbbbb"))
        await until(cluster, lambda _: site.running("i-bbbbbb"))
        await asyncio.sleep(0)
        assert len(site.lives("i-aaaaaa")) == 1
    assert job(site)["TaskGroups"][0] == before
