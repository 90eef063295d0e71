"""The life of a fake engine: start, serve, end in order."""

import asyncio
import signal
import sys
from functools import partial

from caravan.testing.engine.flags import Options
from caravan.testing.engine.model import Model
from caravan.testing.engine.plan import Plan
from caravan.testing.engine.routes import handle
from caravan.testing.engine.state import State
from caravan.testing.engine.wire import Connection


def say(line: str) -> None:
    """Write a line as SGLang's log has it."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


async def serve(options: Options, model: Model, plan: Plan) -> int:
    """Serve until SIGTERM, then finish what runs; return the exit status."""
    stopping = asyncio.Event()
    if not plan.deaf:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await asyncio.sleep(plan.start_s)
    if plan.start_error:
        say(plan.start_error)
        return 1
    state, connections = State(options, model, plan), set[Connection]()
    loop = asyncio.get_running_loop()
    make = partial(Connection, partial(handle, state), connections)
    try:
        server = await loop.create_server(make, options.host, options.port)
    except OSError as error:
        say(f"ERROR:    {error}")
        return 1
    async with server:
        await _serve(state, plan, stopping)
    for connection in list(connections):
        connection.transport.close()
    return 0


async def _serve(state: State, plan: Plan, stopping: asyncio.Event) -> None:
    if plan.unready_s:
        await asyncio.wait({asyncio.ensure_future(stopping.wait())}, timeout=plan.unready_s)
    state.up = not stopping.is_set()
    say("The server is fired up and ready to roll!")
    await stopping.wait()
    state.up = False
    say(f"Gracefully exiting... Remaining number of requests {state.slots.running}.")
    if not plan.unhealthy:
        await state.idle.wait()
