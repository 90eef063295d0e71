"""Engines that die, hang or never come; what the worker says of it."""

import asyncio
import os
import signal

from tests.integration.worker.running import complete, gone


async def test_an_engine_that_crashes_leaves_its_reason_and_last_lines(start, bucket, http):
    worker = await start()
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, fake={"crash_after": 1}))
    failed = await bucket.state("failed")
    assert "SGLang ended itself because one of its processes failed" in failed.reason
    assert any("ready to roll" in line for line in failed.last_lines)
    assert (failed.url, failed.engine_key) == ("", "")
    assert await worker.ended() == 1
    assert worker.exit_reason["reason"] == failed.reason
    assert worker.exit_reason["last_lines"] == failed.last_lines
    assert f"caravan worker: {failed.reason}" in worker.log
    assert "Traceback" not in worker.log
    await asyncio.gather(asked, return_exceptions=True)


async def test_an_engine_that_is_killed_is_said_to_be_killed(start, bucket):
    worker = await start()
    engine = await worker.engine()
    await bucket.state("ready")
    os.kill(engine, signal.SIGKILL)
    assert "SIGKILL" in (await bucket.state("failed")).reason
    assert await worker.ended() == 1


async def test_an_engine_that_cannot_start_says_why(start, bucket):
    worker = await start(plan={"start_error": "torch.OutOfMemoryError: CUDA out of memory."})
    failed = await bucket.state("failed")
    assert failed.reason == "the engine ended: the GPU is out of memory (it exited with 1)"
    assert await worker.ended() == 1


async def test_a_flag_that_the_engine_does_not_know_is_named(start, bucket):
    worker = await start(spec={"engine_args": ["--no-such-flag"]})
    failed = await bucket.state("failed")
    assert "does not know one of its flags" in failed.reason
    assert any("--no-such-flag" in line for line in failed.last_lines)
    assert await worker.ended() == 1


async def test_work_without_progress_is_killed_and_said_to_hang(start, bucket, http):
    worker = await start(spec={"stall_s": 3.0})
    engine = await worker.engine()
    record = await bucket.state("ready")
    asked = asyncio.create_task(complete(http, record, fake={"hang_after": 2}))
    failed = await bucket.state("failed")
    assert "no progress for 3 s" in failed.reason
    assert await worker.ended() == 1
    await gone(engine)
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_slow_stream_is_no_hang(start, bucket, http):
    worker = await start(spec={"stall_s": 3.0})
    record = await bucket.state("ready")
    fake = {"tokens": 30, "token_s": 0.4}
    status, _ = await complete(http, record, max_tokens=30, fake=fake)
    assert status == 200
    worker.terminate()
    assert await worker.ended() == 0


async def test_an_engine_that_stands_still_is_killed(start, bucket):
    worker = await start(spec={"stall_s": 3.0})
    engine = await worker.engine()
    await bucket.state("ready")
    os.kill(engine, signal.SIGSTOP)
    assert "no progress" in (await bucket.state("failed")).reason
    assert await worker.ended() == 1
    await gone(engine)


async def test_an_engine_without_a_token_is_never_ready_and_killed_in_the_end(start, bucket):
    worker = await start(plan={"status": 500}, load_s=4)
    assert "no token within 4 s" in (await bucket.state("failed")).reason
    assert await worker.ended() == 1


async def test_what_the_engine_leaves_behind_is_ended_with_it(start, bucket, tmp_path):
    script = tmp_path / "engine"
    script.write_text(f"#!/bin/sh\nsleep 100000 &\necho $! > {tmp_path}/child\nsleep 1\nexit 3\n")
    script.chmod(0o755)
    worker = await start(engine_command=str(script))
    failed = await bucket.state("failed")
    assert failed.reason == "the engine ended: it exited with 3"
    assert await worker.ended() == 1
    await gone(int((tmp_path / "child").read_text()))
