"""The story of a deployment as a seed tells it: what is asked in which order, and who dies when.

Values only; the same seed always tells the same story. What comes out in the end does not depend
on the moments, so it is known beforehand.
"""

import random

from msgspec import Struct
from msgspec.structs import replace

from tests.faults.kills import PARTS

KILL_WITHIN_S = 1.0
PAUSE_S = 0.8


class Wish(Struct, frozen=True):
    """What has been asked for, all in all."""

    instances: int = 0
    last: int = 0
    generation: int = 1
    deleted: bool = False
    events: tuple[str, ...] = ()

    @property
    def state(self):
        if self.deleted:
            return "deleted"
        return "running" if self.instances else "stopped"


class Step(Struct, frozen=True, kw_only=True):
    """One command, what is asked when it has been acknowledged, and who dies meanwhile."""

    verb: str
    fields: dict[str, object] = {}
    wish: Wish
    awaited: bool = False
    """Whether the story waits until it is reached."""
    pause_s: float = 0.0
    kills: tuple[tuple[str, float], ...] = ()
    """Parts, each with its seconds after the command is sent."""

    @property
    def interrupts(self):
        """Whether requests may be refused from here on until it is reached."""
        return self.verb not in {"update", "scale"} or bool(self.fields.get("in_place"))


def told(seed, *, whole=False, kills=None):
    """Return the steps of a seed; ``whole`` tells all of the story in its order."""
    chances = random.Random(seed)
    chapters = [_grown, _updated, _shrunk, _rested, _trashed]
    if not whole:
        chapters = chances.sample(chapters, k=2)
    steps = [_created(chances)]
    for chapter in chapters:
        for verb, fields, wish in chapter(steps[-1].wish, chances):
            pause_s = chances.uniform(0.0, PAUSE_S)
            steps.append(Step(verb=verb, fields=fields, wish=wish, pause_s=pause_s))
    return _with_kills(seed, steps, chances, kills)


def _created(chances):
    count = chances.choice([1, 2])
    wish = Wish(instances=count, last=count, events=("created",))
    awaited = chances.random() < 0.7
    return Step(verb="create", fields={"instances": count}, wish=wish, awaited=awaited)


def _grown(wish, _chances):
    yield "scale", {"add": 1}, _counted(wish, wish.instances + 1, "scaled")


def _shrunk(wish, _chances):
    if wish.instances > 1:
        yield "scale", {"add": -1}, _counted(wish, wish.instances - 1, "scaled")


def _updated(wish, chances):
    in_place = chances.random() < 0.25
    number = wish.generation + 1
    fields = {"engine_args": ["--max-running-requests", str(32 + number)], "in_place": in_place}
    yield "update", fields, replace(wish, generation=number, events=(*wish.events, "updated"))


def _rested(wish, _chances):
    stopped = _counted(wish, 0, "stopped")
    yield "stop", {}, stopped
    yield "start", {}, _counted(stopped, stopped.last, "started")


def _trashed(wish, _chances):
    gone = replace(_counted(wish, 0, "deleted"), deleted=True)
    yield "delete", {}, gone
    back = replace(gone, deleted=False, events=(*gone.events, "restored"))
    yield "restore", {}, back
    yield "start", {}, _counted(back, back.last, "started")


def _counted(wish, count, what):
    last = count or wish.instances or wish.last
    return replace(wish, instances=count, last=last, events=(*wish.events, what))


def _with_kills(seed, steps, chances, count):
    """Every part is the first victim of some seed; the others are drawn."""
    count = count or chances.choice([1, 2, 3])
    parts = [PARTS[seed % len(PARTS)], *chances.choices(PARTS, k=count - 1)]
    for part in parts:
        number = chances.randrange(len(steps))
        kill = (part, chances.uniform(0.0, KILL_WITHIN_S))
        steps[number] = replace(steps[number], kills=(*steps[number].kills, kill))
    return steps
