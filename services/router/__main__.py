"""``python -m services.router``: the data path, in one process or, by a parent, in several."""

import asyncio
import os
import sys

# What libraries take along when it is installed and a router has no use for, 12 MB in each of its
# processes: nats-py's websockets, structlog's coloured tracebacks. None means "not installed".
sys.modules["rich"] = None  # type: ignore[assignment]
if not os.environ.get("ROUTER_NATS_URL", "").startswith("ws"):
    sys.modules["aiohttp"] = None  # type: ignore[assignment]

from caravan.kit import run  # noqa: E402 - see above
from services.router.settings import Settings  # noqa: E402


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Be what the settings say: the one process, one of several, or their parent."""
    # Each loads only what it is made of: a parent needs no web server.
    if settings.process is None and settings.processes != 1:
        from services.router import processes  # noqa: PLC0415

        await processes.keep(settings, stopping)
        return
    from services.router import app  # noqa: PLC0415

    if settings.process is None:
        await app.serve(settings, stopping)
        return
    from services.router import processes  # noqa: PLC0415

    async with processes.with_parent(settings.process, stopping):
        await app.serve(settings, stopping)


if __name__ == "__main__":
    run.main("router", Settings, serve)
