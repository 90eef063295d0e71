import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.admin import CreateKey, RotateKey
from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.keys import digest, well_formed
from services.auth.core import keys, tenants
from services.auth.core.errors import KeyNotFoundError, LabelTakenError, TenantNotFoundError
from services.auth.core.rows import StoredKey

TENANT = "u-000000000001"
TIMES = st.floats(min_value=0, max_value=1e10)


def draw(number=1, now=100.0):
    return keys.Draw(secret=number, id=f"{number:012x}", now=now)


def stored(**more):
    facts = {"id": "k-1", "digest": "d", "tenant": TENANT, "label": "", "hint": "abcd"}
    return StoredKey(**facts, scopes=[], created_at=0.0, **more)


@given(TIMES, st.none() | TIMES, st.none() | TIMES)
def test_revoked_wins_over_expired_and_expired_begins_at_its_moment(now, expires_at, revoked_at):
    word = keys.state(stored(expires_at=expires_at, revoked_at=revoked_at), now)
    if revoked_at is not None:
        assert word == "revoked"
    else:
        assert (word == "expired") == (expires_at is not None and expires_at <= now)


@given(TIMES, st.none() | TIMES, st.none() | TIMES)
def test_the_bucket_names_every_key_that_may_be_used(now, expires_at, revoked_at):
    key = stored(expires_at=expires_at, revoked_at=revoked_at)
    entry = keys.entry(key, now)
    if keys.state(key, now) == "active":
        assert (entry.state, entry.expires_at) == ("active", expires_at)
    elif entry is not None:
        assert entry.state == "revoked" or entry.expires_at <= now


def test_the_bucket_forgets_what_ended_more_than_a_day_ago():
    ended = stored(revoked_at=0.0)
    assert keys.entry(ended, keys.TOLD_AFTER_S).state == "revoked"
    assert keys.entry(ended, keys.TOLD_AFTER_S + 1) is None
    assert keys.entry(stored(expires_at=0.0), keys.TOLD_AFTER_S + 1) is None


async def test_of_a_key_its_digest_and_hint_are_kept(transact):
    def work(rows):
        tenants.create(rows, "x", TENANT[2:], 1.0)
        return keys.create(rows, TENANT, CreateKey(request_id="r", label="ci"), draw())

    key, secret = await transact(work)
    kept = await transact(lambda rows: rows.key(key.id))
    assert well_formed(secret)
    assert (kept.digest, kept.hint, kept.label) == (digest(secret), secret[-4:], "ci")
    assert secret not in repr(kept)


async def test_rotation_ends_the_old_key_after_its_grace_and_prolongs_nothing(transact):
    def work(rows):
        tenants.create(rows, "x", TENANT[2:], 1.0)
        ask = CreateKey(request_id="r", expires_in_s=50, scopes=["demo"])
        first, _ = keys.create(rows, TENANT, ask, draw(1, now=100.0))
        ask = RotateKey(request_id="r", id=first.id, grace_s=1000)
        return keys.rotate(rows, TENANT, ask, draw(2, now=110.0))

    old, new, _ = await transact(work)
    assert old.expires_at == 150.0
    assert (new.expires_at, new.scopes) == (150.0, ["demo"])


@pytest.mark.parametrize("ended", ["revoked", "expired"])
async def test_a_key_that_has_ended_is_not_rotated(transact, ended):
    def work(rows):
        tenants.create(rows, "x", TENANT[2:], 1.0)
        ask = CreateKey(request_id="r", expires_in_s=1)
        key, _ = keys.create(rows, TENANT, ask, draw(1, now=100.0))
        if ended == "revoked":
            keys.revoke(rows, TENANT, key.id, 100.5)
        keys.rotate(rows, TENANT, RotateKey(request_id="r", id=key.id), draw(2, now=101.0))

    with pytest.raises(KeyNotFoundError, match=f"is {ended}: create a new one"):
        await transact(work)


@pytest.mark.parametrize("seconds", [0, -1, 1e300])
def test_a_life_that_makes_no_sense_is_refused(seconds):
    with pytest.raises(InvalidRequestError) as refusal:
        keys.create(None, TENANT, CreateKey(request_id="r", expires_in_s=seconds), draw())
    assert refusal.value.problem.param == "expires_in_s"


async def test_the_default_tenant_is_made_once(transact):
    made = await transact(lambda rows: tenants.create_default(rows, "a" * 12, 1.0))
    assert (made.id, made.label) == ("u-aaaaaaaaaaaa", "default")
    assert await transact(lambda rows: tenants.create_default(rows, "b" * 12, 2.0)) is None
    assert await transact(lambda rows: tenants.require(rows, made.id)) == made
    with pytest.raises(LabelTakenError):
        await transact(lambda rows: tenants.create(rows, "default", "c" * 12, 3.0))
    with pytest.raises(TenantNotFoundError, match="create one"):
        await transact(lambda rows: tenants.require(rows, "u-bbbbbbbbbbbb"))
