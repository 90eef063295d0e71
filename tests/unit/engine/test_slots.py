"""Running, waiting, sent away."""

import asyncio

import pytest

from caravan.testing.engine.slots import FullError, Slots


class Holder:
    """A request that holds its slot until it is told to go."""

    def __init__(self, slots):
        self.inside, self.go = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._hold(slots))

    async def _hold(self, slots):
        async with slots.one():
            self.inside.set()
            await self.go.wait()


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_more_than_fit_wait_in_order():
    slots = Slots(1, None)
    first, second, third = Holder(slots), Holder(slots), Holder(slots)
    await settled()
    assert (slots.running, slots.waiting) == (1, 2)
    first.go.set()
    await second.inside.wait()
    assert not third.inside.is_set()
    second.go.set()
    third.go.set()
    await asyncio.gather(first.task, second.task, third.task)
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_full_queue_sends_away():
    slots = Slots(1, 1)
    holders = [Holder(slots), Holder(slots)]
    await settled()
    with pytest.raises(FullError):
        async with slots.one():
            pass
    for holder in holders:
        holder.go.set()
        await holder.task


async def test_a_queue_of_nothing_refuses_everybody():
    with pytest.raises(FullError):
        async with Slots(8, 0).one():
            pass


async def test_who_leaves_while_waiting_takes_no_slot_along():
    slots = Slots(1, None)
    first, second, third = Holder(slots), Holder(slots), Holder(slots)
    await settled()
    second.task.cancel()
    first.go.set()
    third.go.set()
    await asyncio.gather(first.task, second.task, third.task, return_exceptions=True)
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_slot_given_to_one_who_leaves_just_then_goes_on_to_the_next():
    slots = Slots(1, None)
    async with slots.one():
        second, third = Holder(slots), Holder(slots)
        await settled()
    second.task.cancel()  # nothing has run since the slot was passed on to it
    await third.inside.wait()
    third.go.set()
    await asyncio.gather(second.task, third.task, return_exceptions=True)
    assert not second.inside.is_set()
    async with slots.one():
        assert slots.running == 1
