"""Auth's rows in SQL."""

from typing import Any

from msgspec import to_builtins
from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from caravan.contracts.admin import Tenant
from caravan.contracts.errors import InvalidRequestError
from caravan.kit import outbox
from services.auth.adapters.rows import HoldRow, KeyRow, TenantRow
from services.auth.core.rows import Held, StoredKey


class SqlRows:
    """``services.auth.core.rows.Rows`` in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def tenant(self, id: str) -> Tenant | None:  # noqa: A002 - the column's name
        row = self._session.get(TenantRow, id)
        return None if row is None else _tenant(row)

    def tenants(self) -> list[Tenant]:
        wanted = select(TenantRow).order_by(col(TenantRow.created_at), col(TenantRow.id))
        return [_tenant(row) for row in self._session.exec(wanted)]

    def add_tenant(self, tenant: Tenant) -> None:
        self._session.add(TenantRow(**to_builtins(tenant)))
        self._session.flush()

    def key(self, id: str) -> StoredKey | None:  # noqa: A002 - the column's name
        row = self._session.get(KeyRow, id)
        return None if row is None else _key(row)

    def keys_of(self, tenant: str, *, after: str, limit: int) -> list[StoredKey]:
        place = (col(KeyRow.created_at), col(KeyRow.id))
        wanted = select(KeyRow).where(col(KeyRow.tenant) == tenant)
        if after:
            last = self.key(after)
            if last is None or last.tenant != tenant:
                raise InvalidRequestError("Pass `cursor` as it was answered.", param="cursor")
            wanted = wanted.where(tuple_(*place) > (last.created_at, last.id))
        return [_key(row) for row in self._session.exec(wanted.order_by(*place).limit(limit))]

    def all_keys(self) -> list[StoredKey]:
        return [_key(row) for row in self._session.exec(select(KeyRow))]

    def put_key(self, key: StoredKey) -> None:
        self._session.merge(KeyRow(**to_builtins(key)))
        self._session.flush()

    def held(self) -> Held | None:
        row = self._session.get(HoldRow, 1)
        return None if row is None else Held(reason=row.reason, epoch=row.epoch)

    def set_held(self, held: Held | None) -> None:
        if held is not None:
            self._session.merge(HoldRow(id=1, reason=held.reason, epoch=held.epoch))
        elif row := self._session.get(HoldRow, 1):
            self._session.delete(row)
        self._session.flush()

    def newest(self) -> int:
        return outbox.newest(self._session)

    def record(self, **event: Any) -> int:  # noqa: ANN401 - as ``outbox.record`` takes it
        return outbox.record(self._session, **event)


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(id=row.id, label=row.label, created_at=row.created_at)


def _key(row: KeyRow) -> StoredKey:
    return StoredKey(
        id=row.id,
        digest=row.digest,
        tenant=row.tenant,
        label=row.label,
        hint=row.hint,
        scopes=list(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
