"""What is read of Nomad: the jobs of this installation, and what belongs to them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeVar

from services.scheduler.adapters import nomad_jobs
from services.scheduler.adapters.nomad_answers import Alloc, Evaluation, Stub
from services.scheduler.adapters.nomad_api import NomadApi, NotThereError
from services.scheduler.core.errors import ClusterUnavailableError

PLANNED_TRIES = 50
PLANNED_PAUSE_S = 0.1
OPEN = ' and (Status == "blocked" or Status == "pending")'
"""Evaluations that still say something: of what waits for room, or for its next try."""
OfJob = TypeVar("OfJob", Alloc, Evaluation)


class Reads:
    """Questions to one Nomad, about the jobs of one installation."""

    def __init__(self, api: NomadApi, installation: str) -> None:
        self._api = api
        self._installation = installation
        self._jobs: dict[str, Mapping[str, Any]] = {}

    async def jobs(self) -> dict[str, Mapping[str, Any]]:
        """Return all jobs of this installation; only those that changed are asked for again."""
        stubs = await self._api.get(list[Stub], "jobs", prefix=nomad_jobs.PREFIX, meta="true")
        jobs: dict[str, Mapping[str, Any]] = {}
        for stub in stubs:
            if nomad_jobs.owner(stub.id) and self.is_ours(stub.meta):
                known = self._jobs.get(stub.id)
                same = known is not None and known["JobModifyIndex"] == stub.job_modify_index
                job = known if same else await self.job(stub.id)
                if job is not None:
                    jobs[stub.id] = job
        self._jobs = jobs
        return jobs

    async def by_job(
        self, kind: type[list[OfJob]], what: str, condition: str = ""
    ) -> Mapping[str, list[OfJob]]:
        asked = f'JobID matches "^{nomad_jobs.PREFIX}"{condition}'
        found: defaultdict[str, list[OfJob]] = defaultdict(list)
        for each in await self._api.get(kind, what, filter=asked):
            found[each.job_id].append(each)
        return found

    async def job(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            return await self._api.get(dict[str, Any], "job", job_id)
        except NotThereError:
            return None

    async def allocs(self, job_id: str) -> list[Alloc]:
        found = await self._api.get(list[Alloc], "job", job_id, "allocations", all="true")
        return sorted(found, key=lambda alloc: alloc.create_index)

    async def log(self, alloc: str, task: str, offset: int, most: int) -> bytes:
        try:
            return await self._api.read(
                "logs",
                alloc,
                most_bytes=most,
                task=task,
                type="stdout",
                plain="true",
                origin="start",
                offset=str(offset),
            )
        except NotThereError:
            return b""  # nothing was printed yet, or its node has dropped it

    async def until_nothing_is_planned(self, job_id: str) -> None:
        """Return when no plan that may name a group is on its way (see ``with_stopped``)."""
        for _ in range(PLANNED_TRIES):
            found = await self._api.get(list[Evaluation], "job", job_id, "evaluations")
            if not any(each.in_progress(time.time()) for each in found):
                return
            await asyncio.sleep(PLANNED_PAUSE_S)
        raise ClusterUnavailableError(f"Nomad is still planning the job {job_id}: try again")

    def is_ours(self, meta: Mapping[str, str] | None) -> bool:
        """Tell by a job's meta whether this installation made it."""
        return (meta or {}).get("installation") == self._installation
