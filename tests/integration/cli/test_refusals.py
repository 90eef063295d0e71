"""Bad input, as a person meets it: one sentence, its code and its exit, nothing half done."""

import json
import socketserver
import threading

import pytest

OTHER = "u-0123456789ab"


def refused(ran, status, code):
    """Check that a command ended as one that was refused does; return its sentence."""
    assert (ran.exit, ran.problem["code"]) == (status, code), ran
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    return ran.problem["message"]


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("deploy x --source ftp://a/b", 4, "source_not_supported"),
        ("deploy x --source nowhere", 4, "source_not_supported"),
        ("deploy x --source file:///nowhere", 4, "weights_not_found"),
        ("deploy x --source {model} --task rerank", 4, "task_not_supported"),
        ("deploy x --source {model} --instances 65", 4, "too_many_instances"),
        ("deploy x --source {model} --instances -1", 2, "invalid_request"),
        ("deploy X_y --source {model}", 2, "invalid_request"),
        ("deploy {chat} --source {model}", 4, "name_taken"),
        ("show lost", 5, "deployment_not_found"),
        ("scale lost --add 1", 5, "deployment_not_found"),
        ("update lost --drain 3m", 5, "deployment_not_found"),
        ("stop lost", 5, "deployment_not_found"),
        ("start lost", 5, "deployment_not_found"),
        ("delete lost --confirm lost", 5, "deployment_not_found"),
        ("restore lost", 5, "deployment_not_found"),
        ("logs lost", 5, "deployment_not_found"),
        ("events lost", 5, "deployment_not_found"),
        ("logs {chat} --instance i-aaaaaa", 5, "instance_not_found"),
        ("restore {chat}", 4, "not_in_trash"),
        ("delete {chat} --confirm chatt", 4, "confirmation_mismatch"),
        ("delete {chat}", 2, "invalid_request"),
        ("scale {chat}", 2, "invalid_request"),
        ("scale {chat} --to 65", 4, "too_many_instances"),
        ("scale {chat} --to -1", 2, "invalid_request"),
        ("scale {chat} --add -2", 2, "invalid_request"),
        ("scale {chat} --remove i-aaaaaa", 5, "instance_not_found"),
        ("keys revoke k-000000000000", 5, "key_not_found"),
        ("keys rotate k-000000000000", 5, "key_not_found"),
        ("hold a/b/c", 2, "invalid_request"),
        ("list --tenant me", 2, "invalid_request"),
        ("chat {chat} hello", 2, "invalid_request"),
        ("chat {chat} hello --key ck-wrong", 4, "invalid_api_key"),
        ("chat {chat} hello --key schlüssel", 4, "invalid_api_key"),
        ("chat lost hello --key {key}", 5, "model_not_found"),
        ("chat {chat} hello --key {key} --tenant " + OTHER, 5, "model_not_found"),
        ("chat {chat} hello --key {key} --max-tokens -1", 2, "invalid_request"),
    ],
)
def test_what_is_wrong_is_refused_with_its_code_and_nothing_changes(
    platform, names, line, status, code
):
    before = platform.run("list", "--json").json["items"]
    words = line.format(**names).split()

    message = refused(platform.run(*words, "--json"), status, code)

    assert message
    after = platform.run("list", "--json").json["items"]
    assert [_asked(one) for one in after] == [_asked(one) for one in before]


@pytest.fixture
def names(model, chat, key):
    """What the lines below name."""
    return {"model": model, "chat": chat, "key": key}


def test_for_people_a_refusal_is_one_line(platform):
    ran = platform.run("show", "lost")

    assert (ran.exit, ran.stdout) == (5, "")
    assert ran.stderr.startswith("caravan: ")
    assert ran.stderr.count("\n") == 1


def test_another_tenant_sees_nothing_of_ours(platform, chat):
    listed = platform.run("list", "--json", "--tenant", OTHER)

    assert (listed.exit, listed.json["items"]) == (0, [])
    refused(platform.run("show", chat, "--json", "--tenant", OTHER), 5, "deployment_not_found")


def test_a_name_in_the_trash_stays_taken(platform, model):
    platform.run("deploy", "trash", "--source", str(model), "--instances", "0")
    assert platform.run("delete", "trash", "--confirm", "trash").exit == 0

    again = platform.run("deploy", "trash", "--source", str(model), "--json")

    refused(again, 4, "name_in_trash")


def test_a_revoked_key_is_refused(platform, chat):
    made = platform.run("keys", "create", "--json").json
    asking = ("chat", chat, "hello", "--json", "--key", made["secret"])
    assert platform.run(*asking).exit == 0

    assert platform.run("keys", "revoke", made["key"]["id"]).exit == 0

    refused(platform.run(*asking), 4, "invalid_api_key")


def test_an_expired_key_is_refused(platform, chat):
    made = platform.run("keys", "create", "--expires-in", "0.1s", "--json").json

    ran = platform.run("chat", chat, "hello", "--json", "--key", made["secret"])

    refused(ran, 4, "invalid_api_key")


def test_on_hold_nothing_changes_until_it_is_released(platform, chat):
    assert platform.run("hold", "--json").json["scheduler"]["on_hold"]
    try:
        refused(platform.run("stop", chat, "--json"), 4, "on_hold")
        refused(platform.run("keys", "create", "--json"), 4, "on_hold")
    finally:
        released = platform.run("hold", "--release", "--json").json
    assert {name: one["on_hold"] for name, one in released.items()} == {
        "scheduler": False,
        "auth": False,
    }
    assert platform.run("show", chat, "--json").json["state"] == "running"


def test_where_no_platform_is_known_it_says_how_to_start_one(platform, tmp_path):
    ran = platform.run("list", "--json", environ={"CARAVAN_HOME": str(tmp_path / "empty")})

    assert "`caravan up`" in refused(ran, 3, "unavailable")


def test_a_nats_that_does_not_answer_is_named(platform, free_port):
    url = f"nats://127.0.0.1:{free_port}"

    assert url in refused(platform.run("list", "--json", "--nats-url", url), 3, "unavailable")


class _OldServer(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b'INFO {"version":"2.9.10"}\r\n')
        self.rfile.read()


@pytest.mark.parametrize("line", ["list", "up --detach"])
def test_a_nats_that_is_too_old_is_refused_before_anything_starts(platform, tmp_path, line):
    home = {"CARAVAN_HOME": str(tmp_path)}
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldServer) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"nats://127.0.0.1:{server.server_address[1]}"
        ran = platform.run(*line.split(), "--json", "--nats-url", url, environ=home)
        server.shutdown()

    assert "2.9.10" in refused(ran, 3, "nats_too_old")
    assert not (tmp_path / "context.json").exists()


def test_a_home_of_a_newer_version_is_left_alone(platform, tmp_path):
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"version": 99}))

    for line in ("list", "up --detach", "status"):
        ran = platform.run(*line.split(), "--json", environ={"CARAVAN_HOME": str(tmp_path)})
        assert "newer" in refused(ran, 3, "data_too_new")

    assert json.loads(context.read_text()) == {"version": 99}


def test_a_port_that_is_taken_stops_the_start_before_it_begins(platform, tmp_path):
    taken = platform.router_url.rpartition(":")[2]
    home = {"CARAVAN_HOME": str(tmp_path / "home")}

    ran = platform.run("up", "--detach", "--port", taken, "--json", environ=home)

    assert "--port" in refused(ran, 3, "port_taken")
    assert not (tmp_path / "home" / "context.json").exists()


def _asked(one):
    return {name: one[name] for name in ("name", "source", "instances", "generation")}
