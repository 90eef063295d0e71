"""Tenants: who owns things."""

from caravan.contracts.admin import Tenant
from caravan.contracts.errors import InvalidRequestError
from services.auth.core.errors import LabelTakenError, TenantNotFoundError
from services.auth.core.keys import check_label
from services.auth.core.rows import Rows

DEFAULT = "default"


def create(rows: Rows, label: str, digits: str, now: float) -> Tenant:
    """Add the tenant ``u-`` + ``digits`` (12 random hex digits); labels are told apart."""
    if not check_label(label):
        raise InvalidRequestError("A tenant needs a label: say whose it is.", param="label")
    if any(tenant.label == label for tenant in rows.tenants()):
        message = f"A tenant is labelled {label!r} already: choose another label."
        raise LabelTakenError(message, param="label")
    tenant = Tenant(id=f"u-{digits}", label=label, created_at=now)
    rows.add_tenant(tenant)
    return tenant


def require(rows: Rows, tenant: str) -> Tenant:
    """Return the tenant, or refuse one that does not exist."""
    found = rows.tenant(tenant)
    if found is None:
        message = f"There is no tenant {tenant}: list the tenants, or create one."
        raise TenantNotFoundError(message, param="tenant")
    return found


def create_default(rows: Rows, digits: str, now: float) -> Tenant | None:
    """Add the tenant ``default`` to a database that has no tenant; None when it has some."""
    return None if rows.tenants() else create(rows, DEFAULT, digits, now)
