"""The small decisions of a worker: spec, term, endings, environment, what it announces."""

import ast
import inspect
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.errors import InvalidRequestError, Refusal
from caravan.contracts.instances import Progress, Record
from services.worker import settings
from services.worker.core import endings, environment
from services.worker.core.announcement import Facts, lease, record
from services.worker.core.incarnation import Judgement, incarnation, judge, next_term
from services.worker.core.lifecycle import Life, Limits
from services.worker.core.load import Load, Loads, Rank, combined
from services.worker.core.spec import check_task, read_spec

SPEC = {
    "tenant": "u-8105f7322477",
    "name": "test",
    "instance": "i-abc234",
    "generation": 3,
    "task": "text-generation",
    "source": "file:///m",
}


def text(**changes):
    return json.dumps(SPEC | changes)


def test_a_spec_is_read_with_fields_of_the_future():
    assert read_spec(text(colour="blue")).generation == 3


def test_a_spec_written_for_nomad_is_the_same():
    assert read_spec(text(source="file:///m\\u0024x").replace("\\\\", "\\")).source == "file:///m$x"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{",
        "[]",
        "{}",
        text(generation="three"),
        text(tenant="somebody"),
        text(name="Test"),
        text(instance="i-1"),
        text(stall_s=0),
        text(drain_s=-1),
    ],
)
def test_a_wrong_spec_is_refused_in_one_sentence(wrong):
    with pytest.raises(InvalidRequestError) as refused:
        read_spec(wrong)
    assert refused.value.exit == 2
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", ["image-generation", "rerank", "dance"])
def test_a_task_that_is_not_offered_is_refused_with_those_that_are(task):
    with pytest.raises(Refusal, match="text-generation and embedding") as refused:
        check_task(task)
    assert refused.value.problem.code == "task_not_supported"


def said(term, by="a"):
    return Record(incarnation=by, term=term, generation=1, state="ready")


def test_the_first_worker_has_term_1_and_each_later_one_is_higher():
    assert next_term(None) == 1
    assert next_term(said(4)) == 5


def test_a_missing_or_lower_record_is_written_again():
    assert judge(said(2), None) is Judgement.WRITE
    assert judge(said(2), said(1, by="b")) is Judgement.WRITE


def test_its_own_record_is_written_only_when_it_changed():
    assert judge(said(2), said(2)) is Judgement.KEEP
    assert judge(said(2), Record(incarnation="a", term=2, generation=1, state="loading")) is (
        Judgement.WRITE
    )


def test_a_higher_term_makes_it_leave():
    assert judge(said(2), said(3, by="b")) is Judgement.LEAVE


@given(st.integers(1, 9), st.integers(1, 9), st.text("ab", min_size=1), st.text("ab", min_size=1))
def test_of_two_workers_exactly_one_leaves(term, other_term, name, other):
    judgements = {
        judge(said(term, name), said(other_term, other)),
        judge(said(other_term, other), said(term, name)),
    }
    leaves = Judgement.LEAVE in judgements
    assert leaves == (name != other)
    assert judgements != {Judgement.LEAVE}


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_an_incarnation_is_a_uuid_that_sorts_by_its_moment(at, draw):
    made = uuid.UUID(incarnation(at, draw))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == at


def test_incarnations_of_one_moment_differ():
    assert len({incarnation(5, draw) for draw in (0, 1, 2**62, 2**73)}) == 4


@pytest.mark.parametrize(
    ("returncode", "lines", "words"),
    [
        (1, [], "it exited with 1"),
        (-9, [], "out of memory"),
        (137, [], "out of memory"),
        (-11, [], "segmentation fault"),
        (-40, [], "signal 40"),
        (1, ["torch.OutOfMemoryError: CUDA out of memory."], "the GPU is out of memory"),
        (1, ["[Errno 98] Address already in use", "bye"], "took the engine's port"),
        (-9, ["RuntimeError: boom", "SIGQUIT received. …"], "RuntimeError: boom (SGLang ended"),
        (-9, ["MemoryError: x", "SIGQUIT received. …"], "the machine is out of memory (SGLang"),
        (-9, ["SIGQUIT received. …"], "one of its processes failed"),
        (1, ["ValueError: no such architecture"], "ValueError: no such architecture (it exited"),
        (2, ["sglang serve: error: unrecognized arguments: --x"], "does not know one of its flags"),
    ],
)
def test_an_end_is_told_in_words(returncode, lines, words):
    assert words in endings.words(returncode, lines)


ENVIRON = {
    "PATH": "/bin",
    "CUDA_VISIBLE_DEVICES": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "CARAVAN_FAKE_ENGINE": "{}",
    "WORKER_SPEC": "{}",
    "WORKER_NATS_SEED": "SU…",
    "NATS_URL": "nats://u:p@h",
    "SCHEDULER_DATABASE_URL": "postgresql://u:p@h/d",
    "HF_TOKEN": "hf_x",
    "HF_HOME": "/cache",
    "OPENAI_API_KEY": "sk-x",
    "DB": "postgresql://u:p@h/d",
    "https_proxy": "http://u:p@proxy",
    "MY_PASSWORD": "x",
    "SGLANG_USE_CPU_ENGINE": "1",
}


def test_the_engine_gets_nothing_secret_and_nothing_of_ours():
    kept = environment.for_engine(ENVIRON)
    assert {"PATH", "CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "HF_HOME"} <= set(kept)
    assert kept["HF_HUB_OFFLINE"] == "1"
    assert kept["CARAVAN_FAKE_ENGINE"] == "{}"
    assert not [name for name in kept if name.startswith(("WORKER_", "SCHEDULER_", "NATS_"))]
    assert not set(kept) & {"HF_TOKEN", "OPENAI_API_KEY", "DB", "https_proxy", "MY_PASSWORD"}
    assert "SGLANG_USE_CPU_ENGINE" not in kept


def test_the_engines_threads_do_not_spin_unless_the_user_wants_it():
    assert environment.for_engine(ENVIRON)["OMP_WAIT_POLICY"] == "PASSIVE"
    mine = ENVIRON | {"OMP_WAIT_POLICY": "ACTIVE"}
    assert environment.for_engine(mine)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_download_gets_the_hubs_token_and_the_proxy_only():
    kept = environment.for_download(ENVIRON, None)
    assert kept["HF_TOKEN"] == "hf_x"
    assert kept["https_proxy"] == "http://u:p@proxy"
    assert not set(kept) & {"WORKER_NATS_SEED", "NATS_URL", "OPENAI_API_KEY", "DB"}
    assert environment.for_download(ENVIRON, "hf_y")["HF_TOKEN"] == "hf_y"


FACTS = Facts(
    incarnation="x", spec=read_spec(text()), url="http://h:1", engine_key="k", max_model_len=64
)


def live(state, **changes):
    return Life(limits=Limits(), state=state, **changes)


@pytest.mark.parametrize("state", ["starting", "loading", "failed"])
def test_an_engine_that_does_not_serve_has_no_url(state):
    said = record(FACTS, live(state), 1, 5.0, [])
    assert (said.url, said.engine_key) == ("", "")


@pytest.mark.parametrize("state", ["ready", "draining"])
def test_one_that_serves_has_a_url_and_a_key(state):
    said = record(FACTS, live(state), 2, 5.0, ["line"])
    assert (said.url, said.engine_key, said.generation, said.term) == ("http://h:1", "k", 3, 2)
    assert said.last_lines == []


def test_a_failure_says_why_and_what_was_printed_last():
    said = record(FACTS, live("failed", reason="it exited with 1"), 1, 5.0, ["a", "b"])
    assert (said.reason, said.last_lines) == ("it exited with 1", ["a", "b"])


def test_the_lease_tells_load_and_progress():
    load = Load(running=2, waiting=1, cache_hit_rate=0.5, tokens_per_s=20.0)
    said = lease(FACTS, live("ready", load=load), Progress(done_bytes=1, total_bytes=2), 9.0)
    assert (said.running, said.waiting, said.tokens_per_s) == (2, 1, 20.0)
    assert said.progress == Progress(done_bytes=1, total_bytes=2)
    idle = lease(FACTS, live("ready", load=Load(tokens_per_s=20.0)), None, 0.0)
    assert idle.tokens_per_s == 0.0


def test_the_load_of_an_engine_is_that_of_all_its_ranks():
    ranks = [
        Rank(num_running_reqs=1, max_running_requests=8, gen_throughput=5, cache_hit_rate=0.2),
        Rank(num_running_reqs=2, max_running_requests=8, gen_throughput=6, cache_hit_rate=0.4),
    ]
    load = combined(ranks)
    assert (load.running, load.max_running, load.tokens_per_s) == (3, 16, 11)
    assert load.cache_hit_rate == pytest.approx(0.3)
    assert combined(Loads(loads=[]).loads).idle


@pytest.mark.parametrize("moved", ["num_used_tokens", "total_prefill_uncached_tokens"])
def test_work_that_moves_changes_the_mark(moved):
    assert combined([Rank()]).mark != combined([Rank(**{moved: 1})]).mark


def test_requests_that_only_arrive_do_not_change_the_mark():
    assert combined([Rank()]).mark == combined([Rank(num_waiting_reqs=5)]).mark


def test_every_setting_has_its_manual():
    body = ast.parse(inspect.getsource(settings.Settings)).body[0].body[1:]
    for field, manual in zip(body[::2], body[1::2], strict=True):
        assert isinstance(field, ast.AnnAssign)
        assert isinstance(manual, ast.Expr), f"{field.target.id} has no docstring"
