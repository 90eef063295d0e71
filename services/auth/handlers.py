"""Admin messages in: one short method each, the core decides, one transaction keeps."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from sqlmodel import Session

from caravan.contracts import admin, topology
from caravan.contracts.errors import InvalidRequestError, Problem, UnavailableError
from caravan.kit.endpoints import Call, Handler
from caravan.kit.outbox import Once, answer_once
from caravan.kit.sql import Database
from services.auth.core import hold, keys, tenants
from services.auth.core.errors import KeyAlreadyShownError
from services.auth.core.rows import Rows, StoredKey

A = TypeVar("A", bound=Struct)

PAGE_LIMIT = 1000
PATIENCE_S = 2.0
"""So long a message waits for the bucket; the one who asks waits five."""


class Announce(Protocol):
    """Has the routers told of keys (``services.auth.loops.publish_keys``)."""

    async def announce(self, *keys: str, whole: bool = False, patience_s: float) -> bool: ...


class Messages:
    """What auth answers, by endpoint: ``table()``.

    Every change is one transaction with its event and its answer; then the relay is woken and the
    bucket is told. A repeat goes through the same steps and changes nothing.
    """

    def __init__(
        self,
        db: Database,
        rows: Callable[[Session], Rows],
        publisher: Announce,
        wake_relay: asyncio.Event,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db, self._rows, self._publisher, self._now = db, rows, publisher, now
        self._wake_relay = wake_relay

    def table(self) -> Mapping[topology.Endpoint, Handler]:
        """Return what to serve."""
        return {
            topology.CREATE_KEY: self.create_key,
            topology.LIST_KEYS: self.list_keys,
            topology.REVOKE_KEY: self.revoke_key,
            topology.ROTATE_KEY: self.rotate_key,
            topology.CREATE_TENANT: self.create_tenant,
            topology.LIST_TENANTS: self.list_tenants,
            topology.HOLD_AUTH: self.hold,
        }

    async def create_key(self, call: Call, ask: admin.CreateKey) -> admin.KeyCreated:
        """Answers when the routers can know the key; ``accepted`` when NATS had no time for it."""
        draw = self._draw()

        def work(rows: Rows) -> Once[admin.KeyCreated]:
            tenants.require(rows, call.tenant)
            key, secret = keys.create(rows, call.tenant, ask, draw)
            said = {"label": key.label, "scopes": key.scopes, "expires_at": key.expires_at}
            _record(rows, call, key, "created", draw.now, **said)
            return _once(key, secret, draw.now)

        created = await self._change(call, work)
        told = await self._publisher.announce(created.key.id, patience_s=PATIENCE_S)
        return replace(created, accepted=not told)

    async def rotate_key(self, call: Call, ask: admin.RotateKey) -> admin.KeyCreated:
        """As ``create_key``; the old key ends after its grace."""
        draw = self._draw()

        def work(rows: Rows) -> Once[admin.KeyCreated]:
            old, new, secret = keys.rotate(rows, call.tenant, ask, draw)
            end = old.expires_at
            _record(rows, call, old, "rotated", draw.now, successor=new.id, expires_at=end)
            _record(rows, call, new, "created", draw.now, predecessor=old.id)
            return _once(new, secret, draw.now)

        created = await self._change(call, work)
        told = await self._publisher.announce(ask.id, created.key.id, patience_s=PATIENCE_S)
        return replace(created, accepted=not told)

    async def revoke_key(self, call: Call, ask: admin.RevokeKey) -> admin.Key:
        """Answers when the routers can know it: a revoked key that still works is not revoked."""
        now = self._now()

        def work(rows: Rows) -> admin.Key:
            key, changed = keys.revoke(rows, call.tenant, ask.id, now)
            if changed:
                _record(rows, call, key, "revoked", now)
            return keys.shown(key, now)

        revoked = await self._change(call, work)
        if not await self._publisher.announce(ask.id, patience_s=PATIENCE_S):
            raise UnavailableError(
                f"Key {ask.id} is revoked in the database, but NATS does not take it, so routers "
                "may still accept it: auth goes on trying; ask again with the same request_id."
            )
        return revoked

    async def list_keys(self, call: Call, ask: admin.ListKeys) -> admin.KeyPage:
        """A page, oldest first; the cursor is the id of its last key."""
        if not 1 <= ask.limit <= PAGE_LIMIT:
            message = f"limit is {ask.limit}: use 1 to {PAGE_LIMIT}."
            raise InvalidRequestError(message, param="limit")

        def work(session: Session) -> tuple[str, list[StoredKey]]:
            rows = self._rows(session)
            held = hold.reason(rows)
            if not held:  # a database that is behind may not know a tenant that there is
                tenants.require(rows, call.tenant)
            return held, list(rows.keys_of(call.tenant, after=ask.cursor, limit=ask.limit + 1))

        held, found = await self._db.run(work)
        page, now = found[: ask.limit], self._now()
        return admin.KeyPage(
            items=[keys.shown(key, now) for key in page],
            cursor=page[-1].id if len(found) > len(page) else "",
            hold=held,
        )

    async def create_tenant(self, call: Call, ask: admin.CreateTenant) -> admin.Tenant:
        """Labels are told apart, so that a person can name a tenant."""
        now, digits = self._now(), secrets.token_hex(6)

        def work(rows: Rows) -> admin.Tenant:
            tenant = tenants.create(rows, ask.label, digits, now)
            record_tenant(rows, tenant, call.actor)
            return tenant

        created = await self._change(call, work)
        await self._publisher.announce(patience_s=PATIENCE_S)  # the bucket's epoch
        return created

    async def list_tenants(self, _: Call, __: admin.ListTenants) -> admin.TenantPage:
        """All of them, oldest first."""
        found = await self._db.run(lambda session: list(self._rows(session).tenants()))
        return admin.TenantPage(items=found)

    async def hold(self, call: Call, ask: admin.Hold) -> admin.HoldAnswer:
        """Freeze auth, or release it, whatever it was on hold for."""
        if ask.path:
            message = "auth holds all or nothing: leave `path` out."
            raise InvalidRequestError(message, param="path")
        now, digits = self._now(), secrets.token_hex(6)

        def work(session: Session) -> admin.HoldAnswer:
            rows = self._rows(session)
            if ask.release:
                hold.release(rows, now, call.actor)
                start_tenants(rows, digits, now)
            else:
                hold.by_hand(rows, now, call.actor)
            why = hold.reason(rows)
            return admin.HoldAnswer(on_hold=bool(why), reason=why)

        answer = await answer_once(self._db, call, work, now=self._now)
        self._wake_relay.set()
        await self._publisher.announce(whole=True, patience_s=PATIENCE_S)
        return answer

    async def _change(self, call: Call, work: Callable[[Rows], A | Once[A]]) -> A:
        def transaction(session: Session) -> A | Once[A]:
            rows = self._rows(session)
            hold.require_none(rows)
            return work(rows)

        answer = await answer_once(self._db, call, transaction, now=self._now)
        self._wake_relay.set()
        return answer

    def _draw(self) -> keys.Draw:
        return keys.Draw(secret=secrets.randbits(256), id=secrets.token_hex(6), now=self._now())


def start_tenants(rows: Rows, digits: str, now: float) -> None:
    """Make the tenant ``default`` in a database that has none; nothing while auth is on hold."""
    if rows.held() is None and (tenant := tenants.create_default(rows, digits, now)) is not None:
        record_tenant(rows, tenant, "")


def record_tenant(rows: Rows, tenant: admin.Tenant, actor: str) -> None:
    """Append the event that tells of a new tenant."""
    rows.record(
        kind="tenant",
        tenant=tenant.id,
        name="",
        what="created",
        at=tenant.created_at,
        actor=actor,
        detail={"label": tenant.label},
    )


def _record(rows: Rows, call: Call, key: StoredKey, what: str, at: float, **detail: object) -> None:
    rows.record(
        kind="key",
        tenant=call.tenant,
        name=key.id,
        what=what,
        at=at,
        actor=call.actor,
        detail=detail,
    )


def _once(key: StoredKey, secret: str, now: float) -> Once[admin.KeyCreated]:
    message = (
        f"Key {key.id} was made by this request and its secret shown once: "
        f"use it, or revoke {key.id} and create another key."
    )
    return Once(
        answer=admin.KeyCreated(key=keys.shown(key, now), secret=secret),
        replay=Problem(code=KeyAlreadyShownError.code, message=message, param=key.id),
    )
