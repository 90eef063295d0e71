"""Parts that stay down as long as a test wants: their supervisor is killed before them."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace

from caravan.cli import running, supervisor
from caravan.cli.programs import Plan
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until


@asynccontextmanager
async def down(platform, *parts):
    """Keep ``parts`` killed inside; afterwards ``caravan up`` brings all of them back."""
    await killed(platform, "supervisor", *parts)
    try:
        yield
    finally:
        await asyncio.to_thread(platform.up)


async def killed(platform, *parts):
    """Kill ``parts`` in this order; nobody starts again what is killed after its supervisor."""
    for part in parts:
        await platform.kill(platform.process(part))


def begun(platform, part, *, named="", **settings):
    """Start ``part`` alone, as the supervisor would, for the next one to adopt.

    With another name it is a second one, with other settings, and the caller ends it.
    """
    plan = msgspec.json.decode(running.plan(platform.home).read_bytes(), type=Plan)
    program = next(one for one in plan.programs if one.name == part)
    environment = {**program.environment, **settings}
    one = replace(program, name=named or part, environment=environment)
    return supervisor.start(platform.home, one, platform.environ)


async def more(came, count=9):
    """Return the next ``count`` answers that come."""
    seen = len(came)
    await until(lambda: len(came) >= seen + count, PATIENCE_S)
    return came[seen:]


def all_whole(answers):
    """Fail with the first that is not."""
    broken = [one for one in answers if not one.whole]
    assert not broken, f"{len(broken)} of {len(answers)}: {broken[0]}"
