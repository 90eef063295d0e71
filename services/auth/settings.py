"""What auth can be told from outside."""

from msgspec import Struct

from caravan.kit.settings import Secret


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that auth can be told from outside: ``AUTH_NATS_URL``, ``AUTH_PORT``, …"""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS is."""
    nats_seed: Secret | None = None
    """The nkey seed of auth's user on the bus; empty: NATS asks for none."""
    nats_inbox_prefix: str | None = None
    """Where answers to auth arrive, so that no other user can read them; empty: ``_INBOX``."""
    database_url: Secret
    """``sqlite:////absolute/path/to/auth.db`` or ``postgresql://user:password@host/database``."""
    host: str = "127.0.0.1"
    """The address of ``/health``, ``/ready`` and ``/metrics``."""
    port: int = 0
    """Their port; 0 takes a free one and logs it."""
    log_form: str = "auto"
    """``json``, ``console``, or ``auto``: console on a terminal, else JSON lines."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
