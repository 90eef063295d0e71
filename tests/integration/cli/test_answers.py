"""What commands say when all is well: JSON that programs rely on, and text that people read."""

import signal
import subprocess
import sys

import msgspec
import pytest

from caravan.contracts import admin


def answer(platform, *arguments, kind=None):
    """Return the one JSON document of a command that must succeed."""
    ran = platform.run(*arguments, "--json")
    assert ran.exit == 0, ran.stderr
    assert ran.stderr == ""
    return msgspec.convert(ran.json, kind, strict=True) if kind else ran.json


def test_documents_are_those_of_the_admin_messages(platform, model, chat):
    source = ("--source", str(model))
    page = answer(platform, "list", kind=admin.DeploymentPage)
    assert chat in [one.name for one in page.items]

    made = answer(platform, "deploy", "json", *source, "--instances", "0", kind=admin.Deployment)
    assert (made.path, made.instances) == (f"{platform.tenant}/json", 0)
    for words in (
        ("update", "json", "--engine-arg", "--context-length 512"),
        ("scale", "json", "--to", "0"),
        ("stop", "json"),
        ("delete", "json", "--confirm", "json"),
        ("restore", "json"),
    ):
        assert answer(platform, *words, kind=admin.Deployment).name == "json"
    assert answer(platform, "show", "json")["engine_args"] == ["--context-length", "512"]


def test_keys_are_shown_once_and_listed_without_their_secret(platform):
    made = answer(platform, "keys", "create", "--label", "once", kind=admin.KeyCreated)
    turned = answer(platform, "keys", "rotate", made.key.id, kind=admin.KeyCreated)
    listed = platform.run("keys", "list", "--json")

    page = msgspec.json.decode(listed.stdout, type=admin.KeyPage)
    assert "once" in [key.label for key in page.items]
    assert made.secret != turned.secret
    assert made.secret not in listed.stdout
    assert turned.secret not in listed.stdout


def test_a_key_alone_stands_on_stdout_so_that_a_script_can_take_it(platform):
    ran = platform.run("keys", "create")

    assert ran.stdout.startswith("ck-")
    assert ran.stdout.count("\n") == 1
    assert "shown now and never again" in ran.stderr


def test_show_tells_how_to_call_it(platform, chat):
    call = answer(platform, "show", chat)["call"]

    assert call["endpoint"] == f"{platform.router_url}/v1/chat/completions"
    assert call["auth"] == "Authorization: Bearer <Your API Key here>"
    assert list(call["examples"]) == ["curl", "Python", "Node.js"]
    assert all(f"{platform.tenant}/{chat}" in text for text in call["examples"].values())


def test_the_curl_line_works_when_pasted(platform, chat, key):
    curl = answer(platform, "show", chat)["call"]["examples"]["curl"]
    line = curl.replace("<Your API Key here>", key)

    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)

    said = msgspec.json.decode(done.stdout)
    assert said["model"] == f"{platform.tenant}/{chat}"
    assert "Say" in said["choices"][0]["message"]["content"]


def test_the_python_example_works_with_the_official_client(platform, chat, key):
    text = answer(platform, "show", chat)["call"]["examples"]["Python"]
    program = text.replace("<Your API Key here>", key)

    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Say" in done.stdout


def test_chat_streams_an_answer_and_can_be_told_as_one_document(platform, chat, key):
    plain = platform.run("chat", chat, "Say hello", "--key", key)
    document = answer(platform, "chat", chat, "Say hello", "--key", key)

    assert plain.stdout == document["content"] + "\n"
    assert document["finish_reason"] == "stop"
    assert document["instance"].startswith("i-")
    assert document["usage"]["completion_tokens"] > 0


def test_chat_takes_its_prompt_from_a_pipe(platform, chat, key):
    ran = platform.run("chat", chat, "--key", key, stdin="Say hello")

    assert (ran.exit, "Say" in ran.stdout) == (0, True)


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(platform, chat, key):
    ran = platform.run("chat", chat, 'Say fake{"end_after":3}', "--key", key, "--json")

    assert (ran.exit, ran.problem["code"]) == (1, "engine_failed")


@pytest.mark.parametrize("command", ["logs", "events"])
def test_what_was_is_told_line_by_line(platform, chat, command):
    ran = platform.run(command, chat, "--json")

    rows = [msgspec.json.decode(line) for line in ran.stdout.splitlines()]
    assert rows
    assert all(("line" in row) if command == "logs" else ("what" in row) for row in rows)


def test_following_goes_on_until_ctrl_c_which_is_no_error_to_speak_of(platform, chat):
    words = [sys.executable, "-m", "caravan.cli", "events", "-f", "--json"]
    with subprocess.Popen(
        words, env=platform.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        platform.run("update", chat, "--drain", "100s")
        seen = ""
        while "updated" not in seen:
            seen = process.stdout.readline()
            assert seen, process.stderr.read()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)

    assert process.returncode == 130
    assert rest[1] == ""


def test_a_reader_that_leaves_ends_the_command_quietly(platform, chat):
    line = f"{sys.executable} -m caravan.cli show {chat} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=platform.environ, capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in {"0", "141"}


def test_status_names_every_part_and_is_well(platform):
    said = answer(platform, "status")

    assert [part["name"] for part in said["parts"]] == ["nats", "auth", "scheduler", "router"]
    assert {part["state"] for part in said["parts"]} == {"ready"}
    assert said["supervised"]


def test_status_of_a_platform_that_is_not_ours_asks_over_nats(platform, tmp_path):
    environ = {"CARAVAN_HOME": str(tmp_path)}

    ran = platform.run("status", "--json", "--nats-url", platform.nats_url, environ=environ)

    assert (ran.exit, ran.json["parts"]) == (0, {"auth": "", "scheduler": "", "router": ""})


def test_the_command_needs_no_home_where_nats_is_named(platform, chat, tmp_path):
    environ = {"CARAVAN_HOME": str(tmp_path), "CARAVAN_NATS_URL": platform.nats_url}

    ran = platform.run("show", chat, "--json", environ=environ)

    assert ran.exit == 0, ran.stderr
    assert ran.json["call"]["endpoint"].startswith(platform.router_url)


def test_listing_imports_neither_nats_nor_rich_nor_asyncio(platform):
    script = (
        "import sys; from caravan.cli.__main__ import main; main(['list']);"
        "slow = {'nats', 'rich', 'asyncio', 'structlog', 'aiohttp'} & set(sys.modules);"
        "sys.exit(' '.join(slow) or 0)"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=platform.environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout
