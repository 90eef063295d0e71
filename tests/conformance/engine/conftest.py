"""The two engines that one suite runs on."""

import aiohttp
import pytest

from caravan.testing.engine.process import FAKE, EngineProcess
from caravan.testing.models import tiny_random
from engines import install

FLAGS = (
    *("--device", "cpu", "--attention-backend", "torch_native", "--page-size", "1"),
    *("--max-total-tokens", "8192", "--enable-metrics", "--enable-cache-report"),
    *("--sleep-on-idle", "--constrained-json-disable-any-whitespace", "--random-seed", "1"),
    *("--tool-call-parser", "qwen", "--stream-response-default-include-usage"),
)
TASKS = {
    "text": ("--max-running-requests", "2", "--max-queued-requests", "1"),
    "vectors": ("--is-embedding",),
}

SLOW = [pytest.mark.sglang, pytest.mark.timeout(900), pytest.mark.xdist_group("sglang")]
real = pytest.param("sglang", marks=SLOW)


class Site:
    """Engines of one kind, one for each task: started at the first use, and again after an end."""

    def __init__(self, kind, program, folder):
        self.kind, self._program, self._folder = kind, program, folder
        self._running = {}

    def engine(self, task):
        engine = self._running.get(task)
        if engine is None or not engine.running:
            engine = self._running[task] = self.new(task)
            engine.start()
        engine.wait_ready()
        return engine

    def new(self, task, *flags):
        """Return an engine that is not started."""
        model = tiny_random(self._folder / f"{task}-model", embedding=task == "vectors")
        log = self._folder / f"{task}.log"
        engine = EngineProcess(model, log, *FLAGS, *TASKS[task], *flags, program=self._program)
        engine.patience_s = 60 if self.kind == "fake" else 600
        return engine

    def close(self):
        for engine in self._running.values():
            if engine.running:
                engine.stop()


@pytest.fixture(scope="session")
def real_program():
    """The ``sglang`` program of the CPU environment."""
    program = install.found("cpu")
    if program is None:
        pytest.skip("SGLang is not installed: run 'python engines/install.py cpu' (6 GB)")
    return program


@pytest.fixture(scope="session", params=["fake", real])
def site(request, tmp_path_factory):
    program = FAKE
    if request.param == "sglang":
        program = (str(request.getfixturevalue("real_program")),)
    site = Site(request.param, program, tmp_path_factory.mktemp(request.param))
    yield site
    site.close()


@pytest.fixture
def text(site):
    """An engine for chats and completions: two at once, one more waits."""
    return site.engine("text")


@pytest.fixture
def vectors(site):
    """An engine for embeddings."""
    return site.engine("vectors")


@pytest.fixture
async def client():
    patience, fresh = aiohttp.ClientTimeout(total=300), aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=patience, connector=fresh) as client:
        yield client
