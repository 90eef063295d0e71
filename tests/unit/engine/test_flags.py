"""SGLang's command line."""

import pytest

from caravan.testing.engine.flags import known, parse

START = ["serve", "--model-path", "/model"]


def test_every_flag_of_sglang_is_accepted():
    for flag in known():
        value = {0: [], "?": []}.get(flag.nargs, [str((flag.choices or [1])[0])])
        parse([*START, flag.names[0], *value])


@pytest.mark.parametrize(
    "wrong",
    [["--nobody-knows"], ["--port", "no number"], ["--device"], ["--load-format", "wrong"], ["x"]],
)
def test_what_sglang_does_not_know_ends_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([*START, *wrong])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_model_is_needed():
    with pytest.raises(SystemExit):
        parse(["serve"])


def test_short_forms_are_understood_as_argparse_does():
    assert parse([*START, "--max-run", "3", "--is-emb"]).max_running_requests == 3


def test_the_folder_is_the_name_where_no_other_is_given():
    assert parse(START).served_model_name == "/model"
    assert parse([*START, "--served-model-name=u-1/x"]).served_model_name == "u-1/x"


def test_the_type_of_model_is_left_to_the_front():
    assert parse([*START, "--model-type", "llm"]) == parse([*START, "--model-type=llm"])
