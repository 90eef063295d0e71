"""From a spec to SGLang's command line."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from caravan.contracts.deployments import EMBEDDING
from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.instances import Spec
from caravan.contracts.names import path

CPU, CUDA, FAKE = "cpu", "cuda", "fake"

DEFAULTS: Mapping[str, tuple[str, ...]] = {
    CPU: (
        *("--device", "cpu", "--attention-backend", "torch_native", "--page-size", "1"),
        *("--max-total-tokens", "8192"),
        # Small models, which are what a CPU serves, fill their answer with blanks under a grammar.
        "--constrained-json-disable-any-whitespace",
    ),
    CUDA: (),
    FAKE: (),
}
"""By kind of engine: what a user's own flags may replace."""

ENCODERS = ("BertModel", "XLMRobertaModel", "RobertaModel", "Contriever")
"""Every token reads every other: such a model's prompt cannot be cached or cut in parts."""

OWNED = (
    *("--model-path", "--model", "--served-model-name", "--host", "--port", "--api-key"),
    *("--admin-api-key", "--is-embedding", "--config", "--revision", "--grpc-mode", "--grpc-port"),
    *("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-keyfile-password"),
    *("--fastapi-root-path", "--nnodes", "--node-rank", "--dist-init-addr", "--model-type"),
    *("--enable-metrics", "--enable-cache-report", "--sleep-on-idle"),
    "--stream-response-default-include-usage",
    *("--help", "-h", "--version"),
)
"""What the worker sets, or what would take the engine away from it."""


class Place(Struct, frozen=True, kw_only=True):
    """Where an engine listens and who may ask it."""

    host: str
    port: int
    key: str

    @property
    def url(self) -> str:
        """Where it answers, e.g. ``http://127.0.0.1:30000``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def check_kind(kind: str) -> None:
    """Refuse a kind of engine that has no flags here."""
    if kind not in DEFAULTS:
        message = f"WORKER_ENGINE_KIND is {kind[:60]!r}: use {', '.join(DEFAULTS)}"
        raise InvalidRequestError(message, param="WORKER_ENGINE_KIND")


def check_host(host: str) -> None:
    """Refuse an address that nobody else could use to reach the engine."""
    if host in {"", "0.0.0.0", "::", "*"}:  # noqa: S104 - refused, not listened on
        message = "WORKER_HOST must be the address that routers reach this machine by, not any"
        raise InvalidRequestError(message, param="WORKER_HOST")


def arguments(
    spec: Spec, kind: str, model: str, architectures: Sequence[str], place: Place
) -> list[str]:
    """Return what follows the engine's command: ours, the kind's defaults, then the user's own."""
    check(spec.engine_args)
    return [
        "serve",
        *("--model-path", model, "--served-model-name", path(spec.tenant, spec.name)),
        *("--host", place.host, "--port", str(place.port), "--api-key", place.key),
        *("--enable-metrics", "--enable-cache-report", "--sleep-on-idle"),
        # The worker asks for the load every 3 s; its log would be nothing else.
        *("--uvicorn-access-log-exclude-prefixes", "/v1/loads", "/health", "/metrics"),
        # Its load is told anew at every step: by default, answers of 15 tokens would not be seen.
        *("--load-snapshot-publish-interval", "1"),
        "--stream-response-default-include-usage",
        *(_embedding(architectures) if spec.task == EMBEDDING else ()),
        *DEFAULTS[kind],
        *spec.engine_args,
    ]


def check(engine_args: Sequence[str]) -> None:
    """Refuse flags that would override what the worker owns; SGLang takes shortened ones too."""
    for word in engine_args:
        if "\0" in word:
            raise InvalidRequestError("engine_args hold a NUL byte", param="engine_args")
        flag = word.partition("=")[0]
        if owner := _owned(flag):
            also = "" if flag == owner else f" ({flag} is short for it)"
            message = f"engine_args may not set {owner}{also}: the worker does; leave it out"
            raise InvalidRequestError(message, param="engine_args")


def _owned(flag: str) -> str | None:
    if flag in OWNED:
        return flag
    if not flag.startswith("--") or flag == "--":
        return None
    return next((owned for owned in OWNED if owned.startswith(flag)), None)


def _embedding(architectures: Sequence[str]) -> tuple[str, ...]:
    if any(name in ENCODERS for name in architectures):
        return ("--is-embedding", "--disable-radix-cache", "--chunked-prefill-size", "-1")
    return ("--is-embedding",)
