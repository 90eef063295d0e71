"""Everything the scheduler can be told from outside."""

from pathlib import Path

from msgspec import Struct, field

from caravan.kit.settings import Secret


class Settings(Struct, frozen=True, kw_only=True):
    """``SCHEDULER_<FIELD>`` in the environment."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS listens."""
    nats_seed: Secret | None = None
    """The nkey seed of the user ``scheduler``, where NATS wants one."""
    nats_inbox_prefix: str | None = None
    """Under which answers come back, where NATS permissions fence inboxes."""
    database_url: Secret
    """``sqlite:////absolute/path.db`` or ``postgresql://user:password@host/database``."""
    host: str = "127.0.0.1"
    """Where ``/health``, ``/ready`` and ``/metrics`` listen."""
    port: int = 0
    """Their port; 0 takes a free one."""
    log_form: str = "auto"
    """``console``, ``json``, or ``auto``: console on a terminal."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    cluster: str = "process"
    """``process`` runs workers on this machine, ``nomad`` on a cluster."""
    worker_nats_url: str | None = None
    """Where workers reach NATS; default: as the scheduler does."""
    engine_command: str = "sglang"
    """The engine's program, shell words; the worker appends ``serve --model-path …``."""
    engine_kind: str = "cuda"
    """``cpu``, ``cuda`` or ``fake``: which flags the worker gives it."""
    worker_host: str = "127.0.0.1"
    """The address that engines of this machine bind and announce."""
    cache_dir: Path | None = None
    """Where workers keep the weights that they download."""
    instances_dir: Path | None = None
    """With ``process``: the folder of the instances' folders."""
    restart_first_s: float = 5.0
    """With ``process``: so long after its first failure an instance is started again; each further
    failure in a row doubles it."""
    restart_longest_s: float = 300.0
    """With ``process``: the longest that it becomes."""
    nomad_addr: str = "http://127.0.0.1:4646"
    """With ``nomad``: the agent's address."""
    nomad_token: Secret | None = None
    """With ``nomad``: the ACL token."""
    nomad_namespace: str = "default"
    """With ``nomad``: where the jobs go."""
    nomad_ca_file: str = ""
    """With ``nomad``: the file of the authority that signed the agent's certificate."""
    nomad_driver: str = "raw_exec"
    """With ``nomad``: the task driver of workers."""
    nomad_image: str = ""
    """With ``nomad`` and the driver ``docker``: the image that holds worker and engine."""
    nomad_datacenters: list[str] = field(default_factory=lambda: ["*"])
    """With ``nomad``: where workers may run."""
    nomad_node_pool: str = "default"
    """With ``nomad``: which nodes they may run on."""
    nomad_host_network: str = "default"
    """With ``nomad``: the clients' network of which engines get address and port."""
    nomad_cpu_mhz: int = 1000
    """With ``nomad``: for an instance whose deployment does not say."""
    nomad_memory_mib: int = 4096
    """With ``nomad``: for an instance whose deployment does not say; it is killed beyond that."""
    nomad_priority: int = 50
    """With ``nomad``: of the model services' jobs, 1 to 100."""
    nomad_links: list[str] = []
    """With ``nomad``: what a deployment's job links to in Nomad's UI, each ``label=url``;
    ``{tenant}`` and ``{name}`` in the URL are filled."""
    nomad_job_file: Path | None = None
    """With ``nomad``: another text than ``jobs/worker.nomad.hcl``."""
    worker_command: str = ""
    """What starts a worker, shell words; default: this Python with ``-m services.worker``."""
    worker_environment: list[str] = []
    """More for the workers' environment, each ``NAME=value``."""
