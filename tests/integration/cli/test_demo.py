"""``caravan up`` where it runs already: nothing is disturbed, and the demo is there in the end."""

import subprocess
import sys

import pytest

OPENAI = (
    "import os, openai; print(openai.OpenAI().chat.completions.create("
    'model=os.environ["CARAVAN_MODEL"], messages=[{"role": "user", "content": "hello"}])'
    ".choices[0].message.content)"
)


@pytest.fixture
def up(platform, model):
    """Runs ``caravan up --demo`` and returns what it says."""

    def up():
        source = f"file://{model}"
        ran = platform.run("up", "--detach", "--demo", "--demo-source", source, "--json")
        assert ran.exit == 0, ran.stderr
        return ran.json

    return up


def test_up_again_changes_nothing_and_says_where_it_runs(platform):
    names = ("supervisor", "nats", "auth", "scheduler", "router")
    before = {name: platform.process(name) for name in names}

    again = platform.run("up", "--detach", "--json").json

    assert again["router_url"] == platform.router_url
    assert {name: platform.process(name) for name in names} == before


def test_the_demo_is_made_once_and_its_environment_makes_any_client_work(platform, up):
    assert up() == up()

    assert platform.home.env.stat().st_mode & 0o777 == 0o600
    script = f". {platform.home.env} && {sys.executable} -c '{OPENAI}'"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout


def test_chat_finds_the_key_of_the_demo(platform, up):
    up()

    ran = platform.run("chat", "demo", "hello")

    assert (ran.exit, "hello" in ran.stdout) == (0, True)


def test_the_demo_comes_back_from_stop_trash_and_a_revoked_key(platform, up):
    first = up()["demo"]
    platform.run("stop", "demo")
    assert up()["demo"] == first

    platform.run("delete", "demo", "--confirm", "demo")
    for key in platform.run("keys", "list", "--json").json["items"]:
        if first["api_key"].endswith(key["hint"]):
            platform.run("keys", "revoke", key["id"])
    last = up()["demo"]

    assert last["api_key"] != first["api_key"]
    assert platform.run("show", "demo", "--json").json["state"] == "running"
