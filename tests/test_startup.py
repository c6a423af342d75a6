"""What starting costs: nothing is imported that a run does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Each takes longer to import than all of a short run's own modules together, or nearly.
HEAVY = ("numpy", "jinja2", "rich", "asyncio", "json", "hashlib", "urllib.request", "unittest", "multiprocessing")


def imported(code: str, *args: object) -> set[str]:
    """The modules that a fresh process has after running `code`."""
    tail = "\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + tail, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "args",
    [
        ("-p", "the end", "-n", "3"),
        ("-p", "the end", "-n", "3", "-s", "1", "--mirostat", "2", "-l", "270+1"),
        ("-p", "a a a a", "-n", "20", "--temp", "0", "--lookup", "7"),
    ],
)
def test_a_run_imports_nothing_heavy(tiny: Path, args: tuple[str, ...]) -> None:
    modules = imported("import sys; from nanollm.cli.generate import main; assert main(sys.argv[1:]) == 0", "-m", tiny,
                       *args)  # fmt: skip
    assert "nanollm._core" in modules
    assert not modules.intersection(HEAVY)


def test_a_measurement_imports_no_numpy(tiny: Path) -> None:
    code = "import sys; from nanollm.cli.bench import main; assert main(sys.argv[1:]) == 0"
    modules = imported(code, "-m", tiny, "-p", 4, "-n", 2, "-r", 1)
    assert not modules.intersection(("numpy", "jinja2", "rich"))


def test_the_library_imports_nothing_heavy_before_it_is_needed(tiny: Path) -> None:
    code = "import sys, nanollm; model = nanollm.Model(sys.argv[1]); model.generate('the', max_tokens=2).text"
    assert not imported(code, tiny).intersection(HEAVY)
    assert "numpy" in imported(code + "; model.logits([1])", tiny)
