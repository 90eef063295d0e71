"""``caravan hold``: freeze one deployment, or all that auth and the scheduler would change."""

import argparse

from caravan.cli.output import Output
from caravan.cli.session import Session, connect, intent, where
from caravan.contracts import admin, names, topology
from caravan.contracts.errors import InvalidRequestError


def hold(asked: argparse.Namespace, out: Output) -> None:
    """Hold or release; without a path both services, with one its deployment only."""
    with connect(where(asked.nats_url, asked.tenant)) as session:
        path = _path(session, asked.path) if asked.path else ""
        endpoints = [topology.HOLD_SCHEDULER, *([] if path else [topology.HOLD_AUTH])]
        answers: dict[str, admin.HoldAnswer] = {}
        for endpoint in endpoints:
            request = admin.Hold(request_id=intent(), path=path, release=asked.release)
            answers[endpoint.service] = session.ask(endpoint, request)
    if out.as_json:
        out.document(answers)
        return
    for service, answer in answers.items():
        out.line(_told(service, answer))


def _path(session: Session, text: str) -> str:
    if names.NAME.fullmatch(text):
        return names.path(session.tenant, text)
    if names.split_path(text) is None:
        raise InvalidRequestError(
            f"{text[:80]!r} names no deployment: give its name or its model id.", param="path"
        )
    return text


def _told(service: str, answer: admin.HoldAnswer) -> str:
    if answer.on_hold:
        return f"{service}: on hold, `caravan hold --release` ends it. Why: {answer.reason}"
    if answer.paths:
        return f"{service}: on hold for {', '.join(answer.paths)}."
    return f"{service}: not on hold."
