"""Tells a story to a platform, and holds what came of it against what was asked."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct

from caravan.contracts import admin, topology
from caravan.contracts.errors import RemoteRefusal, UnavailableError
from caravan.testing.platform import PATIENCE_S
from caravan.testing.wait import until
from tests.faults.standing import workers_of

ASK_S = 4.0
HEARD_S = 1.0
SERVES = {"running", "degraded", "updating"}
EXPECTED = {"model_not_ready", "model_stopped", "model_not_found", "engine_failed"}
"""How the router says no while nobody serves; never 401, never that it knows nothing."""

MESSAGES = {
    "create": (topology.CREATE_DEPLOYMENT, admin.CreateDeployment),
    "scale": (topology.SCALE_DEPLOYMENT, admin.ScaleDeployment),
    "update": (topology.UPDATE_DEPLOYMENT, admin.UpdateDeployment),
    "stop": (topology.STOP_DEPLOYMENT, admin.StopDeployment),
    "start": (topology.START_DEPLOYMENT, admin.StartDeployment),
    "delete": (topology.DELETE_DEPLOYMENT, admin.DeleteDeployment),
    "restore": (topology.RESTORE_DEPLOYMENT, admin.RestoreDeployment),
}


class Span(Struct):
    """A time in which requests may be refused; monotonic."""

    since: float
    until: float = float("inf")


class Teller:
    """Asks for one deployment as its owner would: every command again until it is answered."""

    def __init__(self, platform, name, model, *, patience_s=PATIENCE_S):
        self.platform, self.name, self._model = platform, name, model
        self.patience_s = patience_s
        self.said = []
        """What was done, for whoever reads of a failure."""
        self.spans = []

    async def step(self, step, killer):
        """Take one step; who is to die dies while the command is under way or soon after it."""
        self.note(step.verb, step.fields)
        if step.interrupts or self._loses_somebody(step):
            self._begin_span()
        async with asyncio.TaskGroup() as group:
            for part, delay_s in step.kills:
                group.create_task(self._killed(killer, part, delay_s))
            answer = await self._commanded(step)
            if answer is not None:
                self.note("acknowledged", f"{answer.instances} of {answer.generation}")
            await asyncio.sleep(step.pause_s)
        if step.awaited:
            await self.reached(step.wish)

    async def reached(self, wish):
        """Wait for what was asked; from then on requests are answered, if it is to run."""
        count = wish.instances

        async def there():
            try:
                seen.append(await self._ask(topology.GET_DEPLOYMENT, self._get()))
            except (UnavailableError, RemoteRefusal):
                return False
            now = seen[-1]
            return (now.state, now.ready, now.instances, now.generation) == (
                wish.state, count, count, wish.generation,
            )  # fmt: skip

        seen = []
        try:
            await until(there, self.patience_s)
        except TimeoutError:
            last = seen[-1] if seen else None
            raise AssertionError(f"{self.name} is not {wish.state}, {count}: {last}") from None
        self.note("reached", wish.state)
        if self.spans and count:
            # The router hears it as the scheduler does, be it a moment later.
            self.spans[-1].until = min(self.spans[-1].until, time.monotonic() + HEARD_S)
        return seen[-1]

    async def events(self):
        """Return what was asked of it, by its history, oldest first."""
        page = await self._patiently(
            topology.LIST_EVENTS, admin.ListEvents(name=self.name, limit=1000)
        )
        return tuple(one.what for one in page.items if one.kind == "deployment")

    async def gone(self):
        """Delete it, if it is not deleted; what is under way there ends in its time."""
        now = await self._patiently(topology.GET_DEPLOYMENT, self._get())
        if not now.state.startswith("delet"):
            ask = admin.DeleteDeployment(
                request_id=uuid.uuid4().hex, name=self.name, confirm=self.name
            )
            await self._patiently(topology.DELETE_DEPLOYMENT, ask)

    def may_refuse(self, answer):
        """Tell whether a refusal at that time is what the story explains."""
        return any(answer.at_work(span.since, span.until) for span in self.spans)

    def note(self, what, detail=""):
        self.said.append(f"{time.monotonic():10.2f} {what} {detail}")

    async def _commanded(self, step):
        kind = MESSAGES[step.verb][1]
        fields = dict(step.fields)
        if step.verb == "create":
            fields["source"] = f"file://{self._model}"
        if step.verb == "delete":
            await self._refused_without_its_name()
            fields["confirm"] = self.name
        ask = kind(request_id=uuid.uuid4().hex, name=self.name, **fields)
        first = await self._patiently(MESSAGES[step.verb][0], ask)
        again = await self._patiently(MESSAGES[step.verb][0], ask)
        same = (first.instances, first.generation) == (again.instances, again.generation)
        assert same, f"asked twice, answered differently: {first} and {again}"
        return first

    async def _refused_without_its_name(self):
        ask = admin.DeleteDeployment(request_id=uuid.uuid4().hex, name=self.name, confirm="else")
        with pytest.raises(RemoteRefusal) as refusal:
            await self._patiently(topology.DELETE_DEPLOYMENT, ask)
        assert refusal.value.problem.code == "confirmation_mismatch"

    async def _killed(self, killer, part, delay_s):
        await asyncio.sleep(delay_s)
        self.note("kill", part)
        await killer.kill(part)
        self.note("killed", killer.kills[-1])

    def _loses_somebody(self, step):
        return any(part in {"worker", "engine"} for part, _ in step.kills)

    def _begin_span(self):
        if not self.spans or self.spans[-1].until != float("inf"):
            self.spans.append(Span(time.monotonic()))

    def _get(self):
        return admin.GetDeployment(name=self.name)

    async def _ask(self, endpoint, request):
        tenant = self.platform.tenant
        return await self.platform.bus.ask(endpoint, request, tenant=tenant, timeout_s=ASK_S)

    async def _patiently(self, endpoint, request):
        """Ask until there is an answer, with the same ``request_id`` each time."""
        async with asyncio.timeout(self.patience_s):
            while True:
                try:
                    return await self._ask(endpoint, request)
                except UnavailableError:
                    pass
                except RemoteRefusal as refusal:
                    if refusal.problem.code != "unavailable":
                        raise
                await asyncio.sleep(0.1)


@asynccontextmanager
async def explained(teller, killer, again):
    """Add to a failure what had happened, and how it is run again alone."""
    try:
        yield
    except BaseException as failure:
        failure.add_note("\n".join(["What happened:", *teller.said]))
        failure.add_note("\n".join(map(repr, killer.kills)))
        failure.add_note(f"Again, alone: {again}")
        raise


def judge(answers, teller, killer):
    """Fail for the first answer that nothing explains."""
    kills = killer.kills
    for one in answers:
        assert not one.looks_whole or one.whole, f"it looks complete and is not: {one}"
        if one.whole:
            continue
        excused = any(kill.excuses(one) for kill in kills)
        if one.cut:
            assert excused, f"cut, and nobody who was killed carried it: {one}"
        elif one.status:
            allowed = teller.may_refuse(one) and one.code in EXPECTED
            assert allowed, f"refused without a reason: {one}"
        else:
            assert excused, f"no answer at all: {one}"
    assert any(one.whole for one in answers), "nobody was ever answered"


async def settled(teller, told):
    """Fail unless the machine runs of it what the scheduler says, once each."""
    platform = teller.platform
    named = {truth.instance for truth in told.truth}
    running = {truth.instance for truth in told.truth if truth.ready}
    workers, engines = workers_of(platform, teller.name), platform.engines()
    assert running <= set(workers) <= named, f"{running} <= {set(workers)} <= {named}"
    assert all(engines[instance] for instance in running), f"no engine: {engines}"
