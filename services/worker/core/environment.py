"""What the programs that a worker starts may know of its environment."""

import re
from collections.abc import Mapping

_OURS = re.compile(r"(WORKER|AUTH|SCHEDULER|ROUTER|CONSOLE|NATS)_|NOMAD_TOKEN$|(VAULT|CONSUL|AWS)_")
_SECRET = re.compile(
    r"(^|_)(TOKENS?|SECRETS?|PASSWORD|PASSWD|CREDENTIALS?|SEED|API_?KEY|ACCESS_KEY|PRIVATE_KEY)($|_)",
    re.IGNORECASE,
)
_SECRET_IN_URL = re.compile(r"://[^/\s@]+@")
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_BREAKS_CPU = "SGLANG_USE_CPU_ENGINE"
"""Makes SGLang import compiled kernels that its CPU environment does not have."""
_WAIT = "OMP_WAIT_POLICY"
"""Unset, torch's threads spin for one another: on cores that others use too, or for a second engine
on the same machine, that costs up to 20 times the speed."""


def for_engine(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the engine's environment: nothing of ours, nothing secret, and no way to a hub."""
    kept = {name: value for name, value in environ.items() if not _secret(name, value)}
    kept.pop(_BREAKS_CPU, None)
    kept.setdefault(_WAIT, "PASSIVE")
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def for_download(environ: Mapping[str, str], token: str | None) -> dict[str, str]:
    """Return the download's environment: the hub's token, proxies, nothing else that is secret."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _HUB_TOKENS or name.lower().endswith("_proxy") or not _secret(name, value)
    }
    kept |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept if token is None else kept | {"HF_TOKEN": token}


def _secret(name: str, value: str) -> bool:
    return bool(_OURS.match(name) or _SECRET.search(name) or _SECRET_IN_URL.search(value))
