"""Weights from a hub, here a little one on loopback."""

import pytest

from tests.integration.worker.hub import Hub
from tests.integration.worker.running import complete, gone

SOURCE = {"source": "hf://acme/tiny"}


@pytest.fixture
async def hub(model):
    async with Hub(model) as hub:
        yield hub


async def test_a_model_is_downloaded_with_its_progress_in_the_lease(start, bucket, hub, http):
    hub.release.clear()
    worker = await start(spec=SOURCE, environ=hub.environ)
    lease = await bucket.leased(lambda lease: bool(lease.progress and lease.progress.done_bytes))
    assert lease.state == "starting"
    assert 0 < lease.progress.done_bytes < lease.progress.total_bytes
    hub.release.set()
    record = await bucket.state("ready")
    assert (await complete(http, record))[0] == 200
    await bucket.leased(lambda lease: lease.progress is None)
    worker.terminate()
    assert await worker.ended() == 0


async def test_what_was_downloaded_is_not_downloaded_again(start, bucket, hub):
    first = await start(spec=SOURCE, environ=hub.environ)
    await bucket.state("ready")
    await first.close()
    hub.served.clear()
    second = await start(spec=SOURCE, environ=hub.environ)
    await bucket.state("ready", term=2)
    assert hub.served == []
    await second.close()
    hub.status = 503
    await start(spec=SOURCE, environ=hub.environ)
    await bucket.state("ready", term=3)


async def test_a_revision_may_be_named(start, bucket, hub):
    await start(spec={"source": "hf://acme/tiny@main"}, environ=hub.environ)
    await bucket.state("ready")


async def test_a_token_opens_what_is_not_open(start, bucket, hub):
    hub.token = "hf_secret"
    closed = await start(spec=SOURCE, environ=hub.environ)
    assert "set WORKER_HUB_TOKEN" in (await bucket.state("failed")).reason
    assert await closed.ended() == 4
    await start(spec=SOURCE, environ=hub.environ, hub_token="hf_secret")
    await bucket.state("ready", term=2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf://acme/nothing", "has no hf://acme/nothing"),
        ("hf://acme/tiny@v9", "no such revision"),
    ],
)
async def test_what_the_hub_does_not_have_is_refused(start, bucket, hub, source, words):
    worker = await start(spec={"source": source}, environ=hub.environ)
    assert words in (await bucket.state("failed")).reason
    assert await worker.ended() == 4


async def test_a_hub_that_does_not_answer_is_unavailable(start, bucket, hub):
    hub.status = 503
    worker = await start(spec=SOURCE, environ=hub.environ | {"HF_HUB_ETAG_TIMEOUT": "1"})
    assert "could not be downloaded" in (await bucket.state("failed")).reason
    assert await worker.ended() == 3


async def test_sigterm_ends_a_download(start, bucket, hub):
    hub.release.clear()
    worker = await start(spec=SOURCE, environ=hub.environ)
    await bucket.leased(lambda lease: bool(lease.progress and lease.progress.done_bytes))
    (download,) = worker.children()
    worker.terminate()
    assert await worker.ended() == 0
    await gone(download)
