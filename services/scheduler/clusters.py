"""The cluster that the settings name, and how a worker is started there."""

import importlib.resources
import shlex
import sys
from pathlib import Path
from typing import Protocol

from caravan.contracts.errors import InvalidRequestError
from services.scheduler.adapters.weights import ForeignWeights, LocalWeights
from services.scheduler.core.cluster import Cluster
from services.scheduler.settings import Settings


class RunningCluster(Cluster, Protocol):
    async def run(self) -> None:
        """Do what the cluster does by itself, for ever."""
        ...


def choose(settings: Settings, installation: str) -> RunningCluster:
    """Return the cluster that ``settings`` name; each imports what it alone needs."""
    match settings.cluster:
        case "process":
            return _processes(settings)
        case "nomad":
            return _nomad(settings, installation)
    raise InvalidRequestError(
        f"SCHEDULER_CLUSTER is {settings.cluster!r}: use process or nomad",
        param="SCHEDULER_CLUSTER",
    )


def weights(settings: Settings) -> LocalWeights | ForeignWeights:
    """Return who looks for sources: this machine only where the workers run on it."""
    return LocalWeights() if settings.cluster == "process" else ForeignWeights()


def worker_command(settings: Settings) -> list[str]:
    """Return what starts a worker."""
    return shlex.split(settings.worker_command) or [sys.executable, "-m", "services.worker"]


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return what every worker is told; the cluster adds what concerns one instance."""
    told = {
        "WORKER_NATS_URL": settings.worker_nats_url or settings.nats_url,
        "WORKER_ENGINE_COMMAND": settings.engine_command,
        "WORKER_ENGINE_KIND": settings.engine_kind,
    }
    if settings.cluster == "process":
        # A worker runs in its own folder; the code may stand in a checkout, not be installed.
        told["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        told["WORKER_HOST"] = settings.worker_host
    if settings.cache_dir is not None:
        told["WORKER_CACHE_DIR"] = str(settings.cache_dir)
    for pair in settings.worker_environment:
        name, value = _pair(pair, "SCHEDULER_WORKER_ENVIRONMENT", "NAME=value")
        told[name] = value
    return told


def _pair(text: str, setting: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left:
        raise InvalidRequestError(f"{setting} holds pairs: {form}", param=setting)
    return left, right


def _processes(settings: Settings) -> RunningCluster:
    from services.scheduler.adapters.process import ProcessCluster  # noqa: PLC0415 - see choose
    from services.scheduler.adapters.process_life import Pace  # noqa: PLC0415 - see choose

    if settings.instances_dir is None:
        raise InvalidRequestError(
            "SCHEDULER_INSTANCES_DIR is missing: the folder where instances live",
            param="SCHEDULER_INSTANCES_DIR",
        )
    pace = Pace(first_s=settings.restart_first_s, longest_s=settings.restart_longest_s)
    return ProcessCluster(
        settings.instances_dir, worker_command(settings), worker_environment(settings), pace=pace
    )


def _nomad(settings: Settings, installation: str) -> RunningCluster:
    from services.scheduler.adapters.nomad import NomadCluster  # noqa: PLC0415 - see choose
    from services.scheduler.adapters.nomad_jobs import Link, Terms  # noqa: PLC0415

    def link(pair: str) -> Link:
        label, url = _pair(pair, "SCHEDULER_NOMAD_LINKS", "label=url")
        return Link(label, url)

    return NomadCluster(
        settings.nomad_addr,
        installation=installation,
        job_text=_job_text(settings.nomad_job_file),
        command=worker_command(settings),
        environment=worker_environment(settings),
        token=settings.nomad_token.reveal() if settings.nomad_token else "",
        namespace=settings.nomad_namespace,
        ca_file=settings.nomad_ca_file,
        terms=Terms(
            driver=settings.nomad_driver,
            image=settings.nomad_image,
            datacenters=tuple(settings.nomad_datacenters),
            node_pool=settings.nomad_node_pool,
            host_network=settings.nomad_host_network,
            cpu_mhz=settings.nomad_cpu_mhz,
            memory_mib=settings.nomad_memory_mib,
            priority=settings.nomad_priority,
            links=tuple(link(pair) for pair in settings.nomad_links),
        ),
    )


def _job_text(file: Path | None) -> str:
    if file is None:
        return importlib.resources.files("jobs").joinpath("worker.nomad.hcl").read_text()
    try:
        return file.read_text()
    except OSError as exc:
        raise InvalidRequestError(
            f"{file} cannot be read ({exc.strerror}): give the text of the workers' job",
            param="SCHEDULER_NOMAD_JOB_FILE",
        ) from exc
