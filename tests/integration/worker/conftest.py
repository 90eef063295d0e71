"""Real workers with the fake engine on a real nats-server."""

import json
import os
import subprocess
import sys

import aiohttp
import pytest

from tests.integration.worker.running import INSTANCE, NAME, ROOT, TENANT, Bucket, Worker


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with a model of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    script = str(ROOT / "models" / "tiny-random" / "make.py")
    subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
async def start(tmp_path, nats_server, model):
    """Start a worker; ``plan`` is its engine's, the rest are ``WORKER_…`` variables or its spec."""
    workers: list[Worker] = []

    async def start(*, plan=None, folder="one", spec=None, environ=None, **settings):
        full = {
            "tenant": TENANT,
            "name": NAME,
            "instance": INSTANCE,
            "generation": 1,
            "task": "text-generation",
            "source": f"file://{model}",
            "drain_s": 60.0,
            "stall_s": 60.0,
        } | (spec or {})
        variables = {
            "WORKER_SPEC": json.dumps(full),
            "WORKER_NATS_URL": nats_server.url,
            "WORKER_ENGINE_COMMAND": f"{sys.executable} -m caravan.testing.engine",
            "WORKER_ENGINE_KIND": "fake",
            "WORKER_FOLDER": str(tmp_path / folder),
            "WORKER_CACHE_DIR": str(tmp_path / "cache"),
            "WORKER_GRACE_S": "10",
            "CARAVAN_FAKE_ENGINE": json.dumps(plan or {}),
        }
        variables |= {f"WORKER_{name.upper()}": str(value) for name, value in settings.items()}
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        worker = Worker(tmp_path / folder, kept | variables | (environ or {}))
        workers.append(worker)
        return await worker.start()

    yield start
    for worker in workers:
        await worker.close()


@pytest.fixture
def bucket(bus):
    return Bucket(bus)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session
