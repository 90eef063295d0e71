"""Where the home is, what it refuses, and which ports it takes."""

import json
import os
import socket
import stat

import pytest

from caravan.cli import environment, ports
from caravan.cli.errors import DataTooNewError, PortTakenError
from caravan.cli.home import DATA_VERSION, Context, Home, find, write_whole
from caravan.contracts.errors import InvalidRequestError


def test_the_named_home_wins_over_the_nearest_and_that_over_here(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find({}, inner).root == inner / ".caravan"

    (tmp_path / ".caravan").mkdir()
    assert find({}, inner).root == tmp_path / ".caravan"
    assert find({"CARAVAN_HOME": "/else/where"}, inner).root.as_posix() == "/else/where"


def test_a_context_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    home = Home(tmp_path)
    text = json.dumps({"version": DATA_VERSION + 1, "and": "something new"})
    home.context.write_text(text)

    with pytest.raises(DataTooNewError, match="newer Caravan"):
        home.read()

    assert home.context.read_text() == text


def test_a_context_with_fields_not_known_yet_is_read(tmp_path):
    home = Home(tmp_path)
    home.write(Context(nats_url="nats://x", router_url="http://y"))
    more = json.loads(home.context.read_text()) | {"later": 1}
    home.context.write_text(json.dumps(more))

    assert home.read() == Context(nats_url="nats://x", router_url="http://y")


def test_a_broken_context_is_refused_with_its_place(tmp_path):
    home = Home(tmp_path)
    home.context.write_text("{")

    with pytest.raises(InvalidRequestError, match=r"context\.json cannot be read"):
        home.read()


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    file = tmp_path / "env"
    file.write_text("old")

    write_whole(file, b"new", mode=0o600)

    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["env"]  # noqa: PTH208 - names are what counts


def test_the_environment_file_gives_back_what_a_shell_would_read(tmp_path):
    values = {"OPENAI_API_KEY": "ck-a'b $HOME", "CARAVAN_MODEL": "u-1/demo"}

    environment.write(tmp_path / "env", values)

    assert environment.read(tmp_path / "env") == values
    assert environment.read(tmp_path / "lost") == {}


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_asked_for_and_taken_is_refused(taken):
    with pytest.raises(PortTakenError, match=f"Port {taken} is in use.*give --port another"):
        ports.choose("--port", taken, 0, 8000, runs=False)


def test_a_default_port_that_is_taken_gives_way_to_the_next_free_one(taken):
    assert ports.choose("--port", None, 0, taken, runs=False) > taken


def test_the_port_of_before_is_kept_while_it_is_free(taken, free_port):
    assert ports.choose("--port", None, free_port, 8000, runs=False) == free_port
    assert ports.choose("--port", None, taken, taken, runs=False) != taken


def test_what_runs_keeps_its_port(taken):
    assert ports.choose("--port", None, taken, 8000, runs=True) == taken
    with pytest.raises(InvalidRequestError, match="`caravan down` first"):
        ports.choose("--port", taken + 1, taken, 8000, runs=True)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(InvalidRequestError, match="is no port"):
        ports.choose("--port", port, 0, 8000, runs=False)
