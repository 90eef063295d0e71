"""An engine's environment: made once, made anew when it must be, and never half."""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest


def works(program):
    return subprocess.run([program], check=True, capture_output=True).stdout == b"tiny\n"


async def command(engines, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(engines / "install.py"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_an_environment_is_made_with_progress(installer, tmp_path, said):
    program = installer.ensure("cpu", tmp_path / "made", said.append)
    assert program == tmp_path / "made" / "bin" / "sglang"
    assert works(program)
    assert "Making the cpu engine" in said[0]
    assert "is ready after" in said[-1]


def test_it_goes_into_the_cache_by_default(installer, tmp_path, said):
    program = installer.ensure("cpu", say=said.append)
    short = installer.digest("cpu")[:12]
    assert program == tmp_path / "cache" / "engines" / f"cpu-{short}" / "bin" / "sglang"


def test_without_a_setting_the_cache_is_the_users(installer, monkeypatch, tmp_path):
    monkeypatch.delenv("CARAVAN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert installer.cache() == tmp_path / ".cache" / "caravan"


def test_what_is_made_is_found_and_not_made_again(installer, said):
    assert installer.found("cpu") is None
    program = installer.ensure("cpu", say=said.append)
    said.clear()
    assert installer.found("cpu") == installer.ensure("cpu", say=said.append) == program
    assert said == []


def test_a_half_made_environment_is_made_anew(installer, said):
    program = installer.ensure("cpu", say=said.append)
    target = program.parent.parent
    (target / "caravan-engine").unlink()  # it is written last
    program.unlink()
    (target / "left over").touch()
    assert works(installer.ensure("cpu", say=said.append))
    assert not (target / "left over").exists()


def test_another_lock_makes_the_same_target_anew(installer, engines, tmp_path, said):
    target = tmp_path / "made"
    installer.ensure("cpu", target, said.append)
    with (engines / "cpu" / "requirements.txt").open("a") as lock:
        lock.write("# changed\n")
    assert installer.found("cpu", target) is None
    said.clear()
    installer.ensure("cpu", target, said.append)
    assert "Making the cpu engine" in said[0]


def test_the_plugins_code_counts_as_a_change(installer, engines):
    before = installer.digest("cpu")
    code = engines / "cpu" / "plugin" / "caravan_x" / "platform.py"
    code.parent.mkdir(parents=True)
    code.write_text("changed")
    assert installer.digest("cpu") != before


async def test_two_at_once_make_it_once(engines, tmp_path):
    target = str(tmp_path / "made")
    both = await asyncio.gather(*(command(engines, "cpu", target) for _ in range(2)))
    assert [status for status, _, _ in both] == [0, 0]
    assert {out for _, out, _ in both} == {f"{target}/bin/sglang\n"}
    assert sum("Making the cpu engine" in err for _, _, err in both) == 1


def test_a_failed_installation_shows_why_and_is_not_taken_for_one(installer, engines, said):
    lock = engines / "cpu" / "requirements.txt"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0")[:-2] + "\n")
    with pytest.raises(installer.InstallError, match=r"(?s)^uv pip install failed with .*[Hh]ash"):
        installer.ensure("cpu", say=said.append)
    assert installer.found("cpu") is None


def test_other_peoples_files_are_left_alone(installer, tmp_path, said):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(installer.InstallError, match="holds other things: name a new or empty"):
        installer.ensure("cpu", tmp_path / "mine", said.append)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_full_disk_is_told_before_anything_is_fetched(installer, monkeypatch, said):
    full = SimpleNamespace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(installer.InstallError, match=r"needs 6 GB of disk, .* has 1\.0 GB: free"):
        installer.ensure("cpu", say=said.append)
    assert said == []


def test_another_machine_is_told_so(installer, monkeypatch, said):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(installer.InstallError, match=r"for Linux on x86-64; this is Linux aarch64"):
        installer.ensure("cpu", say=said.append)


def test_without_uv_it_says_how_to_get_it(installer, monkeypatch, said):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(installer.InstallError, match="'python -m pip install uv'"):
        installer.ensure("cpu", say=said.append)


def test_an_unknown_kind_is_refused(installer):
    with pytest.raises(installer.InstallError, match="no engine 'tpu': choose cpu or cuda"):
        installer.ensure("tpu")


async def test_the_command_ends_with_3_and_one_sentence(engines, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    status, out, err = await command(engines, "cpu", str(tmp_path / "mine"))
    assert (status, out) == (3, "")
    assert err.splitlines() == [
        f"{tmp_path / 'mine'} holds other things: name a new or empty folder."
    ]


async def test_the_command_takes_the_cache_by_default(engines, installer):
    status, out, _ = await command(engines, "cpu")
    assert (status, out) == (0, f"{installer.place('cpu')}/bin/sglang\n")
    assert os.access(out.strip(), os.X_OK)
