"""An engine of two kilobytes: the real installer, a wheel made here, no network."""

import hashlib
import importlib.util
import shutil
import zipfile

import pytest

from engines import install

INFO = "tiny_engine-1.dist-info"
FILES = {
    "tiny_engine.py": "def main():\n    print('tiny')\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: tiny-engine\nVersion: 1\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nsglang = tiny_engine:main\n",
}


def wheel(path):
    """Write the wheel and return its hash."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        archive.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in FILES))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def engines(tmp_path):
    """A copy of engines/ whose kind ``cpu`` asks for the tiny engine only."""
    folder = tmp_path / "engines"
    (folder / "cpu").mkdir(parents=True)
    shutil.copy(install.__file__, folder / "install.py")
    path = tmp_path / "tiny_engine-1-py3-none-any.whl"
    line = f"tiny-engine @ {path.as_uri()} --hash=sha256:{wheel(path)}\n"
    (folder / "cpu" / "requirements.txt").write_text(line)
    return folder


@pytest.fixture
def installer(engines, monkeypatch, tmp_path):
    """engines/install.py of that copy, as a module."""
    monkeypatch.setenv("CARAVAN_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("tiny_install", engines / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def said():
    """Lines of progress: give ``said.append`` as ``say``."""
    return []
