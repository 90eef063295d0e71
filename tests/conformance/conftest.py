"""The clusters that the suite of the port runs on."""

import pytest

from tests.conformance.cluster_sites import ProcessSite


@pytest.fixture(params=["process"])
def site(request, tmp_path):
    site = {"process": ProcessSite}[request.param](tmp_path)
    yield site
    site.close()


@pytest.fixture
async def cluster(site):
    async with site.opened() as cluster:
        yield cluster
