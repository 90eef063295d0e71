"""API keys: made, shown without their secret, revoked, rotated, and told to the routers."""

from msgspec import Struct
from msgspec.structs import replace

from caravan.contracts import keys as form
from caravan.contracts.admin import CreateKey, Key, RotateKey
from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.keys import KeyEntry
from caravan.contracts.names import check_name, path
from services.auth.core.errors import KeyNotFoundError
from services.auth.core.rows import Rows, StoredKey

ACTIVE = "active"
EXPIRED = "expired"
REVOKED = "revoked"

LABEL_LIMIT = 100
SCOPES_LIMIT = 100
LIFE_LIMIT_S = 100 * 366 * 24 * 3600.0
"""A hundred years: what is longer is a mistake, "never" is None."""

TOLD_AFTER_S = 24 * 3600
"""So long the bucket still names a key that is revoked or expired: routers answer from memory."""


class Draw(Struct, frozen=True, kw_only=True):
    """What chance brings to a new key, and when."""

    secret: int
    """256 random bits."""
    id: str
    """12 random hex digits."""
    now: float


def create(rows: Rows, tenant: str, ask: CreateKey, draw: Draw) -> tuple[StoredKey, str]:
    """Add a key; return it and its secret, which is nowhere else."""
    expires_at = None
    if ask.expires_in_s is not None:
        expires_at = draw.now + _life(ask.expires_in_s, "expires_in_s")
    label, scopes = check_label(ask.label), _scopes(ask.scopes)
    return _add(rows, draw, tenant=tenant, label=label, scopes=scopes, expires_at=expires_at)


def revoke(rows: Rows, tenant: str, key_id: str, now: float) -> tuple[StoredKey, bool]:
    """Return the revoked key, and whether it was this call that revoked it."""
    key = find(rows, tenant, key_id)
    if key.revoked_at is not None:
        return key, False
    revoked = replace(key, revoked_at=now)
    rows.put_key(revoked)
    return revoked, True


def rotate(rows: Rows, tenant: str, ask: RotateKey, draw: Draw) -> tuple[StoredKey, StoredKey, str]:
    """Return the old key, which ends after ``grace_s``, its successor, and the new secret.

    The successor has the old one's label, scopes and end of life: rotation prolongs no access.
    """
    grace_s = 0.0 if ask.grace_s == 0 else _life(ask.grace_s, "grace_s")
    old = find(rows, tenant, ask.id)
    word = state(old, draw.now)
    if word != ACTIVE:
        raise KeyNotFoundError(f"Key {old.id} is {word}: create a new one instead.", param="id")
    new, secret = _add(
        rows,
        draw,
        tenant=tenant,
        label=old.label,
        scopes=old.scopes,
        expires_at=old.expires_at,
    )
    end = draw.now + grace_s
    old = replace(old, expires_at=end if old.expires_at is None else min(end, old.expires_at))
    rows.put_key(old)
    return old, new, secret


def find(rows: Rows, tenant: str, key_id: str) -> StoredKey:
    """Return the tenant's key, or refuse: another tenant's is not found either."""
    key = rows.key(key_id)
    if key is None or key.tenant != tenant:
        message = f"Tenant {tenant} has no key {key_id[:60]!r}: list its keys to see their ids."
        raise KeyNotFoundError(message, param="id")
    return key


def state(key: StoredKey, now: float) -> str:
    """Return what the key is at ``now``: active, expired or revoked."""
    if key.revoked_at is not None:
        return REVOKED
    return EXPIRED if key.expires_at is not None and key.expires_at <= now else ACTIVE


def shown(key: StoredKey, now: float) -> Key:
    """Return the key as anybody may see it."""
    return Key(
        id=key.id,
        tenant=key.tenant,
        label=key.label,
        hint=key.hint,
        state=state(key, now),
        created_at=key.created_at,
        expires_at=key.expires_at,
        scopes=key.scopes,
    )


def entry(key: StoredKey, now: float) -> KeyEntry | None:
    """Return what the bucket says of the key; None when it no longer names it.

    Whether it has expired the routers see for themselves, by ``expires_at``.
    """
    ends = [at for at in (key.expires_at, key.revoked_at) if at is not None]
    if ends and min(ends) + TOLD_AFTER_S < now:
        return None
    return KeyEntry(
        id=key.id,
        tenant=key.tenant,
        state=ACTIVE if key.revoked_at is None else REVOKED,
        expires_at=key.expires_at,
        scopes=[path(key.tenant, name) for name in key.scopes],
    )


def check_label(label: str) -> str:
    """Return ``label``, or refuse one that is too long or not printable."""
    if len(label) > LABEL_LIMIT or not label.isprintable():
        message = f"A label is up to {LABEL_LIMIT} printable characters: use a shorter one."
        raise InvalidRequestError(message, param="label")
    return label


def _add(  # noqa: PLR0913 - what a key is
    rows: Rows,
    draw: Draw,
    *,
    tenant: str,
    label: str,
    scopes: list[str],
    expires_at: float | None,
) -> tuple[StoredKey, str]:
    secret = form.mint(draw.secret)
    key = StoredKey(
        id=f"k-{draw.id}",
        digest=form.digest(secret),
        tenant=tenant,
        label=label,
        hint=secret[-4:],
        scopes=scopes,
        created_at=draw.now,
        expires_at=expires_at,
    )
    rows.put_key(key)
    return key, secret


def _life(seconds: float, param: str) -> float:
    if not 0 < seconds <= LIFE_LIMIT_S:
        message = f"{param} is {seconds:g}: give seconds above 0, at most a hundred years."
        raise InvalidRequestError(message, param=param)
    return seconds


def _scopes(names: list[str]) -> list[str]:
    if len(names) > SCOPES_LIMIT:
        message = f"A key has at most {SCOPES_LIMIT} scopes; leave them out to allow all."
        raise InvalidRequestError(message, param="scopes")
    for name in names:
        try:
            check_name(name)
        except InvalidRequestError as exc:
            raise InvalidRequestError(exc.problem.message, param="scopes") from None
    return list(dict.fromkeys(names))
