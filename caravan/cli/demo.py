"""The demo: a small model as the deployment ``demo``, and a key for it in ``.caravan/env``."""

from pathlib import Path

from msgspec import Struct

from caravan.cli import completions, environment, examples, programs, watch
from caravan.cli.completions import Asking
from caravan.cli.home import Home
from caravan.cli.output import Output
from caravan.cli.session import Session, Where, connect, intent
from caravan.contracts import admin, names, topology
from caravan.contracts.deployments import TEXT_GENERATION
from caravan.contracts.errors import Refusal, UnavailableError
from models.smollm2 import make

NAME = "demo"
WAIT_S = 900.0
GONE = ("deleting", "deleted")
AT_REST = ("stopped", "stopping")


class Demo(Struct, frozen=True, kw_only=True):
    """What a person needs to call it."""

    base_url: str
    api_key: str
    model: str
    tenant: str


def ensure(used: programs.Engine, place: Where, source: str | None, out: Output) -> Demo:
    """Have the deployment ``demo`` run, and return how to call it; also written to the home."""
    wanted = source or f"file://{_model(used, out)}"
    with connect(place) as session:
        _deployed(session, wanted)
        watch.reached(session, out, NAME, WAIT_S)
        base_url = f"{session.router_url()}/v1"
        made = Demo(
            base_url=base_url,
            api_key=_key(session, place.home),
            model=names.path(session.tenant, NAME),
            tenant=session.tenant,
        )
    environment.write(
        place.home.env,
        {
            environment.BASE_URL: made.base_url,
            environment.KEY: made.api_key,
            environment.MODEL: made.model,
            environment.TENANT: made.tenant,
        },
    )
    return made


def tell(out: Output, home: Home, made: Demo) -> None:
    """Show how to call it, so that it can be pasted."""
    router_url = made.base_url.removesuffix("/v1")
    curl = examples.calls(router_url, made.model, TEXT_GENERATION, made.api_key)["curl"]
    out.line(f"Endpoint  {made.base_url}")
    out.line(f"API key   {made.api_key}")
    out.line(f"Model     {made.model}")
    out.line()
    out.line(curl)
    out.line()
    out.line(f". {_short(home.env)} makes any OpenAI client work.")


def _model(used: programs.Engine, out: Output) -> Path:
    with out.progress("Demo model: SmolLM2-135M-Instruct") as say:
        try:
            return make.ensure(engine=used.environment, say=say)
        except make.ModelError as error:
            raise UnavailableError(str(error)) from error


def _short(file: Path) -> str:
    """Return it as seen from here, where that is shorter."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _deployed(session: Session, source: str) -> None:
    """Create it, start it, or take it out of the trash; one that runs is left as it is."""
    one = _found(session)
    if one is None:
        request = admin.CreateDeployment(request_id=intent(), name=NAME, source=source)
        session.ask(topology.CREATE_DEPLOYMENT, request)
        return
    if one.state in GONE:
        session.ask(
            topology.RESTORE_DEPLOYMENT, admin.RestoreDeployment(request_id=intent(), name=NAME)
        )
    if one.state in GONE or one.state in AT_REST:
        session.ask(
            topology.START_DEPLOYMENT, admin.StartDeployment(request_id=intent(), name=NAME)
        )


def _found(session: Session) -> admin.Deployment | None:
    try:
        found: admin.Deployment = session.ask(
            topology.GET_DEPLOYMENT, admin.GetDeployment(name=NAME)
        )
    except Refusal as refusal:
        if refusal.problem.code != "deployment_not_found":
            raise
        return None
    return found


def _key(session: Session, home: Home) -> str:
    """Return the key of an earlier demo when routers still take it, else a new one."""
    kept = environment.read(home.env).get(environment.KEY, "")
    asking = Asking(url=session.router_url(), key=kept, model="")
    if kept and completions.usable(asking):
        return kept
    request = admin.CreateKey(request_id=intent(), label=NAME)
    created: admin.KeyCreated = session.ask(topology.CREATE_KEY, request)
    return created.secret
