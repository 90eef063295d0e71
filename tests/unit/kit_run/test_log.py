import json
import logging

import pytest
import structlog
from msgspec import Struct
from msgspec.structs import asdict

from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.keys import mint
from caravan.kit import log as logs
from caravan.kit.settings import Secret


class Pairs(Struct, omit_defaults=True):
    """What a line may say."""

    name: str
    url: str = ""
    seed: Secret | None = None
    tries: tuple[int, ...] = ()


@pytest.fixture(autouse=True)
def _undone():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fail(why, hidden=""):
    raise ValueError(why, *hidden[:0])


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_an_event_with_its_pairs_service_and_time(capsys):
    logs.configure("auth", form="json")
    structlog.contextvars.bind_contextvars(request="r1")
    structlog.get_logger().info("deployment.stuck", name="demo", tries=3)
    (line,) = lines(capsys)
    assert line["event"] == "deployment.stuck"
    assert (line["name"], line["tries"], line["request"]) == ("demo", 3, "r1")
    assert (line["level"], line["service"]) == ("info", "auth")
    assert line["timestamp"].endswith("Z")


def test_what_libraries_say_has_the_same_form(capsys):
    logs.configure("auth", form="json")
    logging.getLogger("some.library").warning("lost %s", "it")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["service"]) == ("lost it", "some.library", "auth")


def test_the_chatter_of_our_libraries_is_left_out(capsys):
    logs.configure("auth", form="json")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("nats.aio.client").info("connected")
    assert lines(capsys) == []


def test_below_the_level_nothing_is_written(capsys):
    logs.configure("auth", form="json", level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_never_print(capsys, form):
    logs.configure("auth", form=form)
    key = mint(7)
    log = structlog.get_logger()
    log.info(
        "a",
        seed=Secret("s3cret"),
        plain=key,
        nested={"key": [key]},
        url="nats://me:s3cret@host:4222",
    )
    try:
        fail(f"bad key {key}")
    except ValueError:
        log.exception("b")
    logging.getLogger("x").error("key %s at postgresql://me:s3cret@host/db", key)
    text = capsys.readouterr().err
    assert "s3cret" not in text
    assert key not in text
    assert "host:4222" in text
    assert "ValueError" in text


def test_the_short_way_writes_the_same_line(capsys):
    logs.configure("auth", form="json")
    structlog.contextvars.bind_contextvars(process=3)
    key = mint(7)
    pairs = Pairs(name=key, url="nats://me:s3cret@host", seed=Secret("s3cret"), tries=(1, 2))
    logs.lines("a.b")(pairs)
    structlog.get_logger().info("a.b", **asdict(pairs))

    text = capsys.readouterr().err
    assert "s3cret" not in text
    assert key not in text
    short, long = (json.loads(line) for line in text.splitlines())
    assert short.pop("timestamp").endswith("Z")
    assert long.pop("timestamp")
    assert short == long
    assert short["process"] == 3


def test_the_short_way_is_the_long_one_for_eyes_and_none_below_the_level(capsys):
    logs.configure("auth", form="console")
    key = mint(7)
    logs.lines("a.b")(Pairs(name=key))
    logs.configure("auth", form="json", level="warning")
    logs.lines("c.d")(Pairs(name="c"))

    (line,) = capsys.readouterr().err.splitlines()
    assert "a.b" in line
    assert "***" in line
    assert key not in line


def test_a_traceback_tells_no_local_variables(capsys):
    logs.configure("auth", form="console")
    try:
        fail("what went wrong", hidden="in a frame only")
    except ValueError:
        structlog.get_logger().exception("failed")
    text = capsys.readouterr().err
    assert "ValueError: what went wrong" in text
    assert text.count("in a frame only") == text.count('hidden="in a frame only"')


def test_off_a_terminal_auto_is_json(capsys):
    logs.configure("auth")
    structlog.get_logger().info("a")
    assert lines(capsys)[0]["event"] == "a"


@pytest.mark.parametrize("wrong", [{"form": "xml"}, {"level": "chatty"}])
def test_an_unknown_form_or_level_is_refused_with_those_there_are(wrong):
    with pytest.raises(InvalidRequestError, match=r"use .*(json|debug)"):
        logs.configure("auth", **wrong)
