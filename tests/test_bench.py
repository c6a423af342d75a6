"""`nanollm bench`: its table, its files for other programs, what it measures."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from terminal import run

from nanollm import LimitError, _core
from nanollm.cli.bench import ModelFile, Runner, Workload, _span


def bench_json(*args: object) -> list[dict[str, Any]]:
    done = run("nanollm", "bench", *args, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_markdown_is_the_table_of_llama_bench(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 8, "-n", 4, "-r", 2, "-t", 1)
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert lines[0] == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert all(re.fullmatch("-+:?", cell) for cell in lines[1])
    assert [row[5] for row in lines[2:]] == ["pp8", "tg4"]
    for row in lines[2:]:
        assert row[:5] == ["llama 25K F32", "98.62 KiB", "0.03 M", f"CPU {_core.cpu_level()}", "1"]
        assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", row[6])
    assert len({len(line) for line in done.stdout.splitlines()}) == 1  # columns are aligned


def test_settings_that_are_not_the_default_have_a_column(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 8, "-n", 0, "-r", 1, "-b", "4,8", "-ctk", "f16,F32", "-ctv", "f32",
               "-tb", 1, "-C", "1", "--poll", 0, "--deterministic", "0,1")  # fmt: skip
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert lines[0][5:-2] == ["n_batch", "n_threads_batch", "cpu_mask", "poll", "type_k", "type_v", "deterministic"]
    assert [row[5:-2] for row in lines[2:]] == [
        [b, "1", "0x1", "0", k, "f32", d] for b in ("4", "8") for k in ("f16", "f32") for d in ("0", "1")
    ]


def test_every_combination_is_a_row(tiny: Path, chatty: Path) -> None:
    rows = bench_json("-m", tiny, "-m", chatty, "-p", "4,6", "-n", "2", "-pg", "3,2", "-d", "0,5", "-t", "1-2", "-r", 1)
    seen = [(Path(r["model_filename"]), r["n_threads"], r["n_depth"], r["n_prompt"], r["n_gen"]) for r in rows]
    tests = ((4, 0), (6, 0), (0, 2), (3, 2))
    assert seen == [(m, t, d, p, n) for m in (tiny, chatty) for t in (1, 2) for d in (0, 5) for p, n in tests]


def test_json_holds_samples_and_their_statistics(tiny: Path) -> None:
    (row,) = bench_json("-m", tiny, "-p", 12, "-n", 0, "-r", 5)
    assert len(row["samples_ns"]) == len(row["samples_ts"]) == 5
    for ns, speed in zip(row["samples_ns"], row["samples_ts"], strict=True):
        assert speed == pytest.approx(12e9 / ns)
    assert row["avg_ts"] == pytest.approx(statistics.fmean(row["samples_ts"]))
    assert row["stddev_ts"] == pytest.approx(statistics.stdev(row["samples_ts"]))
    assert row["median_ts"] == statistics.median(row["samples_ts"])
    assert row["avg_ns"] == pytest.approx(statistics.fmean(row["samples_ns"]), abs=1)
    assert row["cpu_level"] == _core.cpu_level()
    assert row["model_n_params"] > 25000


def test_json_lines_and_csv_say_the_same(tiny: Path) -> None:
    args = ("bench", "-m", tiny, "-p", 4, "-n", 2, "-pg", "4,2", "-r", 1)
    objects = [json.loads(line) for line in run("nanollm", *args, "-o", "jsonl").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(run("nanollm", *args, "-o", "csv").stdout)))
    assert len(rows) == len(objects) == 3
    for row, made in zip(rows, objects, strict=True):
        assert list(row) == [name for name in made if not name.startswith("samples")]
        for name in ("model_filename", "model_size", "n_batch", "n_prompt", "n_gen", "type_k"):
            assert row[name] == str(made[name])


def test_progress_goes_to_stderr(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 4, "-n", 0, "-r", 2, "--progress")
    assert [line.split(": ")[-1] for line in done.stderr.splitlines()] == ["warm-up", "run 1 of 2", "run 2 of 2"]
    assert "run" not in done.stdout


def test_a_run_is_what_the_test_says(tiny: Path) -> None:
    runner = Runner(ModelFile(str(tiny)), _core.limits_default(), Workload(20, 5, 10))
    assert (runner.limits.n_ctx, runner.limits.n_batch) == (35, 35)
    runner.fill()
    runner.warm_up()
    for _ in range(2):
        assert runner.run() > 0
        assert runner._session.n_past() == 35
    with pytest.raises(LimitError):
        runner._session.eval([1])


@pytest.mark.parametrize(
    ("word", "numbers"),
    [("7", [7]), ("1-4", [1, 2, 3, 4]), ("0-10+5", [0, 5, 10]), ("1-9*2", [1, 2, 4, 8]), ("3-3", [3])],
)
def test_ranges(word: str, numbers: list[int]) -> None:
    assert _span(word, 0, None) == numbers


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-p", "x"), "expected a number or a range"),
        (("-p", "4-1"), "expected 0 or more"),
        (("-t", "0-4*2"), "never ends"),
        (("-d", "1-4+0"), "never ends"),
        (("-b", "0"), "expected 1 or more"),
        (("-pg", "5"), "expected two numbers"),
        (("-pg", "0,0"), "expected two numbers"),
        (("-ctk", "q9"), "expected one of f32"),
        (("--deterministic", "2"), "expected 0 to 1"),
        (("-p", "0", "-n", "0"), "nothing to measure"),
        (("-d", "999999999", "-pg", "999999999,999999999"), "a context of 2999999997 tokens, expected at most"),
        (("-o", "xml"), "invalid choice"),
        (("-C", "0x3,z"), "expected a hexadecimal number"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Path, args: tuple[str, ...], message: str) -> None:
    done = run("nanollm", "bench", "-m", tiny, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_level_that_the_machine_lacks_is_told(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 4, "-n", 0, env=os.environ | {"NANOLLM_CPU": "nonesuch"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "NANOLLM_CPU: found nonesuch" in done.stderr


def test_files_are_opened_before_anything_is_measured(tiny: Path, tmp_path: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-m", tmp_path / "none", "-p", 4, "-n", 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none: No such file" in done.stderr


def test_an_error_leaves_what_was_measured(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 4, "-n", 0, "-r", 1, "-d", "0,900000000", "-o", "json")
    assert done.returncode == 1
    assert "does not fit" in done.stderr
    assert [row["n_depth"] for row in json.loads(done.stdout)] == [0]


def test_a_depth_beyond_memory_is_refused(tiny: Path) -> None:
    done = run("nanollm", "bench", "-m", tiny, "-p", 4, "-n", 0, "-d", 900_000_000)
    assert done.returncode == 1
    assert "does not fit" in done.stderr
