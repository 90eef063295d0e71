"""How things are called, and what a well-formed name is."""

import re

from caravan.contracts.errors import InvalidRequestError

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
TENANT = re.compile(r"u-[0-9a-f]{12}")
INSTANCE = re.compile(r"i-[a-z2-7]{6}")

TENANT_RULE = "a tenant is `u-` and 12 hex digits"
NAME_RULE = (
    "use 1 to 40 of a-z, 0-9 and -, beginning with a letter and not ending with - "
    "(it becomes a model id and a subject token)"
)


def check_name(name: str) -> str:
    """Return ``name``, or refuse it with the rule that it breaks."""
    if NAME.fullmatch(name) is None:
        raise InvalidRequestError(f"{name[:60]!r} cannot be a name: {NAME_RULE}", param="name")
    return name


def check_tenant(tenant: str) -> str:
    """Return ``tenant``, or refuse it with the rule that it breaks."""
    if TENANT.fullmatch(tenant) is None:
        raise InvalidRequestError(f"{tenant[:60]!r} is no tenant: {TENANT_RULE}", param="tenant")
    return tenant


def path(tenant: str, name: str) -> str:
    """Return the public model id of a deployment, e.g. ``u-8105f7322477/test``."""
    return f"{tenant}/{name}"


def split_path(path: str) -> tuple[str, str] | None:
    """Return tenant and name of a model id, or None when it is none."""
    tenant, slash, name = path.partition("/")
    if not slash or TENANT.fullmatch(tenant) is None or NAME.fullmatch(name) is None:
        return None
    return tenant, name


def deployment_key(tenant: str, name: str) -> str:
    """Return the key of a deployment in the bucket ``deployments``."""
    return f"{tenant}.{name}"


def instance_key(tenant: str, name: str, instance: str) -> str:
    """Return the key of an instance in the buckets ``instances`` and ``leases``."""
    return f"{tenant}.{name}.{instance}"


def split_instance_key(key: str) -> tuple[str, str, str] | None:
    """Return tenant, name and instance of a key of ``instances`` or ``leases``, or None."""
    match key.split("."):
        case [tenant, name, instance]:
            return tenant, name, instance
        case _:
            return None
