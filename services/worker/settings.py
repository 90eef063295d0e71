"""Everything a worker can be told from outside."""

from pathlib import Path

from msgspec import Struct

from caravan.kit.settings import Secret


class Settings(Struct, frozen=True, kw_only=True):
    """Read from ``WORKER_…`` variables; the scheduler's cluster sets them."""

    spec: str
    """What to serve: the spec of the instance as JSON (``caravan.contracts.instances.Spec``)."""
    nats_url: str
    """Where NATS is, e.g. ``nats://127.0.0.1:4222``."""
    nats_seed: Secret | None = None
    """The nkey seed of the worker's user on the bus; empty where the bus has no users."""
    nats_inbox_prefix: str | None = None
    """Where answers come to; each user of the bus has its own. Empty: the client's default."""
    engine_command: str
    """What starts SGLang, as words of a shell, e.g. ``/opt/engine/bin/sglang``; the worker adds
    ``serve`` and the flags."""
    engine_kind: str = "cuda"
    """Which base flags the engine gets: cpu, cuda, or fake (the test engine)."""
    host: str = "127.0.0.1"
    """The address that the engine listens on and that routers are told."""
    port: int = 0
    """The port that the engine listens on; 0 takes a free one."""
    folder: Path | None = None
    """The instance's folder: held by a lock for life, and ``exit.json`` is written there."""
    allocation: str = ""
    """What the cluster calls this life of the instance; on Nomad, the allocation."""
    cache_dir: Path = Path("~/.cache/caravan")
    """Where downloaded models are kept; shared by the workers of a machine."""
    hub_token: Secret | None = None
    """The access token for the model hub; empty: ``HF_TOKEN``, if that is set."""
    load_s: float = 3600.0
    """An engine that gives no token so many seconds after its start is killed."""
    probe_s: float = 60.0
    """After so many seconds without a token an idle engine is asked for one."""
    grace_s: float = 20.0
    """So many seconds an engine has to end after SIGTERM before it is killed; one that drains has
    the rest of ``drain_s`` too."""
    log_form: str = "auto"
    """auto, console or json."""
    log_level: str = "info"
    """debug, info, warning or error."""
