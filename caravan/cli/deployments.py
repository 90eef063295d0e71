"""Commands on deployments: deploy, list, update, scale, stop, start, delete, restore."""

import argparse
import sys
from typing import Any

from msgspec import UNSET, UnsetType

from caravan.cli import watch
from caravan.cli.output import Output
from caravan.cli.session import Session, connect, intent, where
from caravan.contracts import admin, names, topology
from caravan.contracts.errors import InvalidRequestError

PAGE = 100


def deploy(asked: argparse.Namespace, out: Output) -> None:
    """Create a deployment; with ``--wait`` return when it runs."""
    names.check_name(asked.name)
    request = admin.CreateDeployment(
        request_id=intent(),
        name=asked.name,
        source=asked.source,
        task=asked.task,
        instances=asked.instances,
        engine_args=asked.engine_arg or [],
        resources=_resources(asked),
        **_patience(asked),
    )
    _change(asked, out, topology.CREATE_DEPLOYMENT, request, "is being deployed")


def update(asked: argparse.Namespace, out: Output) -> None:
    """Change what was given, and nothing else."""
    flags: list[str] | UnsetType = [] if asked.no_engine_args else UNSET
    request = admin.UpdateDeployment(
        request_id=intent(),
        name=names.check_name(asked.name),
        source=asked.source or UNSET,
        engine_args=asked.engine_arg or flags,
        resources=_resources(asked) or UNSET,
        in_place=asked.in_place,
        **_patience(asked),
    )
    _change(asked, out, topology.UPDATE_DEPLOYMENT, request, "is being updated")


def scale(asked: argparse.Namespace, out: Output) -> None:
    """Change the count, by a difference or to a number."""
    add = asked.add
    if add is None and asked.to is None:
        if not asked.remove:
            raise InvalidRequestError(
                "Say how many: --add 2 for two more, or --to 3 for three in all.", param="instances"
            )
        add = -len(asked.remove)
    request = admin.ScaleDeployment(
        request_id=intent(),
        name=names.check_name(asked.name),
        add=add,
        instances=asked.to,
        remove=asked.remove,
    )
    _change(asked, out, topology.SCALE_DEPLOYMENT, request, "is being scaled")


def stop(asked: argparse.Namespace, out: Output) -> None:
    """Take it to 0 instances."""
    request = admin.StopDeployment(request_id=intent(), name=names.check_name(asked.name))
    _change(asked, out, topology.STOP_DEPLOYMENT, request, "is stopping")


def start(asked: argparse.Namespace, out: Output) -> None:
    """Take it back to the count that it had."""
    request = admin.StartDeployment(request_id=intent(), name=names.check_name(asked.name))
    _change(asked, out, topology.START_DEPLOYMENT, request, "is starting")


def delete(asked: argparse.Namespace, out: Output) -> None:
    """Put it into the trash, if the name is typed again."""
    name = names.check_name(asked.name)
    with connect(where(asked.nats_url, asked.tenant)) as session:
        confirm = asked.confirm if asked.confirm is not None else _typed(session, name)
        request = admin.DeleteDeployment(request_id=intent(), name=name, confirm=confirm)
        deployment = session.ask(topology.DELETE_DEPLOYMENT, request)
        _tell(out, deployment, "is deleted", f"`caravan restore {name}` brings it back for 24 h.")


def restore(asked: argparse.Namespace, out: Output) -> None:
    """Take it out of the trash."""
    request = admin.RestoreDeployment(request_id=intent(), name=names.check_name(asked.name))
    with connect(where(asked.nats_url, asked.tenant)) as session:
        deployment = session.ask(topology.RESTORE_DEPLOYMENT, request)
        _tell(out, deployment, "is restored", f"`caravan start {asked.name}` starts it.")


def show_all(asked: argparse.Namespace, out: Output) -> None:
    """List the tenant's deployments."""
    with connect(where(asked.nats_url, asked.tenant)) as session:
        page = whole(session)
    if out.as_json:
        out.document(page)
        return
    if page.hold:
        out.note(f"On hold, nothing is changed: {page.hold}")
    if page.unclaimed:
        out.note(f"Running without a deployment that names it: {', '.join(page.unclaimed)}")
    if not page.items:
        out.line("No deployments: make one with `caravan deploy NAME --source …`.")
        return
    out.table(("NAME", "STATE", "READY", "TASK", "SOURCE"), [_row(one) for one in page.items])


def whole(session: Session) -> admin.DeploymentPage:
    """Return all of the tenant's deployments as one page."""
    items: list[admin.Deployment] = []
    cursor = ""
    while True:
        request = admin.ListDeployments(cursor=cursor, limit=PAGE)
        page: admin.DeploymentPage = session.ask(topology.LIST_DEPLOYMENTS, request)
        items += page.items
        if not page.cursor:
            return admin.DeploymentPage(items=items, hold=page.hold, unclaimed=page.unclaimed)
        cursor = page.cursor


def _row(one: admin.Deployment) -> tuple[str, ...]:
    return (one.name, one.state, f"{one.ready}/{one.instances}", one.task, one.source)


def _change(
    asked: argparse.Namespace,
    out: Output,
    endpoint: topology.Endpoint,
    request: admin.Change,
    what: str,
) -> None:
    with connect(where(asked.nats_url, asked.tenant)) as session:
        deployment = session.ask(endpoint, request)
        if asked.wait:
            for line in deployment.notes:
                out.note(line)
            deployment = watch.reached(session, out, asked.name, asked.timeout)
            what = f"is {deployment.state}"
        _tell(out, deployment, what, _next(asked, deployment))


def _next(asked: argparse.Namespace, deployment: admin.Deployment) -> str:
    if asked.wait:
        return f"`caravan show {deployment.name}` shows how to call it." if deployment.ready else ""
    return f"`caravan show {deployment.name}` shows how far it is."


def _tell(out: Output, deployment: admin.Deployment, what: str, advice: str) -> None:
    if out.as_json:
        out.document(deployment)
        return
    out.line(f"{deployment.path} {what}.")
    for note in deployment.notes:
        out.line(note)
    if deployment.accepted:
        out.line("It is written down; it follows when NATS is back.")
    if advice:
        out.line(advice)


def _typed(session: Session, name: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidRequestError(
            f"Deleting wants the name again: add --confirm {name}.", param="confirm"
        )
    session.ask(topology.GET_DEPLOYMENT, admin.GetDeployment(name=name))  # no question in vain
    sys.stderr.write(f"This deletes {names.path(session.tenant, name)} and ends its instances.\n")
    sys.stderr.write("Type its name to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _resources(asked: argparse.Namespace) -> dict[str, float]:
    given = {"cpu_mhz": asked.cpu_mhz, "memory_mib": asked.memory_mib, "gpus": asked.gpus}
    return {name: value for name, value in given.items() if value is not None}


def _patience(asked: argparse.Namespace) -> dict[str, Any]:
    given = {"drain_s": asked.drain, "stall_s": asked.stall}
    return {name: value for name, value in given.items() if value is not None}
