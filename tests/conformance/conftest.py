"""The clusters that the suite of the port runs on."""

import pytest

from tests.conformance.cluster_sites import NomadSite, ProcessSite


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
