"""One platform for the tests of a file that only talk to it."""

import pytest

from caravan.testing.models import tiny_random
from caravan.testing.platform import Platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A running platform with the fake engine; tests use names of their own on it."""
    with Platform(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a model that every engine loads."""
    return tiny_random(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def chat(platform, model):
    """The name of a deployment that runs."""
    ran = platform.run("deploy", "chat", "--source", str(model), "--wait")
    assert ran.exit == 0, ran.stderr
    return "chat"


@pytest.fixture(scope="module")
def key(platform):
    """The secret of a key that works."""
    return platform.run("keys", "create", "--label", "tests", "--json").json["secret"]
