"""Every command, its arguments and an example; what it does stands where ``run`` points."""

import argparse

from caravan.cli import parser as parsing
from caravan.cli.parser import Commands, Parser
from caravan.contracts.deployments import TASKS, TEXT_GENERATION

GRACE_S = 150.0
"""How long ``down`` lets workers finish their streams: the longest default drain and some more."""


def build() -> Parser:
    """Return the parser of the whole command line."""
    root = parsing.root()
    commands = Commands(root, metavar="COMMAND")
    _platform(commands)
    _making(commands)
    _seeing(commands)
    _changing(commands)
    _ending(commands)
    _keys(commands.group("keys", "API keys: create, list, revoke, rotate"))
    _using(commands)
    return root


def _platform(commands: Commands) -> None:
    up = commands.add(
        "up",
        "up:up",
        "Start the platform on this machine",
        "up --detach --demo",
        more="Its data is in .caravan: $CARAVAN_HOME, else the nearest one upwards, else here."
        " Without --detach it ends with Ctrl-C.",
    )
    up.add_argument("--detach", action="store_true", help="return when all is ready")
    up.add_argument(
        "--demo", action="store_true", help="serve a small model as `demo`, with a key for it"
    )
    up.add_argument("--demo-source", metavar="URL", type=parsing.source, help=argparse.SUPPRESS)
    up.add_argument("--port", type=int, help="the router's; else 8000 or the next free one")
    up.add_argument("--nats-port", type=int, help="NATS's; else 4222 or the next free one")
    up.add_argument("--engine", choices=("cpu", "cuda"), help="else cuda where there is a GPU")
    up.add_argument(
        "--wait", metavar="TIME", type=parsing.seconds, default=120.0, help="for services (2m)"
    )
    down = commands.add("down", "down:down", "End the platform of this machine", "down", more=_DOWN)
    down.add_argument(
        "--grace", metavar="TIME", type=parsing.seconds, default=GRACE_S, help="for streams (150s)"
    )
    commands.add("status", "status:status", "Show what runs and what is ready", "status")


_DOWN = "No new instance starts, workers finish their streams, then the router and NATS end."


def _making(commands: Commands) -> None:
    deploy = commands.add(
        "deploy",
        "deployments:deploy",
        "Serve a model",
        "deploy chat --source hf://Qwen/Qwen3-0.6B --wait",
        'deploy chat --source ./model --engine-arg "--context-length 4096"',
    )
    _name(deploy)
    deploy.add_argument(
        "--source", required=True, type=parsing.source, help="file:///…, hf://owner/name, a folder"
    )
    deploy.add_argument("--task", default=TEXT_GENERATION, help=f"{', '.join(TASKS)}")
    deploy.add_argument("--instances", metavar="N", type=int, default=1, help="copies (1)")
    _engine(deploy)
    _wait(deploy)
    update = commands.add(
        "update",
        "deployments:update",
        "Change a deployment; new source, flags or resources renew its instances one by one",
        "update chat --source hf://Qwen/Qwen3-1.7B --wait",
    )
    _name(update)
    update.add_argument("--source", type=parsing.source, help="new weights")
    update.add_argument(
        "--no-engine-args", action="store_true", help="drop the engine flags given before"
    )
    _engine(update)
    update.add_argument(
        "--in-place", action="store_true", help="drain each before its successor: needs no room"
    )
    _wait(update)


def _seeing(commands: Commands) -> None:
    commands.add("list", "deployments:show_all", "List the deployments", "list")
    show = commands.add(
        "show", "show:show", "Show a deployment: how to call it and how it is", "show chat"
    )
    _name(show)
    logs = commands.add("logs", "follow:logs", "Show what an instance prints", "logs -f chat")
    _name(logs)
    logs.add_argument("--instance", metavar="ID", default="", help="else the newest")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    events = commands.add("events", "follow:events", "Show what happened", "events -f chat")
    _name(events, nargs="?", default="", help="of one deployment; else of all")
    events.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")


def _changing(commands: Commands) -> None:
    scale = commands.add(
        "scale",
        "deployments:scale",
        "Change how many instances a deployment has",
        "scale chat --add 2",
        "scale chat --to 1",
        "scale chat --remove i-a2b3c4",
    )
    _name(scale)
    count = scale.add_mutually_exclusive_group()
    count.add_argument("--add", metavar="N", type=int, help="so many more")
    count.add_argument("--to", metavar="N", type=int, help="so many in all; 0 is stop")
    scale.add_argument(
        "--remove",
        metavar="ID",
        action="append",
        default=[],
        help="which shall go, with fewer; alone: one fewer each",
    )
    _wait(scale)
    for name, does in (
        ("stop", "Take a deployment to 0 instances, until start"),
        ("start", "Take a stopped deployment back to the count it had"),
    ):
        command = commands.add(name, f"deployments:{name}", does, f"{name} chat")
        _name(command)
        _wait(command)


def _ending(commands: Commands) -> None:
    delete = commands.add(
        "delete",
        "deployments:delete",
        "Delete a deployment; `restore` brings it back for 24 hours",
        "delete chat",
        "delete chat --confirm chat",
        more="It asks for the name again.",
    )
    _name(delete)
    delete.add_argument("--confirm", metavar="NAME", help="the name again, for scripts")
    restore = commands.add(
        "restore", "deployments:restore", "Bring a deleted deployment back, stopped", "restore chat"
    )
    _name(restore)
    hold = commands.add(
        "hold",
        "hold:hold",
        "Freeze: nothing is started, stopped or deleted until it is released",
        "hold",
        "hold u-8105f7322477/chat",
        "hold --release",
    )
    hold.add_argument("path", nargs="?", default="", help="one deployment, by name or model id")
    hold.add_argument("--release", action="store_true", help="end the hold")


def _keys(commands: Commands) -> None:
    create = commands.add(
        "create", "keys:create", "Make an API key; it is shown once", "create --label ci"
    )
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--expires-in", metavar="TIME", type=parsing.seconds, help="30d, 12h, …")
    create.add_argument(
        "--scope", metavar="NAME", action="append", default=[], help="a deployment it may use"
    )
    commands.add("list", "keys:show_all", "List the API keys", "list")
    revoke = commands.add("revoke", "keys:revoke", "End an API key", "revoke k-4f2a9c")
    revoke.add_argument("id", help="as `caravan keys list` shows it")
    rotate = commands.add(
        "rotate", "keys:rotate", "Replace an API key's secret", "rotate k-4f2a9c --grace 1h"
    )
    rotate.add_argument("id", help="as `caravan keys list` shows it")
    rotate.add_argument(
        "--grace", metavar="TIME", type=parsing.seconds, default=0.0, help="for the old one (0)"
    )


def _using(commands: Commands) -> None:
    chat = commands.add(
        "chat",
        "chat:chat",
        "Talk to a deployment in the terminal",
        "chat demo",
        'chat demo "Say this is a test!"',
        more="The key is --key, else the one in .caravan/env.",
    )
    _name(chat)
    chat.add_argument("prompt", nargs="?", help="one question; else a conversation")
    chat.add_argument("--key", help="an API key")
    chat.add_argument("--system", metavar="TEXT", help="what the model is told first")
    chat.add_argument("--max-tokens", metavar="N", type=int, help="longest answer")
    chat.add_argument("--temperature", metavar="T", type=float, help="0 to 2")


def _name(command: argparse.ArgumentParser, **options: str) -> None:
    command.add_argument("name", **{"help": "of the deployment"} | options)  # type: ignore[arg-type]  # nargs and default are words here


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine-arg",
        metavar="ARG",
        action="extend",
        type=parsing.engine_words,
        help='a flag for SGLang: "--dtype float16"; may be repeated',
    )
    command.add_argument("--cpu-mhz", metavar="N", type=parsing.amount, help="per instance")
    command.add_argument("--memory-mib", metavar="N", type=parsing.amount, help="per instance")
    command.add_argument("--gpus", metavar="N", type=parsing.amount, help="per instance")
    command.add_argument(
        "--drain", metavar="TIME", type=parsing.seconds, help="longest end of an instance (2m)"
    )
    command.add_argument(
        "--stall", metavar="TIME", type=parsing.seconds, help="no token so long: hung (2m)"
    )


def _wait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wait", action="store_true", help="return when it is reached, and show the way there"
    )
    command.add_argument(
        "--timeout", metavar="TIME", type=parsing.seconds, default=900.0, help="of --wait (15m)"
    )
