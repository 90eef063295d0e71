"""The router as a load generator meets it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from benchmarks import router_under_test
from benchmarks.processes import tree
from caravan.contracts import keys, names
from caravan.testing.nats import free_port
from tests.integration.router.engine import Engine

MODEL = "u-8105f7322477/fake"
KEY = keys.mint(2**255 + 17)
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def start():
    """Start the command with words; whatever it is doing, it is ended at the end."""
    children = []

    async def start(*words):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.router_under_test"),
            *map(str, words),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        if child.returncode is None:
            everybody = tree(child.pid)
            for pid in everybody:
                os.kill(pid, signal.SIGKILL)
            await child.wait()


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def chat(port):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers
        ) as answer,
    ):
        await answer.read()
        return answer.status


async def test_it_serves_the_engines_to_the_key_and_ends_when_it_is_told_to(start, tmp_path):
    port, pids = free_port(), tmp_path / "pids"
    async with Engine() as one, Engine() as other:
        words = ("--port", port, "--model", MODEL, "--key", KEY, "--pids-file", pids)
        child = await start(*words, "--engine", one.url, "--engine", other.url)
        line = await child.stdout.readline()

        assert line.startswith(b"router ready"), await child.stderr.read()
        assert await chat(port) == 200
        [router] = [int(word) for word in pids.read_text().split()]
        assert b"services.router" in command_line(router)

        child.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(child.communicate(), 60)
    assert (child.returncode, said) == (0, b"")
    with pytest.raises(OSError, match="No such"):
        command_line(router)


async def test_a_port_that_is_taken_ends_it_with_the_routers_words(start):
    async with Engine() as engine:
        taken = engine.url.rpartition(":")[2]
        words = ("--port", taken, "--model", MODEL, "--key", KEY, "--engine", engine.url)
        child = await start(*words)
        _, said = await child.communicate()

    assert child.returncode == 1
    assert f"Port {taken} on 127.0.0.1 is taken" in said.decode()


@pytest.mark.parametrize(
    ("model", "key", "told"),
    [
        (MODEL, "sk-1234", "--make-key"),
        (MODEL, KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), "--make-key"),
        ("acme/fake", KEY, names.TENANT_RULE),
        ("fake", KEY, names.TENANT_RULE),
    ],
)
def test_a_key_or_a_model_without_form_is_refused_with_the_way_out(model, key, told, capsys):
    words = ["--port", "1", "--model", model, "--key", key, "--engine", "http://127.0.0.1:1"]

    assert router_under_test.main(words) == 2
    assert told in capsys.readouterr().err


def test_a_key_that_it_makes_is_well_formed(capsys):
    assert router_under_test.main(["--make-key"]) == 0

    assert keys.well_formed(capsys.readouterr().out.strip())


def test_instances_are_called_as_the_scheduler_would():
    made = {router_under_test.instance_name(n) for n in range(64)}

    assert len(made) == 64
    assert all(names.INSTANCE.fullmatch(name) for name in made)
