"""From a spec to SGLang's command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.instances import Spec
from caravan.testing.engine.flags import parse
from services.worker.core.flags import OWNED, Place, arguments, check, check_host, check_kind

PLACE = Place(host="127.0.0.1", port=30000, key="5ecre7")


def spec(**changes):
    fields = {
        "tenant": "u-8105f7322477",
        "name": "test",
        "instance": "i-abc234",
        "generation": 1,
        "task": "text-generation",
        "source": "file:///models/m",
    }
    return Spec(**fields | changes)


def made(kind="fake", architectures=(), **changes):
    return arguments(spec(**changes), kind, "/models/m", architectures, PLACE)


def test_the_engine_takes_what_the_worker_gives_it():
    options = parse(made())
    assert options.model_path == "/models/m"
    assert options.served_model_name == "u-8105f7322477/test"
    assert (options.host, options.port, options.api_key) == ("127.0.0.1", 30000, "5ecre7")
    assert options.stream_response_default_include_usage
    assert options.enable_cache_report
    assert not options.is_embedding


@pytest.mark.parametrize("flag", ["--enable-metrics", "--sleep-on-idle"])
def test_every_engine_can_be_measured_and_sleeps(flag):
    assert flag in made()


def test_the_workers_own_questions_stay_out_of_the_log():
    words = made()
    assert words[words.index("--uvicorn-access-log-exclude-prefixes") + 1] == "/v1/loads"


def test_a_cpu_engine_gets_what_makes_it_run_without_a_gpu():
    words = made("cpu")
    assert words[words.index("--device") + 1] == "cpu"
    assert words[words.index("--attention-backend") + 1] == "torch_native"


def test_the_users_flags_come_last_so_that_they_win_over_defaults():
    options = parse(made("cpu", engine_args=["--max-total-tokens", "99"]))
    assert options.max_total_tokens == 99


def test_an_embedding_engine_embeds():
    assert parse(made(task="embedding")).is_embedding


def test_an_encoder_is_neither_cached_nor_cut():
    words = made(task="embedding", architectures=["BertModel"])
    assert "--disable-radix-cache" in words
    assert words[words.index("--chunked-prefill-size") + 1] == "-1"
    assert "--disable-radix-cache" not in made(task="embedding", architectures=["Qwen3Model"])


@pytest.mark.parametrize("flag", OWNED)
@pytest.mark.parametrize("form", ["{}", "{}=x"])
def test_what_the_worker_owns_is_refused(flag, form):
    with pytest.raises(InvalidRequestError, match="may not set") as refused:
        check([form.format(flag), "x"])
    assert refused.value.problem.param == "engine_args"


@given(st.sampled_from([flag for flag in OWNED if flag.startswith("--")]), st.integers(3, 40))
def test_a_shortened_flag_is_the_flag(flag, length):
    with pytest.raises(InvalidRequestError):
        check([flag[:length]])


@pytest.mark.parametrize(
    "words",
    [
        ["--context-length", "4096"],
        ["--tp-size", "2"],
        ["--enable-metrics-for-all-schedulers"],
        ["--lora-paths", "a=/x", "--enable-lora"],
        ["--hostname-of-something"],
    ],
)
def test_other_flags_pass(words):
    check(words)
    assert made(engine_args=words)[-len(words) :] == words


def test_a_nul_byte_is_refused():
    with pytest.raises(InvalidRequestError, match="NUL"):
        check(["--chat-template", "a\0b"])


def test_an_unknown_kind_of_engine_is_refused_with_the_known_ones():
    with pytest.raises(InvalidRequestError, match="cpu, cuda, fake"):
        check_kind("tpu")


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_an_address_that_names_no_machine_is_refused(host):
    with pytest.raises(InvalidRequestError, match="WORKER_HOST"):
        check_host(host)


def test_an_ipv6_address_stands_in_brackets():
    assert Place(host="::1", port=1, key="").url == "http://[::1]:1"
