"""History: one row of an owner's table ``events``, published to the stream ``EVENTS``."""

from msgspec import Raw, Struct


class Event(Struct, frozen=True, kw_only=True, tag="event.v1"):
    """Something that was asked or that happened; append-only, never pruned in its table."""

    number: int
    """Its place in its owner's table; grows, and never names two events."""
    owner: str
    """auth, scheduler"""
    at: float
    """Seconds since the epoch."""
    kind: str
    """deployment, instance, key, tenant, hold"""
    tenant: str
    name: str
    """Of the deployment or the key id."""
    what: str
    """created, scaled, drained, … ; may grow"""
    actor: str = ""
    """Who asked; empty: the service itself."""
    detail: Raw = Raw(b"{}")
    """What changed, a JSON object."""
