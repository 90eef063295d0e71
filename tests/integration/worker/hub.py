"""A model hub on loopback: as much of it as ``huggingface_hub`` asks for."""

import asyncio
import hashlib
from pathlib import Path
from typing import Self

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "acme/tiny"


class Hub:
    """Serves the files of ``folder`` as the repository ``acme/tiny``, branch ``main``.

    ``token`` is asked for when it is set. ``release`` holds back the bodies of weights until set.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.token = ""
        self.status = 0
        self.served: list[str] = []
        self.release = asyncio.Event()
        self.release.set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/api/models/{owner}/{name}/tree/{revision}", self._tree)
        app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._info)
        app.router.add_get("/api/models/{owner}/{name}", self._info)
        app.router.add_get("/{owner}/{name}/resolve/{revision}/{file}", self._file)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        self.release.set()  # aiohttp waits a minute for answers that are held back
        await self._runner.cleanup()

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1"}

    @web.middleware
    async def _guard(self, request, handler):
        if self.status:
            return web.Response(status=self.status)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _problem(401, "GatedRepo")
        if (request.match_info["owner"], request.match_info["name"]) != ("acme", "tiny"):
            return _problem(404, "RepoNotFound")
        if request.match_info.get("revision", "main") not in {"main", COMMIT}:
            return _problem(404, "RevisionNotFound")
        return await handler(request)

    async def _info(self, _):
        files = [
            {"rfilename": name, "size": len(data), "blobId": _blob(data)}
            for name, data in self._files.items()
        ]
        about = {"id": REPOSITORY, "sha": COMMIT, "siblings": files, "private": False}
        return web.json_response(about | {"tags": [], "downloads": 0, "likes": 0})

    async def _tree(self, _):
        return web.json_response(
            [
                {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
                for name, data in self._files.items()
            ]
        )

    async def _file(self, request):
        name = request.match_info["file"]
        if name not in self._files:
            return _problem(404, "EntryNotFound")
        data = self._files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_blob(data)}"'}
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(data))})
        self.served.append(name)
        answer = web.StreamResponse(headers=headers)
        answer.content_length = len(data)
        await answer.prepare(request)
        half = len(data) // 2
        await answer.write(data[:half])
        if name.endswith(".safetensors"):
            await self.release.wait()
        await answer.write(data[half:])
        await answer.write_eof()
        return answer


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _problem(status, code):
    return web.json_response({"error": code}, status=status, headers={"X-Error-Code": code})
