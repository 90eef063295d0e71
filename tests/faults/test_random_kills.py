"""The story of a deployment while its platform is killed part by part, as a seed draws it.

Each seed is a story of its own on a platform that all of them share; ``CARAVAN_TEST_SEEDS`` tells
another number of them.
"""

import os
import random
import shlex
import time

import pytest

from caravan.contracts import admin, topology
from caravan.testing.platform import PATIENCE_S, Platform
from caravan.testing.wait import until
from engines import install
from tests.faults.clients import clients
from tests.faults.kills import Killer
from tests.faults.standing import left_over, never_twice
from tests.faults.stories import told
from tests.faults.telling import Teller, explained, judge, settled

SEEDS = range(int(os.environ.get("CARAVAN_TEST_SEEDS", "20")))
SLOW_S = 900.0
HERE = "tests/faults/test_random_kills.py"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def key(running):
    """A key for all stories."""
    return running.run("keys", "create", "--json").json["secret"]


@pytest.fixture(scope="module")
def names():
    """The deployments of all stories so far."""
    return []


@pytest.mark.parametrize("seed", SEEDS, ids="seed{}".format)
async def test_what_was_asked_is_reached_whoever_dies(platform, model, key, names, seed):
    name = f"story{seed}"
    names.append(name)
    whole = seed % 10 == 0
    steps = told(seed, whole=whole, kills=4 if whole else None)
    again = f"{HERE} -k 'seed{seed}]'"
    await lived_through(Teller(platform, name, model), steps, key, again)


async def test_in_the_end_nothing_is_left_over(platform, names):
    """All stories were deleted at their end: what they ran is drained and goes."""
    for name in names:
        await platform.reached(name, "deleted", 0, timeout_s=3 * PATIENCE_S)
    await until(lambda: not platform.workers())

    page = await platform.ask(topology.LIST_DEPLOYMENTS, admin.ListDeployments())
    assert (page.unclaimed, page.hold) == ([], "")


@pytest.mark.sglang
@pytest.mark.timeout(2400)
async def test_on_real_sglang_too(tmp_path, model):
    program = install.found("cpu")
    if program is None:
        pytest.skip("no SGLang here: python -m engines.install cpu")
    command = shlex.quote(str(program))
    platform = Platform(tmp_path, engine_command=command, engine_kind="cpu")
    async with platform:
        teller = Teller(platform, "story", model, patience_s=SLOW_S)
        again = f"{HERE} -k real_sglang"
        await lived_through(teller, told(6, kills=3), await platform.key(), again, fake=False)
    left_over(platform.home.root)


async def lived_through(teller, steps, key, again, *, fake=True):
    """Tell the story while clients stream and parts die; hold what came against what was asked."""
    platform, name = teller.platform, teller.name
    killer = Killer(platform, name, random.Random(again))
    async with explained(teller, killer, f"python -m pytest {again}"):
        async with (
            never_twice(platform.home.instances),
            clients(platform, key, name, fake=fake) as asking,
            asking.crowd() as came,
        ):
            for step in steps:
                await teller.step(step, killer)
            reached = await teller.reached(steps[-1].wish)
            last = await asking.ask()
        judge([*came, last], teller, killer)
        assert last.whole or not reached.instances, last
        assert await teller.events() == steps[-1].wish.events
        await settled(teller, reached)
        await teller.gone()
        teller.note("over", time.monotonic())
