"""The command line as it is read: what is understood, and how the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cli import commands, parser
from caravan.cli.__main__ import main
from caravan.contracts.errors import InvalidRequestError


def read(line):
    return commands.build().parse_args(line.split())


@pytest.mark.parametrize("line", ["--json --tenant u-1 list", "list --json --tenant u-1"])
def test_common_options_may_stand_before_or_after_the_command(line):
    asked = read(line)

    assert (asked.json, asked.tenant, asked.nats_url) == (True, "u-1", None)


def test_common_options_reach_commands_of_a_group():
    asked = read("--tenant u-1 keys create --json")

    assert (asked.json, asked.tenant, asked.run) == (True, "u-1", "keys:create")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--context-length 2048", ["--context-length", "2048"]),
        ("--trust-remote-code", ["--trust-remote-code"]),
        ('--json-model-override-args={"a": 1}', ['--json-model-override-args={"a": 1}']),
        ("--chat-template 'my file'", ["--chat-template", "my file"]),
    ],
)
def test_an_engine_arg_holds_one_flag_with_its_value(text, words):
    assert parser.engine_words(text) == words


def test_engine_args_add_up():
    build = commands.build()
    flags = ["--engine-arg", "--dtype float16", "--engine-arg", "--tp-size 2"]

    asked = build.parse_args(["deploy", "chat", "--source", "hf://a/b", *flags])

    assert asked.engine_arg == ["--dtype", "float16", "--tp-size", "2"]


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_durations_have_units(text, value):
    assert parser.seconds(text) == value


def test_a_folder_may_be_named_by_its_plain_path(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parser.source("model") == f"file://{tmp_path}/model"
    assert parser.source("./lost") == "./lost"
    assert parser.source("hf://a/b") == "hf://a/b"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lost", "invalid choice: 'lost'"),
        ("deploy chat", "required: --source"),
        ("scale chat --add two", "invalid int value: 'two'"),
        ("scale chat --add 1 --to 2", "not allowed with"),
        ("deploy chat --source x --drain soon", "'soon' is no duration"),
        ("deploy chat --source x --gpus 0", "'0' is no number above 0"),
        ("list --jsn", "unrecognized arguments: --jsn"),
        ("keys", "required: COMMAND"),
    ],
)
def test_a_wrong_line_is_refused_in_one_sentence_that_shows_the_way(line, says, capsys):
    assert main(line.split()) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert says.lower() in said.err.lower()
    assert "--help` shows how it goes." in said.err
    assert said.err.count("\n") == 1


@given(st.lists(st.text(max_size=8), max_size=5))
def test_no_line_at_all_gives_anything_but_words_or_a_refusal(words):
    try:
        commands.build().parse_args(words)
    except InvalidRequestError:
        return
    except SystemExit:
        assert {"-h", "--help"} & set(words)


def test_every_command_has_help_with_an_example(capsys):
    for line in _lines():
        with pytest.raises(SystemExit):
            commands.build().parse_args([*line.split(), "--help"])
        assert f"caravan {line}" in capsys.readouterr().out.split("example:")[1]


def test_every_command_points_to_a_function_that_is_there():
    from importlib import import_module  # noqa: PLC0415 - as the command does it

    for line in _lines():
        module, _, function = _defaults(line)["run"].partition(":")
        assert callable(getattr(import_module(f"caravan.cli.{module}"), function))


def test_without_a_word_it_shows_its_commands(capsys):
    with pytest.raises(SystemExit) as done:
        main([])

    assert done.value.code == 0
    assert "deploy" in capsys.readouterr().out


def _choices(of):
    for action in of._actions:
        if action.choices and not action.option_strings and isinstance(action.choices, dict):
            return action.choices
    return {}


def _lines():
    for name, command in _choices(commands.build()).items():
        inner = _choices(command)
        yield from (f"{name} {word}" for word in inner) if inner else (name,)


def _defaults(line):
    found = commands.build()
    for word in line.split():
        found = _choices(found)[word]
    return found._defaults
