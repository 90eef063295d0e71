"""What each admin message makes of a deployment: values in, a change or a refusal out.

``deadline`` of a drain and the instances that are named stand in ``plan``; here is what was asked.
"""

from collections.abc import Mapping, Sequence

from msgspec import UNSET, Struct
from msgspec.structs import replace

from caravan.contracts import admin, names
from caravan.contracts.deployments import MAX_INSTANCES
from caravan.contracts.errors import InvalidRequestError, OnHoldError
from services.scheduler.core import sources
from services.scheduler.core.errors import (
    ConfirmationMismatchError,
    DeploymentNotFoundError,
    InstanceNotFoundError,
    NameInTrashError,
    NameTakenError,
    NotInTrashError,
    TooManyInstancesError,
)
from services.scheduler.core.rows import DRAIN, RUN, Asked, Named

DRAIN_LIMIT_S = 3600.0
STALL_LIMIT_S = 24 * 3600.0


class Change(Struct, frozen=True, kw_only=True):
    """What a message changes; it is written as a whole, with its event, or not at all."""

    asked: Asked
    what: str
    """The event's word; empty: nothing changed, so there is none."""
    detail: Mapping[str, object] = {}
    rows: list[Named] = []
    """The instances whose rows change with it."""
    notes: list[str] = []


def create(request: admin.CreateDeployment, tenant: str, found: Asked | None, now: float) -> Change:
    """Return the new deployment; refuse a name that is in use or in the trash."""
    names.check_name(request.name)
    if found is not None and found.deleted_at:
        raise NameInTrashError(_in_trash(found), param="name")
    if found is not None:
        raise NameTakenError(f"{request.name} is in use: choose another name", param="name")
    count = _bounded(request.instances, "instances")
    asked = Asked(
        tenant=tenant,
        name=request.name,
        task=sources.check_task(request.task),
        source=sources.check_source(request.source),
        engine_args=sources.check_engine_args(request.engine_args),
        resources=sources.check_resources(request.resources),
        instances=count,
        last_instances=count or 1,
        drain_s=sources.check_seconds("drain_s", request.drain_s, 0, DRAIN_LIMIT_S),
        stall_s=sources.check_seconds("stall_s", request.stall_s, 1, STALL_LIMIT_S),
        created_at=now,
        updated_at=now,
    )
    detail: dict[str, object] = {"source": asked.source, "instances": count}
    return Change(asked=asked, what="created", detail=detail)


def update(request: admin.UpdateDeployment, found: Asked | None, now: float) -> Change:
    """Return it changed; new source, flags or resources raise the generation."""
    asked = present(request.name, found)
    changed = _updated(request, asked)
    if changed == asked:
        return Change(asked=asked, what="", notes=["nothing changed: all of it was so already"])
    raises = _engine(changed) != _engine(asked)
    if raises:
        changed = replace(changed, generation=asked.generation + 1, in_place=request.in_place)
    detail: dict[str, object] = {
        "generation": changed.generation,
        "in_place": changed.in_place and raises,
    }
    notes = [_rolling(changed)] if raises and changed.instances else []
    return Change(
        asked=replace(changed, updated_at=now), what="updated", detail=detail, notes=notes
    )


def scale(
    request: admin.ScaleDeployment, found: Asked | None, rows: Sequence[Named], now: float
) -> Change:
    """Return it with another count; instances that are named to go begin their drain with it."""
    asked = present(request.name, found)
    count = _count(request, asked)
    leaving = _leaving(request.remove, asked.instances - count, rows)
    if count == asked.instances:
        return Change(asked=asked, what="")
    scaled = _counted(asked, count, now)
    detail: dict[str, object] = {
        "instances": count,
        "before": asked.instances,
        "remove": list(request.remove),
    }
    return Change(
        asked=scaled,
        what="scaled" if count else "stopped",
        detail=detail,
        rows=[replace(r, wanted=DRAIN, deadline=now + asked.drain_s) for r in leaving],
    )


def stop(request: admin.StopDeployment, found: Asked | None, now: float) -> Change:
    """Return it with 0 instances; one that is stopped stays as it is."""
    asked = present(request.name, found)
    if not asked.instances:
        return Change(asked=asked, what="")
    return Change(asked=_counted(asked, 0, now), what="stopped", detail={"before": asked.instances})


def start(request: admin.StartDeployment, found: Asked | None, now: float) -> Change:
    """Return it with its last count; one that runs stays as it is."""
    asked = present(request.name, found)
    if asked.instances:
        return Change(asked=asked, what="")
    started = _counted(asked, asked.last_instances, now)
    return Change(asked=started, what="started", detail={"instances": started.instances})


def delete(request: admin.DeleteDeployment, found: Asked | None, now: float) -> Change:
    """Return it in the trash; only the bare name, typed again, confirms."""
    asked = present(request.name, found)
    if request.confirm != asked.name:
        raise ConfirmationMismatchError(
            f"to delete {asked.name}, confirm with its bare name: {asked.name}", param="confirm"
        )
    gone = replace(_counted(asked, 0, now), deleted_at=now)
    return Change(asked=gone, what="deleted", detail={"restorable_until": gone.restorable_until})


def restore(request: admin.RestoreDeployment, found: Asked | None, now: float) -> Change:
    """Return it out of the trash, stopped."""
    asked = known(request.name, found)
    if not asked.deleted_at:
        raise NotInTrashError(f"{asked.name} is not in the trash: nothing to restore", param="name")
    return Change(asked=replace(asked, deleted_at=0.0, updated_at=now), what="restored")


def hold(asked: Asked, *, held: bool, now: float) -> Change:
    """Return it frozen by a person, or released."""
    if asked.held == held:
        return Change(asked=asked, what="")
    return Change(
        asked=replace(asked, held=held, updated_at=now), what="held" if held else "released"
    )


def free(asked: Asked) -> Asked:
    """Return ``asked``, or refuse because a person holds it."""
    if asked.held:
        raise OnHoldError(
            f"{asked.name} is on hold: release it with `caravan hold --release {asked.tenant}/"
            f"{asked.name}` first",
            param="name",
        )
    return asked


def known(name: str, found: Asked | None) -> Asked:
    """Return what was found under ``name``, in the trash or not, or refuse."""
    if found is None:
        raise DeploymentNotFoundError(
            f"no deployment {name[:60]!r}: `caravan list` shows those there are", param="name"
        )
    return found


def present(name: str, found: Asked | None) -> Asked:
    """Return what was found under ``name``, or refuse; what is in the trash does not count."""
    asked = known(name, found)
    if asked.deleted_at:
        raise NameInTrashError(_in_trash(asked), param="name")
    return asked


def _in_trash(asked: Asked) -> str:
    return (
        f"{asked.name} is in the trash: restore it (`caravan restore {asked.name}`), choose "
        "another name, or wait until 24 h after its deletion"
    )


def _updated(request: admin.UpdateDeployment, asked: Asked) -> Asked:
    new = asked
    if request.source is not UNSET:
        new = replace(new, source=sources.check_source(request.source))
    if request.engine_args is not UNSET:
        new = replace(new, engine_args=sources.check_engine_args(request.engine_args))
    if request.resources is not UNSET:
        new = replace(new, resources=sources.check_resources(request.resources))
    if request.drain_s is not UNSET:
        drain_s = sources.check_seconds("drain_s", request.drain_s, 0, DRAIN_LIMIT_S)
        new = replace(new, drain_s=drain_s)
    if request.stall_s is not UNSET:
        stall_s = sources.check_seconds("stall_s", request.stall_s, 1, STALL_LIMIT_S)
        new = replace(new, stall_s=stall_s)
    return new


def _engine(asked: Asked) -> tuple[str, list[str], dict[str, float]]:
    return asked.source, asked.engine_args, asked.resources


def _rolling(asked: Asked) -> str:
    if asked.in_place:
        return (
            "in place: one instance at a time is drained before its successor starts, so "
            f"{asked.instances - 1} of {asked.instances} serve meanwhile"
        )
    return "one instance more than asked runs while the update lasts"


def _count(request: admin.ScaleDeployment, asked: Asked) -> int:
    match request.add, request.instances:
        case int(add), None:
            return _bounded(asked.instances + add, "add")
        case None, int(count):
            return _bounded(count, "instances")
    raise InvalidRequestError("give exactly one of add and instances", param="instances")


def _bounded(count: int, param: str) -> int:
    if count < 0:
        raise InvalidRequestError(
            f"that would be {count} instances: the least is 0, which is stopped", param=param
        )
    if count > MAX_INSTANCES:
        raise TooManyInstancesError(
            f"that would be {count} instances: {MAX_INSTANCES} at most", param=param
        )
    return count


def _leaving(remove: Sequence[str], fewer: int, rows: Sequence[Named]) -> list[Named]:
    """Return the rows of the instances that were named to go."""
    running = {row.instance: row for row in rows if row.wanted == RUN}
    for name in remove:
        if name not in running:
            raise InstanceNotFoundError(
                f"no instance {name[:60]!r} runs here: `caravan show` lists them", param="remove"
            )
    if len(set(remove)) > max(fewer, 0):
        raise InvalidRequestError(
            f"{len(set(remove))} instances are named to go, but the count falls by "
            f"{max(fewer, 0)}: lower it by as many",
            param="remove",
        )
    return [running[name] for name in dict.fromkeys(remove)]


def _counted(asked: Asked, count: int, now: float) -> Asked:
    last = count or asked.instances or asked.last_instances
    return replace(asked, instances=count, last_instances=last, updated_at=now)
