"""The clusters that the suite of the port runs on."""

import shutil

import pytest

from tests.conformance.cluster_agent import Agent
from tests.conformance.cluster_sites import NomadSite, ProcessSite


@pytest.fixture(scope="session")
def nomad_agent(tmp_path_factory):
    """A dev agent for all tests of this run."""
    if shutil.which("nomad") is None:
        pytest.skip(
            "no `nomad` on PATH: install it from its vendor (developer.hashicorp.com/nomad/install)"
            " to run these tests; nothing else needs it"
        )
    with Agent(tmp_path_factory.mktemp("nomad") / "agent") as agent:
        yield agent


@pytest.fixture(params=["process", "nomad"])
def site(request, tmp_path):
    if request.param == "nomad":
        site = NomadSite(tmp_path, request.getfixturevalue("nomad_agent"))
    else:
        site = ProcessSite(tmp_path)
    yield site
    site.close()


@pytest.fixture
async def cluster(site):
    async with site.opened() as cluster:
        yield cluster
