import asyncio

import pytest
from msgspec.structs import replace

from caravan.contracts import topology
from caravan.contracts.admin import Tenant
from caravan.contracts.errors import (
    InvalidRequestError,
    OnHoldError,
    Problem,
    Refusal,
    RemoteRefusal,
    UnavailableError,
)
from caravan.kit import outbox
from caravan.kit.answers import ANSWERS_LAST_S, Once, RequestIdReusedError, answer_once
from caravan.kit.endpoints import Call

CALL = Call(
    endpoint=topology.CREATE_TENANT,
    subject="caravan.auth.tenants.create",
    tenant="u-000000000001",
    actor="me",
    request_id="r1",
    digest="d1",
)
ANSWER = Tenant(id="u-000000000002", label="x", created_at=1.0)


class Work:
    """Counts how often it is done; each time leaves an event."""

    def __init__(self, outcome=ANSWER):
        self.outcome, self.times = outcome, 0

    def __call__(self, session):
        self.times += 1
        outbox.record(session, kind="tenant", tenant="t", name="", what="created", at=1.0)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_a_repeat_gets_the_same_answer_and_nothing_is_done_again(db):
    work = Work()
    assert [await answer_once(db, CALL, work) for _ in range(3)] == [ANSWER] * 3
    assert work.times == 1
    assert await db.run(outbox.newest) == 1


async def test_of_equal_requests_at_the_same_time_one_works(db):
    work = Work()
    answers = await asyncio.gather(*(answer_once(db, CALL, work) for _ in range(20)))
    assert answers == [ANSWER] * 20
    assert work.times == 1


@pytest.mark.parametrize("change", [{"digest": "d2"}, {"subject": "caravan.auth.hold"}])
async def test_a_request_id_belongs_to_one_intent(db, change):
    await answer_once(db, CALL, Work())
    with pytest.raises(RemoteRefusal) as refusal:
        await answer_once(db, replace(CALL, **change), Work())
    assert refusal.value.problem.code == RequestIdReusedError.code == "request_id_reused"
    assert refusal.value.problem.param == "request_id"


async def test_tenants_do_not_meet_in_a_request_id(db):
    work = Work()
    await answer_once(db, CALL, work)
    await answer_once(db, replace(CALL, tenant="u-000000000009", digest="d2"), work)
    assert work.times == 2


async def test_a_refusal_undoes_the_work_and_is_answered_again(db):
    work = Work(InvalidRequestError("Use another label.", param="label"))
    for _ in range(2):
        with pytest.raises(Refusal) as refusal:
            await answer_once(db, CALL, work)
        assert refusal.value.problem == work.outcome.problem
    assert work.times == 1
    assert await db.run(outbox.newest) == 0


@pytest.mark.parametrize("kind", [UnavailableError, OnHoldError])
async def test_what_passes_is_not_stored(db, kind):
    with pytest.raises(kind):
        await answer_once(db, CALL, Work(kind("Try again.")))
    assert await answer_once(db, CALL, Work()) == ANSWER


async def test_what_failed_by_mistake_is_tried_again(db):
    with pytest.raises(ZeroDivisionError):
        await answer_once(db, CALL, Work(ZeroDivisionError()))
    assert await answer_once(db, CALL, Work()) == ANSWER
    assert await db.run(outbox.newest) == 1


async def test_a_secret_is_answered_once_and_stored_nowhere(db, database_url, tmp_path):
    shown = Problem(code="key_already_shown", message="Shown.", param="k-1")
    work = Work(Once(answer=replace(ANSWER, label="s3cret"), replay=shown))
    assert (await answer_once(db, CALL, work)).label == "s3cret"
    with pytest.raises(RemoteRefusal) as refusal:
        await answer_once(db, CALL, work)
    assert refusal.value.problem == shown
    assert work.times == 1
    if database_url.startswith("sqlite"):
        files = list((tmp_path / "data").iterdir())
        assert files
        assert not any(b"s3cret" in file.read_bytes() for file in files)


async def test_an_answer_lasts_a_day(db):
    work = Work()
    for at in (0.0, ANSWERS_LAST_S - 1, ANSWERS_LAST_S + 1):
        await answer_once(db, CALL, work, now=lambda at=at: at)
    assert work.times == 2
