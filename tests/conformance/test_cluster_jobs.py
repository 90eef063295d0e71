"""The job files, read by Nomad's own command."""

import json
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


def test_each_process_of_a_router_has_an_admin_port_and_a_check(nomad_agent):
    path = JOBS / "router.nomad.hcl"
    words = ("-var", "processes=3", "-var", "admin_port=9200")
    valid = nomad(nomad_agent, "job", "validate", *words, str(path))
    assert valid.returncode == 0, valid.stdout + valid.stderr

    job = json.loads(nomad(nomad_agent, "job", "run", "-output", *words, str(path)).stdout)["Job"]
    [group] = job["TaskGroups"]
    ports = {p["Label"]: p["Value"] for p in group["Networks"][0]["ReservedPorts"]}
    assert ports == {"http": 8000, "admin0": 9200, "admin1": 9201, "admin2": 9202}
    asked = {s["PortLabel"]: s["Checks"][0]["Path"] for s in group["Services"]}
    assert asked == dict.fromkeys(ports, "/ready")
    assert group["Tasks"][0]["Env"]["ROUTER_PROCESSES"] == "3"
