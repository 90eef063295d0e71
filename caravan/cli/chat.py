"""``caravan chat``: a conversation in the terminal, through the router like any client."""

import argparse
import sys
from pathlib import Path
from typing import Any

from caravan.cli import completions, environment
from caravan.cli.completions import Asking
from caravan.cli.output import Output
from caravan.cli.session import connect, where
from caravan.contracts import names
from caravan.contracts.errors import InvalidRequestError, Refusal

Message = dict[str, str]


def chat(asked: argparse.Namespace, out: Output) -> None:
    """Answer one prompt, or hold a conversation when there is none and a person is there."""
    place = where(asked.nats_url, asked.tenant)
    name = names.check_name(asked.name)
    with connect(place) as session:
        model, url = names.path(session.tenant, name), session.router_url()
    asking = Asking(url=url, key=asked.key or _kept_key(place.home.env), model=model)
    options = {"max_tokens": asked.max_tokens, "temperature": asked.temperature}
    talk = _Talk(asking, {key: value for key, value in options.items() if value is not None}, out)
    if asked.system:
        talk.messages.append({"role": "system", "content": asked.system})
    prompt = asked.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if prompt:
        talk.say(prompt)
    elif prompt is None and not out.as_json:
        _converse(talk, out, model)
    else:
        raise InvalidRequestError("Give a prompt: caravan chat NAME 'What is …?'", param="prompt")


class _Talk:
    """A conversation: what was said so far goes with every new question."""

    def __init__(self, asking: Asking, options: dict[str, Any], out: Output) -> None:
        self.messages: list[Message] = []
        self._asking, self._options, self._out = asking, options, out

    def say(self, prompt: str) -> None:
        """Ask, and show the answer while it comes; what failed is not remembered."""
        messages = [*self.messages, {"role": "user", "content": prompt}]
        answer = completions.stream(self._asking, messages, self._options, self._show)
        if self._out.as_json:
            self._out.document(answer)
        else:
            self._out.line()
        self.messages = [*messages, {"role": "assistant", "content": answer.content}]

    def _show(self, piece: str) -> None:
        if not self._out.as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()


def _converse(talk: _Talk, out: Output, model: str) -> None:
    out.note(f"Talking to {model}; Ctrl-D ends.")
    while True:
        sys.stderr.write("> ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            out.note("")
            return
        if line.strip():
            try:
                talk.say(line.strip())
            except Refusal as refusal:  # the conversation goes on
                out.note(f"caravan: {refusal.problem.message}")


def _kept_key(file: Path) -> str:
    key = environment.read(file).get(environment.KEY)
    if not key:
        raise InvalidRequestError(
            "There is no API key here: give --key, or make one with `caravan keys create`.",
            param="key",
        )
    return key
