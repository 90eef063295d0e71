"""What auth's decisions need of its database, within one transaction."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from caravan.contracts.admin import Tenant


class StoredKey(Struct, frozen=True, kw_only=True):
    """A key as it is kept: without its secret."""

    id: str
    digest: str
    tenant: str
    label: str
    hint: str
    scopes: list[str]
    """Names of deployments; empty: all of the tenant's."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class Held(Struct, frozen=True, kw_only=True):
    """Auth is on hold."""

    reason: str
    epoch: int = 0
    """The newest event that was published when the database was found behind it; else 0."""


class Rows(Protocol):
    """The rows that one transaction sees and changes."""

    def tenant(self, id: str) -> Tenant | None: ...  # noqa: A002 - the column's name

    def tenants(self) -> Sequence[Tenant]:
        """Return all tenants, oldest first."""
        ...

    def add_tenant(self, tenant: Tenant) -> None: ...

    def key(self, id: str) -> StoredKey | None: ...  # noqa: A002 - the column's name

    def keys_of(self, tenant: str, *, after: str, limit: int) -> Sequence[StoredKey]:
        """Return the tenant's keys after the cursor, oldest first."""
        ...

    def all_keys(self) -> Sequence[StoredKey]: ...

    def put_key(self, key: StoredKey) -> None:
        """Add the key, or write it over the one with its id."""
        ...

    def held(self) -> Held | None:
        """Return why auth is on hold; None: it is not."""
        ...

    def set_held(self, held: Held | None) -> None: ...

    def newest(self) -> int:
        """Return the number of the newest event, the epoch."""
        ...

    def record(  # noqa: PLR0913 - the columns of an event
        self,
        *,
        kind: str,
        tenant: str,
        name: str,
        what: str,
        at: float,
        actor: str,
        detail: dict[str, Any] | None = None,
        above: int = 0,
    ) -> int:
        """Append an event; return its number, which is more than ``above``."""
        ...
