"""``caravan down``: everything of a home ended, in an order in which nobody is cut."""

import argparse
import asyncio

from caravan.cli import running, sessions
from caravan.cli.home import Home
from caravan.cli.output import Output, Say
from caravan.cli.programs import AUTH, NATS, ORDER, ROUTER, SCHEDULER
from caravan.cli.session import where
from caravan.kit.process import end

SERVICE_S = 15.0
"""For a service to end in order."""
SUPERVISOR = "supervisor"


def down(asked: argparse.Namespace, out: Output) -> None:
    """End the platform; nothing to end is no error."""
    home = where(asked.nats_url, asked.tenant).home
    ended = end_all(home, out, asked.grace) if home.run.is_dir() else []
    if out.as_json:
        out.document({"home": str(home.root), "ended": ended})
    elif ended:
        out.line(f"Ended {', '.join(ended)}. What was deployed starts again with `caravan up`.")
    else:
        out.line(f"Nothing runs for {home.root}.")


def anything_runs(home: Home) -> bool:
    """Tell whether any part or worker of ``home`` lives."""
    parts = (SUPERVISOR, *ORDER)
    return bool(running.living(home)) or any(running.lives(home, name) for name in parts)


def end_all(home: Home, out: Output, grace_s: float) -> list[str]:
    """End what runs for ``home`` and return its names; workers get ``grace_s`` for their streams.

    First whoever starts others, then workers, the router when nobody streams any more, NATS last.
    """
    if not anything_runs(home):
        return []
    with out.progress("Ending the supervisor") as say:
        return asyncio.run(_end_all(home, say, grace_s))


async def _end_all(home: Home, say: Say, grace_s: float) -> list[str]:
    ended = await _end(home, SUPERVISOR)
    with running.claimed(home):  # no `up` begins in the middle
        say("Ending scheduler and auth: nothing new starts")
        both = await asyncio.gather(_end(home, SCHEDULER), _end(home, AUTH))
        ended += [name for names in both for name in names]
        ended += await _end_workers(home, say, grace_s)
        for name in (ROUTER, NATS):
            say(f"Ending {name}")
            ended += await _end(home, name)
    return ended


async def _end(home: Home, name: str) -> list[str]:
    who = running.lives(home, name)
    if who is None:
        return []
    await end(who, SERVICE_S)
    return [name]


async def _end_workers(home: Home, say: Say, grace_s: float) -> list[str]:
    everyone = running.workers(home)
    tasks = {
        asyncio.create_task(
            sessions.end_all(who, home.instances / instance, grace_s), name=instance
        )
        for instance, who in everyone.items()
    }
    living = list(running.living(home))
    while tasks:
        names = ", ".join(sorted(task.get_name() for task in tasks))
        say(f"Waiting for {names} to finish what is being answered (at most {grace_s:.0f} s)")
        _, tasks = await asyncio.wait(tasks, timeout=1.0)
    return living
