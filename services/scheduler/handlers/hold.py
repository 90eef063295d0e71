"""Freeze: the scheduler starts, stops and deletes nothing until it is released."""

from caravan.contracts import admin, names
from caravan.contracts.errors import InvalidRequestError
from caravan.kit.endpoints import Call
from services.scheduler.core.world import World
from services.scheduler.handlers.ports import Guards, Store


class Holds:
    """``caravan.scheduler.hold``, with and without a path."""

    def __init__(self, *, store: Store, world: World, guard: Guards) -> None:
        self._store = store
        self._world = world
        self._guard = guard

    async def hold(self, call: Call, message: admin.Hold) -> admin.HoldAnswer:
        """Freeze one deployment or everything, or let it go on."""
        if message.path:
            return await self._one(call, message)
        if message.release:
            return await self._release(call)
        by = f" by {call.actor}" if call.actor else ""
        done = await self._store.hold(call, f"put on hold{by} with `caravan hold`")
        self._world.hold = done.reason
        return done

    async def _release(self, call: Call) -> admin.HoldAnswer:
        """Go on, also with a database that was behind: from now on it is the one that counts."""
        above, installation = self._guard.known()
        done = await self._store.release(call, above=above, installation=installation)
        self._guard.adopt(installation)
        return done

    async def _one(self, call: Call, message: admin.Hold) -> admin.HoldAnswer:
        self._world.check_free()
        split = names.split_path(message.path)
        if split is None:
            raise InvalidRequestError(
                f"{message.path[:80]!r} is no model id: use <tenant>/<name>", param="path"
            )
        return await self._store.hold_one(call, *split, held=not message.release)
