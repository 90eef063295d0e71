"""``caravan show``: how to call a deployment, and how it is."""

import argparse
import time

import msgspec

from caravan.cli import examples
from caravan.cli.output import Output
from caravan.cli.session import connect, where
from caravan.contracts import admin, names, topology

AUTH_METHOD = f"Authorization: Bearer {examples.KEY}"


def show(asked: argparse.Namespace, out: Output) -> None:
    """Show the endpoint, the way to authenticate, call examples and each instance's truth line."""
    request = admin.GetDeployment(name=names.check_name(asked.name))
    with connect(where(asked.nats_url, asked.tenant)) as session:
        one: admin.Deployment = session.ask(topology.GET_DEPLOYMENT, request)
        router_url = session.router_url()
    calls = examples.calls(router_url, one.path, one.task)
    endpoint = examples.address(router_url, one.task)
    if out.as_json:
        call = {"endpoint": endpoint, "auth": AUTH_METHOD, "examples": calls}
        out.document(msgspec.to_builtins(one) | {"call": call})
        return
    _head(out, one)
    _instances(out, one)
    out.heading("How to call it")
    out.pairs(
        [
            ("Address", f"POST {endpoint}"),
            ("Authentication", AUTH_METHOD),
            ("API key", "`caravan keys create` makes one: keep it on your servers only."),
        ]
    )
    for language, text in calls.items():
        out.heading(language)
        out.line(text)


def _head(out: Output, one: admin.Deployment) -> None:
    rows = [
        ("Model id", one.path),
        ("State", one.state),
        ("Why", one.reason),
        ("Ready", f"{one.ready} of {one.instances}"),
        ("Task", one.task),
        ("Source", one.source),
        ("Engine flags", " ".join(one.engine_args)),
        ("Resources", " ".join(f"{name}={value:g}" for name, value in one.resources.items())),
        ("Generation", str(one.generation)),
        ("Created", _at(one.created_at)),
        ("Changed", _at(one.updated_at)),
        ("On hold", "yes: `caravan hold --release` ends it" if one.held else ""),
        ("Restorable", _at(one.restorable_until)),
    ]
    out.pairs([(name, value) for name, value in rows if value])


def _instances(out: Output, one: admin.Deployment) -> None:
    if not one.truth:
        return
    out.heading("Instances")
    for truth in one.truth:
        out.paragraph(line(truth), mark(truth))


def mark(truth: admin.TruthLine) -> str:
    """Return the word whose colour an instance has: ready, or what keeps it from being well."""
    if not truth.ready:
        return truth.worker
    return "suspect" if truth.routers == "ejected" else "ready"


def line(truth: admin.TruthLine) -> str:
    """Return what is known of an instance in one line."""
    if truth.text:
        return f"{truth.instance}: {truth.text}"
    words = [
        f"{truth.instance}: generation {truth.generation}",
        f"cluster {truth.cluster}",
        f"worker {truth.worker}",
        f"routers {truth.routers}",
        f"{truth.in_flight} in flight",
        f"{truth.age_s:.0f} s ago",
        truth.reason,
        truth.next_step,
    ]
    return " · ".join(word for word in words if word)


def _at(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""
