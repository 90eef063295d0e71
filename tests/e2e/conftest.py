"""Where the story is told: the fake engine on this machine always, the real things where asked."""

import os
import shlex
import shutil

import pytest

from caravan.testing.models import tiny_random
from caravan.testing.nomad_agent import HOST_NETWORK
from caravan.testing.platform import FAKE_ENGINE, Platform
from engines import install

SITES = ("process-fake", "process-sglang", "nomad-fake", "nomad-sglang")
SGLANG = "CARAVAN_TEST_SGLANG"
NOMAD = "CARAVAN_TEST_NOMAD"


class Site:
    """A platform, and what is served on it."""

    def __init__(self, platform, model, kind):
        self.platform, self.model, self.kind = platform, model, kind

    @property
    def fake(self):
        """Whether the engine answers with what is known beforehand."""
        return self.kind == "fake"


@pytest.fixture(params=SITES)
async def site(request, tmp_path):
    """A running platform with a model for it; skipped where what it needs is not there."""
    cluster, _, kind = request.param.partition("-")
    engine, kind = _engine(kind)
    environ = _cluster(cluster, request)
    model = tiny_random(tmp_path / "model")
    platform = Platform(tmp_path, engine_command=engine, engine_kind=kind, environ=environ)
    async with platform:
        yield Site(platform, model, kind)


def _engine(kind):
    if kind == "fake":
        return FAKE_ENGINE, "fake"
    if not os.environ.get(SGLANG):
        pytest.skip(f"real SGLang takes a minute per instance: set {SGLANG}=1")
    program = install.found("cpu")
    if program is None:
        pytest.skip("no SGLang here: python -m engines.install cpu")
    return shlex.quote(str(program)), "cpu"


def _cluster(cluster, request):
    if cluster == "process":
        return {}
    if not os.environ.get(NOMAD) or shutil.which("nomad") is None:
        pytest.skip(f"no Nomad asked for: set {NOMAD}=1 where `nomad` is on PATH")
    agent = request.getfixturevalue("nomad_agent")
    request.addfinalizer(agent.clear)  # the next platform has another database
    return {
        "SCHEDULER_CLUSTER": "nomad",
        "SCHEDULER_NOMAD_ADDR": agent.url,
        "SCHEDULER_NOMAD_HOST_NETWORK": HOST_NETWORK,
    }
