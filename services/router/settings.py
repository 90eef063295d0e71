from pathlib import Path

from msgspec import Struct

from caravan.kit.settings import Secret


class Settings(Struct, frozen=True, kw_only=True):
    """Everything the router can be told from outside, as ``ROUTER_…`` variables."""

    nats_url: str
    """Where NATS is, e.g. ``nats://127.0.0.1:4222``."""
    nats_seed: Secret | None = None
    """The nkey seed of the router's user, where NATS wants one."""
    nats_inbox_prefix: str | None = None
    """Where answers come to, where permissions fence it."""
    host: str = "127.0.0.1"
    """The address that clients connect to."""
    port: int = 8000
    """0 takes a free one."""
    processes: int = 1
    """How many processes share the port; a small parent keeps them running when it is not 1."""
    process: int | None = None
    """Which of several processes this is; their parent says it to each, nobody else does."""
    admin_port: int = 9100
    """Process ``i`` answers ``/metrics``, ``/health`` and ``/ready`` on this plus ``i``.

    0 takes a free one each, which the log names. Prometheus's node_exporter likes 9100 too: where
    it runs, choose another."""
    admin_host: str = ""
    """The address of the admin ports; empty is that of ``ROUTER_HOST``."""
    views_dir: Path | None = None
    """The folder of the views' copies, from which a start without NATS serves; None keeps none."""
    views_age_limit_s: float = 0.0
    """How long requests are served from views that NATS has not confirmed; 0 without end."""
    start_wait_s: float = 5.0
    """How long a start waits for a replay before it serves from the copies on disk."""
    body_limit_bytes: int = 64 * 2**20
    """A longer request body, after gzip, is refused with 413."""
    body_patience_s: float = 30.0
    """A request body of which nothing comes for so long is refused with 408."""
    connect_timeout_s: float = 1.0
    """An engine that cannot be connected to in this time is passed over."""
    first_byte_s: float = 600.0
    """How long an engine may take to the first byte of an answer; a plain answer comes whole."""
    patience_s: float = 60.0
    """How long an engine may be silent within an answer."""
    client_patience_s: float = 60.0
    """A client that reads nothing for so long is cut."""
    grace_s: float = 120.0
    """How long requests under way may still run when the router is told to stop."""
    log_successes_per_s: float = 100.0
    """So many requests that went well get a line in the log each second; errors always do."""
    otlp_endpoint: str | None = None
    """Where traces go, e.g. ``http://127.0.0.1:4318``; None makes none."""
    trace_ratio: float = 1.0
    """The share of requests that are traced, of those that come without a ``traceparent``."""
    log_form: str = "auto"
    """``auto``, ``console`` or ``json``."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
