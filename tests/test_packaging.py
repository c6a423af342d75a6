"""What is installed is what should be: one binary for every Python, stubs, licence, commands, and no C sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import nanollm


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    found = metadata.distribution("nanollm")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable install has its files elsewhere")
    return found


def test_version_is_the_same_everywhere(distribution: metadata.Distribution) -> None:
    assert nanollm.__version__ == distribution.version == nanollm._core.version()


def test_the_wheel_serves_every_python_from_3_11(distribution: metadata.Distribution) -> None:
    assert "Tag: cp311-abi3-" in (distribution.read_text("WHEEL") or "")
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    assert Path(nanollm._core.__file__).name == "_core.abi3.so"


def test_the_wheel_holds_the_package_and_nothing_else(distribution: metadata.Distribution) -> None:
    files = [str(f) for f in distribution.files or [] if "__pycache__" not in str(f)]
    ours = [f for f in files if f.startswith("nanollm/")]
    assert {"nanollm/_core.abi3.so", "nanollm/_core.pyi", "nanollm/py.typed", "nanollm/data/default.gguf"} <= set(ours)
    assert {Path(f).suffix for f in ours} == {".py", ".pyi", ".so", ".typed", ".gguf"}
    others = [f for f in files if not f.startswith(("nanollm/", "nanollm-")) and "bin/" not in f]
    assert others == []
    assert any(f.endswith("licenses/LICENSE") for f in files)


def test_commands_start(distribution: metadata.Distribution) -> None:
    names = {e.name for e in distribution.entry_points if e.group == "console_scripts"}
    assert {"nanollm", "nanollm-cli"} <= names
    for name in names:
        program = Path(sys.executable).parent / name
        out = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, timeout=60)
        assert name in out.stdout


def test_importing_the_package_is_light() -> None:
    code = "import sys, nanollm; print(*sorted({'torch', 'transformers', 'jinja2', 'rich'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == []


def test_the_source_tree_says_that_it_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "nanollm").mkdir()
    shutil.copy(nanollm.__file__, tmp_path / "nanollm")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import nanollm"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "pip install ." in done.stderr
