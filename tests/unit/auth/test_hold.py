import pytest

from caravan.contracts.errors import OnHoldError
from services.auth.core import hold


def note(rows, times=1):
    for _ in range(times):
        rows.record(kind="key", tenant="t", name="k", what="created", at=1.0, actor="")


async def test_a_database_that_is_behind_is_held_without_an_event(transact):
    def work(rows):
        note(rows, 3)
        hold.notice(rows, "it ends at event 3", 9)
        return rows.newest(), hold.reason(rows)

    newest, why = await transact(work)
    assert newest == 3
    assert "it ends at event 3" in why
    with pytest.raises(OnHoldError, match="caravan hold --release"):
        await transact(hold.require_none)


async def test_a_database_that_is_not_behind_is_not_held(transact):
    await transact(lambda rows: hold.notice(rows, "", 9))
    await transact(hold.require_none)


async def test_events_after_the_release_are_above_all_that_were_published(transact):
    def work(rows):
        hold.notice(rows, "behind", 9)
        hold.by_hand(rows, 1.0, "me")  # changes nothing: it is on hold already
        hold.notice(rows, "further behind", 12)
        hold.release(rows, 2.0, "me")
        return rows.newest(), hold.reason(rows)

    assert await transact(work) == (13, "")


async def test_a_hold_by_hand_is_told_once_and_its_release_too(transact):
    def work(rows):
        hold.release(rows, 1.0, "me")
        hold.by_hand(rows, 2.0, "me")
        hold.by_hand(rows, 3.0, "me")
        hold.release(rows, 4.0, "me")
        return rows.newest()

    assert await transact(work) == 2
