"""A Nomad server that says no: for what a real one cannot be made to answer at will.

It copies, in form and text, what an agent of version 2.0.5 answers: jobs (list, read, register with
``EnforceIndex``, deregister, purge), parse, allocations, evaluations, variables with ``cas``, the
event stream with its ``{}`` and ``X-Nomad-Index``. It places nothing and reads no HCL: allocations
are what a test puts there, and ``parse`` makes a job of the variables alone. So it does not pass
the suite of the port; a real agent does. Each refusal below was seen on a real one.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web
from msgspec import Struct

Json = dict[str, Any]

NO_LEADER = (500, "No cluster leader")
DENIED = (403, "Permission denied")
INVALID = (500, "1 error occurred:\n\t* Task group i-aaaaaa validation failed: 1 error occurred:")
STALE = (
    "Enforcing job modify index {index}: job exists with conflicting job modify index: {current}"
)


class Fault(Struct):
    """What the next ``times`` requests whose method and path begin so meet instead of an answer."""

    request: str
    """E.g. ``POST /v1/jobs``."""
    status: int
    text: str
    times: int = 1


class FakeNomad:
    """``async with FakeNomad() as fake``: it listens on ``fake.address``.

    ``jobs``, ``allocations``, ``evaluations`` and ``variables`` are its state, for a test to read
    and write; ``requests`` lists what came, ``before`` is called with each request.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Json] = {}
        self.allocations: list[Json] = []
        self.evaluations: list[Json] = []
        self.variables: dict[str, Json] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.before: Callable[[web.Request], None] = lambda _: None
        self.index = 10
        self.silent = False
        """Whether event streams stay without a word, as where the token lacks a topic."""
        self.streams: list[asyncio.Queue[Json | None]] = []
        """One queue for each open event stream: events go in; None ends it."""
        self.asked_from: list[int] = []
        """The index that each event stream was asked from."""
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.appear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    async def appear(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(middlewares=[self._faulty])
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def vanish(self) -> None:
        """Stop listening and cut every connection."""
        for stream in self.streams:
            stream.put_nowait(None)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def tell(self, topic: str, type_: str, **payload: object) -> None:
        """Send an event of ``topic`` to every stream."""
        self.index += 1
        event = {"Topic": topic, "Type": type_, "Key": "", "Payload": {topic: payload}}
        for stream in self.streams:
            stream.put_nowait({"Index": self.index, "Events": [event]})

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/jobs", self._list_jobs),
            web.post("/v1/jobs", self._register),
            web.post("/v1/jobs/parse", self._parse),
            web.get("/v1/job/{id}", self._read_job),
            web.delete("/v1/job/{id}", self._deregister),
            web.get("/v1/job/{id}/allocations", self._of_job(lambda: self.allocations)),
            web.get("/v1/job/{id}/evaluations", self._of_job(lambda: self.evaluations)),
            web.get("/v1/allocations", self._all(lambda: self.allocations)),
            web.get("/v1/evaluations", self._all(lambda: self.evaluations)),
            web.get("/v1/var/{path:.+}", self._read_variable),
            web.put("/v1/var/{path:.+}", self._write_variable),
            web.get("/v1/event/stream", self._stream),
        ]

    @web.middleware
    async def _faulty(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.requests.append(line)
        self.before(request)
        for fault in self.faults:
            if fault.times > 0 and line.startswith(fault.request):
                fault.times -= 1
                return web.Response(status=fault.status, text=fault.text)
        return await handler(request)

    def _answer(self, body: object) -> web.Response:
        return web.json_response(body, headers={"X-Nomad-Index": str(self.index)})

    async def _list_jobs(self, _: web.Request) -> web.Response:
        names = ("ID", "Stop", "Meta", "JobModifyIndex")
        return self._answer([{name: job.get(name) for name in names} for job in self.jobs.values()])

    async def _read_job(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        return self._answer(job) if job else web.Response(status=404, text="job not found")

    async def _register(self, request: web.Request) -> web.Response:
        body = await request.json()
        job, index = body["Job"], body["JobModifyIndex"]
        there = self.jobs.get(job["ID"])
        current = there["JobModifyIndex"] if there else 0
        if body["EnforceIndex"] and index != current:
            text = STALE.format(index=index, current=current)
            return web.Response(status=500, text=text)
        if not job["TaskGroups"]:
            return web.Response(status=500, text="1 error occurred:\n\t* Missing job task groups")
        self.put(job)
        return self._answer({"JobModifyIndex": self.index, "Warnings": ""})

    def put(self, job: Json) -> None:
        """Write ``job`` as somebody else would."""
        self.index += 1
        self.jobs[job["ID"]] = {"Stop": False, **job, "JobModifyIndex": self.index}

    async def _parse(self, request: web.Request) -> web.Response:
        told = json.loads((await request.json())["Variables"])
        task = {"Name": f"{told['instance']}-g{told['generation']}", "Env": told["environment"]}
        group = {"Name": told["instance"], "Count": 1, "Tasks": [task]}
        meta = {"installation": told["installation"]}
        return self._answer({"ID": told["job"], "Meta": meta, "TaskGroups": [group]})

    async def _deregister(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        self.index += 1
        if request.query.get("purge") == "true":
            self.jobs.pop(name, None)
        elif name in self.jobs:
            self.put({**self.jobs[name], "Stop": True})
        return self._answer({"EvalID": "", "JobModifyIndex": self.index})

    def _all(
        self, what: Callable[[], list[Json]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            return self._answer(what())

        return answer

    def _of_job(
        self, what: Callable[[], list[Json]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            by_job = defaultdict(list)
            for each in what():
                by_job[each["JobID"]].append(each)
            return self._answer(by_job[request.match_info["id"]])

        return answer

    async def _read_variable(self, request: web.Request) -> web.Response:
        stored = self.variables.get(request.match_info["path"])
        return (
            self._answer(stored) if stored else web.Response(status=404, text="variable not found")
        )

    async def _write_variable(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        there = self.variables.get(path, {"ModifyIndex": 0})
        if int(request.query.get("cas", there["ModifyIndex"])) != there["ModifyIndex"]:
            return web.json_response(there, status=409)
        self.index += 1
        body = await request.json()
        self.variables[path] = {"Items": body["Items"], "ModifyIndex": self.index}
        return self._answer(self.variables[path])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        self.asked_from.append(int(request.query.get("index", "0")))
        events: asyncio.Queue[Json | None] = asyncio.Queue()
        if not self.silent:
            await answer.write(b"{}\n")
        self.streams.append(events)
        try:
            while (event := await events.get()) is not None:
                await answer.write(json.dumps(event).encode() + b"\n")
        finally:
            self.streams.remove(events)
        return answer
