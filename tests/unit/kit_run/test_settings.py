from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from caravan.contracts.errors import InvalidRequestError
from caravan.kit.settings import Secret, from_environ


class Settings(Struct, frozen=True, kw_only=True):
    nats_url: str
    port: int = 8000
    drain_s: float = 120.0
    pull: bool = False
    hosts: list[str] = []
    folder: Path | None = None
    seed: Secret | None = None
    workers: Annotated[int, Meta(ge=1)] = 1


def read(**environ):
    return from_environ(Settings, "part", {"PART_NATS_URL": "nats://n"} | environ)


def test_what_is_not_set_keeps_its_default():
    assert read() == Settings(nats_url="nats://n")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("PORT", "9000", 9000),
        ("DRAIN_S", "1.5", 1.5),
        ("DRAIN_S", "2", 2.0),
        ("PULL", "true", True),
        ("HOSTS", "a, b,", ["a", "b"]),
        ("HOSTS", '["a,b", "c"]', ["a,b", "c"]),
        ("HOSTS", "", []),
        ("FOLDER", "/x/y", Path("/x/y")),
        ("FOLDER", "", None),
        ("SEED", "", None),
        ("NATS_URL", " 12 ", " 12 "),
    ],
)
def test_a_variable_becomes_a_value_of_its_fields_type(variable, text, value):
    assert getattr(read(**{f"PART_{variable}": text}), variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("PORT", "many", "a whole number"),
        ("PORT", "", "a whole number"),
        ("DRAIN_S", "soon", "a number"),
        ("PULL", "perhaps", "true or false"),
        ("HOSTS", '["a", ', "words with commas"),
        ("HOSTS", "[1]", "words with commas"),
        ("WORKERS", "0", "a whole number"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_wants(variable, text, wanted):
    with pytest.raises(InvalidRequestError, match=f"PART_{variable}.*wants {wanted}") as refusal:
        read(**{f"PART_{variable}": text})
    assert refusal.value.problem.param == f"PART_{variable}"
    assert refusal.value.exit == 2


def test_a_missing_variable_is_named():
    with pytest.raises(InvalidRequestError, match="PART_NATS_URL is not set: give it text"):
        from_environ(Settings, "part", {"PART_PORT": "1"})


def test_variables_that_are_not_ours_are_left_alone():
    assert read(PART_COLOUR="blue", PORT="x").port == 8000


def test_a_secret_is_given_away_only_when_asked():
    seed = read(PART_SEED="s3cret").seed
    assert seed.reveal() == "s3cret"
    assert "s3cret" not in f"{seed} {seed!r} {[seed]}"
    assert seed == Secret("s3cret") != Secret("other")
