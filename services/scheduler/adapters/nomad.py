"""Instances as groups of Nomad jobs: what a platform on many machines runs on."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from caravan.contracts.instances import Spec
from services.scheduler.adapters import nomad_jobs, nomad_logs, nomad_sight, nomad_words
from services.scheduler.adapters.bell import Bell
from services.scheduler.adapters.nomad_answers import Alloc, Evaluation
from services.scheduler.adapters.nomad_api import ConflictError, NomadApi, NotThereError
from services.scheduler.adapters.nomad_events import EventStream
from services.scheduler.adapters.nomad_jobs import Terms
from services.scheduler.adapters.nomad_reads import OPEN, Reads
from services.scheduler.adapters.nomad_sight import Seen
from services.scheduler.core.cluster import Lines, Mark, Observed, Ref
from services.scheduler.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InstanceNotFoundError,
)

log = structlog.get_logger()

TRIES = 5
"""How often a change is made anew after somebody else changed the same job in between."""
MARK = "caravan/scheduler"
"""The Nomad Variable that holds the mark."""


class NomadCluster:
    """``Cluster`` on Nomad: a job for each deployment, a group of count 1 for each instance.

    A change is merged into the job as Nomad has it and registered by compare-and-set, so that what
    others changed stays, and no other group's allocation is touched. ``run`` listens to Nomad's
    event stream; the verbs work without it.

    A stopped group stays in its job, with count 0, until it is forgotten. Nomad keeps count of at
    most six failures in a row: ``failures`` does not grow beyond that.
    """

    def __init__(  # noqa: PLR0913 - settings, most with a default
        self,
        address: str,
        *,
        installation: str,
        job_text: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        token: str = "",
        namespace: str = "default",
        ca_file: str = "",
        terms: Terms | None = None,
    ) -> None:
        """``job_text`` is that of ``jobs/worker.nomad.hcl``; ``command`` starts a worker on a node.

        Jobs of another ``installation`` in the same namespace are left alone.
        """
        self._installation = installation
        self._job_text = job_text
        self._command = command
        self._environment = environment
        self._terms = terms or Terms()
        self._namespace = namespace
        self._api = NomadApi(address, token=token, namespace=namespace, ca_file=ca_file)
        self._reads = Reads(self._api, installation)
        self._bell = Bell()
        self._stream = EventStream(
            address, token=token, namespace=namespace, ca_file=ca_file, ring=self._bell.ring
        )
        self._grace_s: dict[str, float] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self) -> None:
        """Hear what changes, for ever."""
        try:
            await self._stream.run()
        finally:
            self._api.close()

    async def observed(self) -> Sequence[Observed]:
        jobs = await self._reads.jobs()
        allocs = await self._reads.by_job(list[Alloc], "allocations")
        evaluations = await self._reads.by_job(list[Evaluation], "evaluations", OPEN)
        found: list[Observed] = []
        for job_id, job in jobs.items():
            tenant, name = nomad_jobs.owner(job_id) or ("", "")
            seen = Seen(
                tenant=tenant,
                name=name,
                job=job,
                allocs=allocs[job_id],
                evaluations=evaluations[job_id],
            )
            self._warn_of_short_graces(seen)
            found += nomad_sight.instances(seen, time.time())
        return found

    async def start(self, spec: Spec) -> None:
        job_id = nomad_jobs.job_id(spec.tenant, spec.name)

        async def add() -> None:
            job = await self._reads.job(job_id)
            self._check_ours(job_id, job)
            if job is None or job.get("Stop") or nomad_jobs.group(job, spec.instance) is None:
                merged = nomad_jobs.with_group(job, await self._parsed(spec))
                await self._register(merged, job)

        await self._in_turn(job_id, add)

    async def stop(self, ref: Ref) -> None:
        job_id = nomad_jobs.job_id(ref.tenant, ref.name)

        async def set_to_zero() -> None:
            job = await self._reads.job(job_id)
            group = nomad_jobs.group(job, ref.instance)
            if job is None or job.get("Stop") or group is None or nomad_jobs.is_stopped(group):
                return
            self._check_ours(job_id, job)
            self._grace_s[ref.instance] = nomad_jobs.kill_timeout_of(group)
            await self._register(nomad_jobs.with_stopped(job, ref.instance), job)

        await self._in_turn(job_id, set_to_zero)

    async def forget(self, ref: Ref) -> None:
        job_id = nomad_jobs.job_id(ref.tenant, ref.name)

        async def take_out() -> None:
            job = await self._reads.job(job_id)
            group = nomad_jobs.group(job, ref.instance)
            if job is None or group is None:
                return
            self._check_ours(job_id, job)
            allocs = await self._reads.allocs(job_id)
            asked = bool(group.get("Count")) and not job.get("Stop")
            if asked or not all(a.over for a in allocs if a.task_group == ref.instance):
                raise ClusterRefusedError(f"{ref.instance} has not ended: stop it and wait")
            self._grace_s.pop(ref.instance, None)
            await self._reads.until_nothing_is_planned(job_id)
            await self._drop(job, ref.instance, idle=all(alloc.over for alloc in allocs))

        await self._in_turn(job_id, take_out)
        self._bell.ring()

    async def logs(self, ref: Ref, cursor: str) -> Lines:
        job_id = nomad_jobs.job_id(ref.tenant, ref.name)
        if nomad_jobs.group(await self._reads.job(job_id), ref.instance) is None:
            raise InstanceNotFoundError(f"no instance {ref.instance} is known to Nomad")
        allocs = [a for a in await self._reads.allocs(job_id) if a.task_group == ref.instance]
        return await nomad_logs.read(allocs, cursor, self._reads.log)

    async def mark(self) -> Mark | None:
        stored = await self._mark()
        return stored[0] if stored else None

    async def remember(self, mark: Mark) -> None:
        stored = await self._mark()
        index = stored[1] if stored else 0
        items = {"installation": mark.installation, "epoch": str(mark.epoch)}
        body = {"Path": MARK, "Items": items}
        try:
            await self._api.change("put", "variable", MARK, body=body, cas=str(index))
        except ConflictError as exc:
            raise ClusterUnavailableError(
                "another scheduler writes its mark into this Nomad: end one of the two"
            ) from exc

    def changes(self) -> AsyncIterator[None]:
        return self._bell.rings()

    async def _parsed(self, spec: Spec) -> Mapping[str, Any]:
        told = nomad_jobs.variables(
            spec,
            self._terms,
            installation=self._installation,
            command=self._command,
            environment=self._environment,
        )
        body = {"JobHCL": self._job_text, "Variables": msgspec.json.encode(told).decode()}
        return await self._api.change("post", "jobs", "parse", body=body)

    async def _register(self, job: Mapping[str, Any], was: Mapping[str, Any] | None) -> None:
        index = was["JobModifyIndex"] if was else 0
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        answer = await self._api.change("post", "jobs", body=body)
        if warnings := answer.get("Warnings"):
            log.warning("nomad.warns", job=job["ID"], warnings=" ".join(warnings.split()))

    async def _drop(self, job: Mapping[str, Any], instance: str, *, idle: bool) -> None:
        """Take the ended instance out of its job; the job goes with its last one.

        What still runs is never purged: Nomad would forget it at once, and give away its GPU.
        """
        rest = nomad_jobs.without_group(job, instance)
        if rest is not None and not job.get("Stop"):
            await self._register(rest, job)
        elif idle:
            await self._api.change("delete", "job", job["ID"], purge="true")
        elif not job.get("Stop"):
            await self._api.change("delete", "job", job["ID"])

    async def _in_turn(self, job_id: str, change: Callable[[], Awaitable[None]]) -> None:
        """Make one change of a job at a time, and anew when somebody else was quicker."""
        async with self._turns[job_id]:
            for _ in range(TRIES):
                try:
                    return await change()
                except ConflictError as exc:
                    log.info("nomad.conflict", job=job_id, why=str(exc))
        raise ClusterUnavailableError(f"others change the job {job_id} all the time: try again")

    async def _mark(self) -> tuple[Mark, int] | None:
        try:
            stored = await self._api.get(dict[str, Any], "variable", MARK)
        except NotThereError:
            return None
        try:
            mark = msgspec.convert(stored["Items"], Mark, strict=False)
        except msgspec.ValidationError as exc:
            raise ClusterRefusedError(
                f"the Nomad Variable {MARK} is not readable ({exc}): remove it to start anew"
            ) from exc
        return mark, stored["ModifyIndex"]

    def _check_ours(self, job_id: str, job: Mapping[str, Any] | None) -> None:
        if job is not None and not self._reads.is_ours(job.get("Meta")):
            raise ClusterRefusedError(
                f"the Nomad job {job_id} belongs to another installation: give this one a "
                "namespace of its own, or purge the job"
            )

    def _warn_of_short_graces(self, seen: Seen) -> None:
        """Say once for each instance that stops when its node gives it less time than it needs."""
        for alloc in seen.allocs:
            given = nomad_words.kill_timeout(alloc)
            asked_s = self._grace_s.get(alloc.task_group, 0.0)
            if given and nomad_words.seconds(given) < asked_s:
                del self._grace_s[alloc.task_group]
                log.warning(
                    "nomad.kill_timeout_capped",
                    instance=alloc.task_group,
                    node=alloc.node_name,
                    asked_s=asked_s,
                    given=given,
                    do="raise max_kill_timeout in the client block of the node's agent",
                )
