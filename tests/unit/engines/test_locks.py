"""The locks say what is installed, to the byte, and name no registry."""

import re
import tomllib
from pathlib import Path

import pytest

from engines import lock

KINDS = ["cpu", "cuda"]
LINES = {kind: (lock.HERE / kind / "requirements.txt").read_text().splitlines() for kind in KINDS}


def packages(kind):
    """Return versions by name."""
    found = (re.match(r"([a-z0-9-]+)==(\S+)", line) for line in LINES[kind])
    return {each[1]: each[2] for each in found if each}


def wanted():
    project = tomllib.loads((lock.HERE.parent / "pyproject.toml").read_text())
    return project["project"]["optional-dependencies"]["engine"]


@pytest.mark.parametrize("kind", KINDS)
def test_sglang_is_the_one_of_the_project(kind):
    assert f"sglang=={packages(kind)['sglang']}" in wanted()


@pytest.mark.parametrize("kind", KINDS)
def test_every_package_has_a_hash(kind):
    text = "\n".join(LINES[kind])
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(blocks) == len(packages(kind))
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("kind", KINDS)
def test_no_address_and_no_folder_of_a_machine_is_in_it(kind):
    assert not [line for line in LINES[kind] if re.search(r"https?://|file:|/tmp/|/home/", line)]


def overrides():
    lines = (lock.HERE / "cpu" / "overrides.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_what_needs_a_gpu_is_not_in_the_cpu_environment():
    off = {line.partition(" ;")[0] for line in overrides() if "never" in line}
    assert "sglang-kernel" in off
    assert not off & packages("cpu").keys()
    assert off & packages("cuda").keys()


def test_torch_and_torchvision_are_those_that_serve_on_a_cpu():
    pins = dict(line.split("==") for line in overrides() if "==" in line and "never" not in line)
    assert pins == {name: packages("cpu")[name] for name in ("torch", "torchvision")}


def test_each_kind_is_resolved_from_the_extra_and_its_own_list():
    project = tomllib.loads(lock._project("cpu"))
    assert project["project"]["dependencies"][: len(wanted())] == wanted()
    assert "dill" in project["project"]["dependencies"]
    assert tomllib.loads(lock._project("cuda"))["project"]["dependencies"] == wanted()


def test_a_lock_names_the_overrides_by_their_place_in_the_project():
    shown = f"    # via --override {lock.HERE}/cpu/overrides.txt"
    assert lock._without_paths(shown) == "    # via engines/cpu/overrides.txt"
    assert Path(lock.HERE, "cpu", "overrides.txt").is_file()
