"""SGLang's command line, as far as a worker or a user's ``engine_args`` may use it."""

import argparse
from collections.abc import Sequence

from msgspec import Struct

VALUES = (
    *("--tokenizer-path", "--tokenizer-mode", "--load-format", "--revision", "--dtype"),
    *("--quantization", "--kv-cache-dtype", "--mem-fraction-static", "--chunked-prefill-size"),
    *("--max-prefill-tokens", "--schedule-policy", "--schedule-conservativeness", "--page-size"),
    *("--tp-size", "--pp-size", "--dp-size", "--device", "--random-seed", "--log-level"),
    *("--log-level-http", "--watchdog-timeout", "--attention-backend", "--sampling-backend"),
    *("--tool-call-parser", "--reasoning-parser", "--chat-template", "--stream-interval"),
    *("--lora-backend", "--max-lora-rank", "--max-loras-per-batch", "--mm-attention-backend"),
    *("--json-model-override-args", "--download-dir", "--warmups", "--weight-version"),
)
SWITCHES = (
    *("--trust-remote-code", "--enable-metrics", "--enable-cache-report", "--sleep-on-idle"),
    *("--constrained-json-disable-any-whitespace", "--disable-radix-cache", "--log-requests"),
    *("--disable-overlap-schedule", "--enable-mixed-chunk", "--enable-lora", "--enable-p2p-check"),
    *("--disable-cuda-graph", "--skip-server-warmup", "--enable-multimodal"),
)
LISTS = ("--lora-paths", "--lora-target-modules")


class Options(Struct, frozen=True, kw_only=True):
    """The flags that change what the fake does; the others are accepted and forgotten."""

    model_path: str
    served_model_name: str
    host: str
    port: int
    api_key: str | None
    is_embedding: bool
    context_length: int | None
    max_running_requests: int
    max_queued_requests: int | None
    max_total_tokens: int
    enable_cache_report: bool
    stream_response_default_include_usage: bool


def parse(arguments: Sequence[str]) -> Options:
    """Return the options; like SGLang, exit with 2 and the usage when a flag is not known."""
    asked = _parser().parse_args(arguments)
    name = asked.served_model_name or asked.model_path
    known = {field: getattr(asked, field) for field in Options.__struct_fields__}
    return Options(**known | {"served_model_name": name})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sglang serve", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"], help=argparse.SUPPRESS)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--api-key")
    parser.add_argument("--is-embedding", action="store_true")
    parser.add_argument("--context-length", type=int)
    parser.add_argument("--max-running-requests", type=int, default=2048)
    parser.add_argument("--max-queued-requests", type=int)
    parser.add_argument("--max-total-tokens", type=int, default=8192)
    parser.add_argument("--stream-response-default-include-usage", action="store_true")
    for flag in VALUES:
        parser.add_argument(flag)
    for flag in SWITCHES:
        parser.add_argument(flag, action="store_true")
    for flag in LISTS:
        parser.add_argument(flag, nargs="*")
    return parser
