"""The form of an answer: what is left of it when every value is forgotten."""

import json
import re


def shape(value):
    """Return keys and types of a JSON value; of a list the different forms of its entries."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in sorted(value.items())}
    if isinstance(value, list):
        forms = {json.dumps(shape(entry)): shape(entry) for entry in value}
        return [forms[form] for form in sorted(forms)]
    return "null" if value is None else type(value).__name__


def message(body):
    """Return the sentence of an error, without its numbers; None when it is none."""
    said = _said(body) if isinstance(body, dict) else None
    if said is None:
        return None
    if "validation error" in said:
        return "(form)"
    return re.sub(r"[\d.]*\d", "N", re.sub(r"'/[^']+'", "PATH", said))


def _said(body):
    inner = (body.get("response") or body).get("error")
    found = inner.get("message") if isinstance(inner, dict) else body.get("message")
    return found if isinstance(found, str) else None


def answer(status, kind, data):
    """Return the form of a whole answer, as it stands in the golden file."""
    found = {"status": status, "type": kind}
    if kind.startswith("text/event-stream"):
        forms = [named(frame) for frame in frames(data)]
        return found | {"events": collapsed(forms)}
    if kind.startswith("application/json"):
        body = json.loads(data)
        found |= {"body": shape(body)}
        return found | ({"message": message(body)} if message(body) else {})
    return found | {"text": data.decode()}


def frames(data):
    """Return the events of a stream as they stand there."""
    *found, rest = data.decode().split("\n\n")
    assert rest == ""
    return found


def events(data):
    """Return the data of each event; nothing else may stand in the stream."""
    found = frames(data)
    assert all(frame.startswith("data: ") for frame in found)
    return [frame.removeprefix("data: ") for frame in found]


def named(frame):
    """Return the form of one event, with its name if it has one."""
    if frame.startswith("data: "):
        return event(frame.removeprefix("data: "))
    name, line = frame.split("\n")
    body = json.loads(line.removeprefix("data: "))
    assert (name.removeprefix("event: "), name[:7]) == (body["type"], "event: ")
    form = {"event": body["type"], "data": shape(body)}
    return form | ({"message": message(body)} if message(body) else {})


def event(line):
    if line == "[DONE]":
        return line
    body = json.loads(line)
    return {"error": body["error"]} if "error" in body else shape(body)


def collapsed(forms):
    """Leave out repetitions: how many tokens come in one event is the machine's affair."""
    return [form for i, form in enumerate(forms) if i == 0 or form != forms[i - 1]]


def lacking(wanted, found, at="$"):
    """Return the places of ``found`` that are not so in ``wanted``: [] if it is a part of it."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        missing = [f"{at}.{key}" for key in found if key not in wanted]
        both = [key for key in found if key in wanted]
        return missing + [
            p for key in both for p in lacking(wanted[key], found[key], f"{at}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and wanted and found:
        return lacking(wanted[0], found[0], f"{at}[]")
    return [] if wanted == found else [f"{at}: {found} is not {wanted}"]
