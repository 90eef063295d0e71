"""What a worker is told wrongly: one sentence, the right exit, nothing started."""

import asyncio

import pytest

from services.worker.core.errors import HELD_EXIT
from tests.integration.worker.running import MODEL


def sentence(worker) -> str:
    """Return the one line that says why."""
    lines = [line for line in worker.log.splitlines() if line.startswith("caravan worker: ")]
    assert len(lines) == 1
    assert "Traceback" not in worker.log
    return lines[0]


@pytest.mark.parametrize(
    ("spec", "exit_status", "words"),
    [
        ({"source": "s3://bucket/model"}, 4, "s3:// are not supported"),
        ({"source": "file:///no/such/folder"}, 4, "no such folder"),
        ({"task": "image-generation"}, 4, "not offered yet"),
        ({"engine_args": ["--host", "0.0.0.0"]}, 2, "may not set --host"),
    ],
)
async def test_what_cannot_be_served_is_a_failed_record(start, bucket, spec, exit_status, words):
    worker = await start(spec=spec)
    failed = await bucket.state("failed")
    assert words in failed.reason
    assert await worker.ended() == exit_status
    assert words in sentence(worker)
    assert worker.exit_reason["reason"] == failed.reason


async def test_an_embedding_model_of_another_pooling_is_refused(start, bucket, tmp_path):
    folder = tmp_path / "bert"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    (folder / "model.safetensors").write_text("")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    worker = await start(spec={"task": "embedding", "source": f"file://{folder}"})
    assert "the mean of all tokens" in (await bucket.state("failed")).reason
    assert await worker.ended() == 4


@pytest.mark.parametrize(
    ("variables", "exit_status", "words"),
    [
        ({"WORKER_SPEC": "{"}, 2, "WORKER_SPEC is no spec"),
        ({"WORKER_SPEC": ""}, 2, "WORKER_SPEC is no spec"),
        ({"WORKER_PORT": "http"}, 2, "WORKER_PORT=http"),
        ({"WORKER_ENGINE_KIND": "tpu"}, 2, "use cpu, cuda, fake"),
        ({"WORKER_ENGINE_COMMAND": "/no/such/engine"}, 2, "WORKER_ENGINE_COMMAND cannot be run"),
        ({"WORKER_ENGINE_COMMAND": "'"}, 2, "WORKER_ENGINE_COMMAND names no program"),
        ({"WORKER_HOST": "0.0.0.0"}, 2, "WORKER_HOST must be"),
        ({"WORKER_HOST": "no.such.host.invalid"}, 2, "cannot be listened on"),
        ({"WORKER_FOLDER": "/proc/nothing"}, 2, "WORKER_FOLDER=/proc/nothing"),
    ],
)
async def test_a_wrong_setting_is_refused_in_one_sentence(start, variables, exit_status, words):
    worker = await start(environ=variables)
    assert await worker.ended() == exit_status
    assert words in sentence(worker)


async def test_a_taken_port_is_refused_before_anything_is_loaded(start, bucket):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        worker = await start(port=port)
        assert f"port {port}" in (await bucket.state("failed")).reason
        assert await worker.ended() == 3
        assert "WORKER_PORT=0" in sentence(worker)


async def test_a_nats_that_is_too_old_is_refused(start):
    async def old(reader, writer):
        writer.write(b'INFO {"version": "2.9.10", "max_payload": 1048576, "headers": true}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        worker = await start(nats_url=f"nats://127.0.0.1:{port}")
        assert await worker.ended() == 3
        assert "2.11 or newer" in sentence(worker)


async def test_the_port_that_it_is_given_is_the_engines(start, bucket, free_port):
    await start(port=free_port)
    assert (await bucket.state("ready")).url == f"http://127.0.0.1:{free_port}"


async def test_a_folder_that_is_held_is_left_alone(start, bucket):
    first = await start()
    await bucket.state("ready")
    second = await start(environ={"WORKER_SPEC": "{"})
    assert await second.ended() == HELD_EXIT
    assert not (first.folder / "exit.json").exists()
    assert MODEL in (await first.engine_command())
