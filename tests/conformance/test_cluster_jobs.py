"""The job files, read by Nomad's own command."""

import shutil
import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"
FILES = sorted(JOBS.glob("*.nomad.hcl"))


def nomad(agent, *words):
    return subprocess.run(
        [shutil.which("nomad"), *words],
        env={"NOMAD_ADDR": agent.url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_part_has_its_job():
    names = {path.name.removesuffix(".nomad.hcl") for path in FILES}
    assert names == {"nats", "auth", "scheduler", "router", "worker"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_job_file_is_valid_and_well_formed(nomad_agent, path):
    checked = nomad(nomad_agent, "fmt", "-check", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    valid = nomad(nomad_agent, "job", "validate", str(path))
    assert valid.returncode == 0, valid.stdout + valid.stderr
    assert "warning" not in valid.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_job_file_serves_docker_too(nomad_agent, path):
    words = ("-var", "driver=docker", "-var", "image=caravan:0.1")
    valid = nomad(nomad_agent, "job", "validate", *words, str(path))
    assert valid.returncode == 0, valid.stdout + valid.stderr
