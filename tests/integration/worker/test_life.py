"""A worker with its engine, from the start to the end that was asked for."""

import asyncio
import signal
import time

from caravan.contracts import topology
from caravan.contracts.deployments import DeploymentEntry, Verdict
from caravan.kit import records
from caravan.kit.buckets import open_bucket
from tests.integration.worker.running import (
    INSTANCE,
    MODEL,
    NAME,
    TENANT,
    asking,
    complete,
    environment,
    gone,
    resident_kb,
)

SLOW = {"tokens": 40, "token_s": 0.1}


async def test_an_instance_is_ready_when_its_engine_has_answered(start, bucket, http):
    await start(allocation="alloc-1")
    record = await bucket.state("ready")
    assert (record.term, record.generation, record.allocation) == (1, 1, "alloc-1")
    assert record.max_model_len > 0
    assert record.max_running > 0
    status, body = await complete(http, record)
    assert (status, MODEL in body) == (200, True)
    async with http.get(f"{record.url}/v1/models") as refused:
        assert refused.status == 401


async def test_an_embedding_instance_is_ready_with_its_first_vector(start, bucket, http):
    await start(spec={"task": "embedding"})
    record = await bucket.state("ready")
    body = {"model": MODEL, "input": "Hello"}
    url = f"{record.url}/v1/embeddings"
    async with http.post(url, json=body, headers=asking(record)) as answer:
        assert answer.status == 200
        said = await answer.json()
    assert said["model"] == MODEL, "SGLang says the path that it was given, not the served name"


async def test_an_engine_that_is_slow_to_start_is_loading_and_shows_a_lease(start, bucket):
    await start(plan={"start_s": 3.0})
    record = await bucket.state("loading")
    assert (record.url, record.engine_key) == ("", "")
    await bucket.leased(lambda lease: lease.state == "loading")
    await bucket.state("ready")


async def test_the_lease_tells_what_runs_and_when_it_last_answered(start, bucket, http):
    began = time.time()
    await start(plan=SLOW)
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, max_tokens=400, fake={"tokens": 400}))
    lease = await bucket.leased(lambda lease: lease.running == 1)
    assert lease.incarnation == record.incarnation
    await bucket.leased(lambda lease: lease.last_answer_at > began and lease.tokens_per_s > 0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_stream_that_runs_is_not_cut_by_sigterm(start, bucket, http):
    worker = await start(plan=SLOW)
    record = await bucket.state("ready")
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 40, "stream": True}
    url = f"{record.url}/v1/completions"
    async with http.post(url, json=body, headers=asking(record)) as stream:
        await stream.content.readline()
        worker.terminate()
        draining = await bucket.state("draining")
        assert draining.url == record.url
        assert "data: [DONE]" in (await stream.content.read()).decode()
    assert await worker.ended() == 0
    assert (await bucket.record()).state == "draining"
    assert await bucket.lease() is None
    assert worker.exit_reason["reason"] == "asked to end"


async def test_an_idle_instance_ends_soon_after_sigterm(start, bucket):
    worker = await start(spec={"drain_s": 100000.0})
    await bucket.state("ready")
    worker.terminate()
    assert await worker.ended() == 0


async def test_work_that_never_ends_is_ended_after_drain_s(start, bucket, http):
    worker = await start(spec={"drain_s": 3.0}, grace_s=1)
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, fake={"hang_after": 0}))
    await bucket.leased(lambda lease: lease.running == 1)
    worker.terminate()
    assert await worker.ended() == 0
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_planned_drain_past_its_deadline_ends_at_once(start, bucket, bus, http):
    worker = await start(spec={"drain_s": 100000.0}, grace_s=1)
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, fake={"hang_after": 0}))
    await bucket.leased(lambda lease: lease.running == 1)
    entry = DeploymentEntry(
        task="text-generation",
        generations=[1],
        state="running",
        verdicts={INSTANCE: Verdict(word="drain", deadline=time.time() - 1)},
    )
    await records.put(await open_bucket(bus, topology.DEPLOYMENTS), f"{TENANT}.{NAME}", entry)
    worker.terminate()
    assert await worker.ended() == 0
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_second_sigterm_ends_it_at_once(start, bucket, http):
    worker = await start(spec={"drain_s": 100000.0}, plan={"deaf": True}, grace_s=100000)
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, fake={"hang_after": 0}))
    await bucket.leased(lambda lease: lease.running == 1)
    worker.terminate()
    await bucket.state("draining")
    worker.terminate()
    assert await worker.ended() == 0
    await asyncio.gather(asked, return_exceptions=True)


async def test_an_engine_that_does_not_hear_sigterm_is_killed_after_its_grace(start, bucket):
    worker = await start(plan={"deaf": True}, grace_s=1, spec={"drain_s": 3.0})
    engine = await worker.engine()
    await bucket.state("ready")
    worker.terminate()
    assert await worker.ended() == 0
    await gone(engine)


async def test_sigterm_while_it_loads_ends_it_at_once(start, bucket):
    worker = await start(plan={"start_s": 100000.0})
    engine = await worker.engine()
    await bucket.state("loading")
    worker.terminate()
    assert await worker.ended() == 0
    await gone(engine)


async def test_no_engine_is_left_when_the_worker_is_killed(start, bucket):
    worker = await start()
    engine = await worker.engine()
    await bucket.state("ready")
    worker.process.send_signal(signal.SIGKILL)
    await worker.ended()
    await gone(engine)


async def test_the_engine_knows_no_secret_of_the_platform(start, bucket):
    worker = await start(
        nats_inbox_prefix="_IN",
        environ={"HF_TOKEN": "hf_secret", "AWS_SECRET_ACCESS_KEY": "x", "SGLANG_X": "kept"},
    )
    engine = await worker.engine()
    record = await bucket.state("ready")
    names = set(environment(engine))
    assert {"HF_HUB_OFFLINE", "SGLANG_X"} <= names
    assert not [name for name in names if name.startswith("WORKER_")]
    assert not names & {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY"}
    assert record.engine_key not in worker.log


async def test_a_worker_is_small(start, bucket):
    worker = await start()
    await bucket.state("ready")
    assert resident_kb(worker.process.pid) <= 60 * 1024
