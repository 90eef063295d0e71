"""One platform for all that only hurt its parts; what it leaves behind is looked at in the end."""

import pytest

from caravan.testing.models import tiny_random
from caravan.testing.platform import Platform
from tests.faults.standing import left_over

QUICK = {"SCHEDULER_RESTART_FIRST_S": "0.5", "SCHEDULER_RESTART_LONGEST_S": "4"}
"""What was killed comes back soon, so that a story is short."""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a model that every engine loads."""
    return tiny_random(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """A platform with the fake engine, for the whole run; after ``down`` nothing of it lives."""
    platform = Platform(tmp_path_factory.mktemp("hurt"), environ=QUICK)
    with platform:
        yield platform
    left_over(platform.home.root)


@pytest.fixture
async def platform(running):
    """The shared platform, with a bus of this test; tests use names of their own on it."""
    async with running.connected():
        yield running


@pytest.fixture
async def own(tmp_path):
    """A platform of the test's own, for what one cannot do to a shared one."""
    platform = Platform(tmp_path, environ=QUICK)
    async with platform:
        yield platform
    left_over(platform.home.root)
