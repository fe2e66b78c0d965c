"""The benchmarks run, and what they write can be read again. No timing is asserted."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import before, churn_script, core, results
from benchmarks.__main__ import GROUPS, main
from benchmarks.profiling import profile
from benchmarks.queue_events import measure
from benchmarks.results import Row
from tests.support import TIMEOUT

FOLDER = Path(__file__).resolve().parent.parent

ROWS = [
    Row("Allocation", "fill", "300 boards", "us", 30.0, 3.0),
    Row("Commands", "calls a second", "16 clients", "1/s", 20.0, 50.0, 100.0, True),
    Row("Scale", "memory", "1,200 boards", "MiB", None, 1234.5),
]


def run(*options: str | Path, timeout: float = 5 * TIMEOUT) -> str:
    """Run the benchmarks' command line; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout,
    )
    return done.stdout


LIMITED = {"commands": {"job_keepalive", "get_job_state"}}
"""Of each group, what is compared with a limit."""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(6 * TIMEOUT)
@pytest.mark.parametrize("group", GROUPS)
def test_the_short_form_measures_everything(tmp_path: Path, group: str) -> None:
    # Making the reference's environment needs the network; it is measured where there
    # is one.
    with_reference = "SPALLOC_REFERENCE_PYTHON" in os.environ
    options = [] if with_reference else ["--no-reference"]
    options += ["--only", group]
    printed = run("--short", "--no-plot", "--output", tmp_path, *options)
    rows = results.read_csv(tmp_path / "results.csv")
    assert {row.group for row in rows} == {GROUPS[group].GROUP}
    for row in rows:
        assert row.ours >= 0
        assert row.what in printed
        if not with_reference:
            assert row.reference is None
    limits = {row.what.split(":")[0] for row in rows if row.limit is not None}
    assert limits >= LIMITED.get(group, set())


def test_all_groups_are_measured_unless_some_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only(row: Row) -> SimpleNamespace:
        return SimpleNamespace(GROUP=row.group, measure=lambda *_: [row])

    for name, module in GROUPS.items():
        row = Row(module.GROUP, "fill", name, "us", None, 3.0)
        monkeypatch.setitem(GROUPS, name, only(row))
    options = ["--short", "--no-plot", "--no-reference", "--output", str(tmp_path)]
    for more, measured in (([], list(GROUPS)), (["--only", "scale"], ["scale"])):
        file = tmp_path / "results.csv"
        file.unlink(missing_ok=True)
        assert main([*options, *more]) == 0
        assert [row.size for row in results.read_csv(file)] == measured


@pytest.mark.slow
def test_waits_are_measured_in_virtual_time(tmp_path: Path) -> None:
    options = ("--short", "--no-plot", "--no-reference", "--output")
    printed = run("scheduling", *options, tmp_path)
    rows = results.read_csv(tmp_path / "scheduling.csv")
    waits = {row.size: row.ours for row in rows if row.what == "mean wait"}
    assert waits.keys() >= {"load 0.3", "1 boards, load 0.3", "load 0.3, seed 1"}
    assert all(wait >= 0 for wait in waits.values())
    assert "boards in use while anybody waits" in printed
    again = run("scheduling", "--redraw", "--no-plot", "--output", tmp_path)
    assert again == printed
    tables = (tmp_path / "scheduling.inc").read_text(encoding="utf-8")
    assert ".. list-table:: All jobs" in tables


def test_events_and_churn_are_measured() -> None:
    found = measure(side=4, different=20, waiting=50, events=40)
    assert 0 < found.median <= found.most <= found.longest
    assert churn_script.churn(6, 200, seed=1) > 0


@pytest.mark.slow
def test_a_profile_names_the_functions_of_the_loop() -> None:
    table = profile("get_job_state", clients=2, seconds=0.2, lines=60)
    assert table.split(maxsplit=5)[1:5] == ["calls", "of", "get_job_state", "by"]
    assert "spalloc_server/server.py" in table
    assert "(take_turns)" in table
    assert "{method 'send' of '_socket.socket' objects}" in table


def beside_earlier(*figures: tuple[float, float], more_is_better: bool) -> float:
    """How many times worse a row is now, of the figures of rounds: before and now."""
    rows = [Row("Scale", "x", "", "s", *f, None, more_is_better) for f in figures]
    (found,) = before.compared([*rows, ROWS[-1]])
    return found.times


def test_the_best_of_each_tree_is_compared() -> None:
    assert beside_earlier((2.0, 9.0), (8.0, 3.0), more_is_better=False) == 1.5
    assert beside_earlier((2.0, 9.0), (8.0, 3.0), more_is_better=True) == 8 / 9
    assert beside_earlier((0.0, 0.0), more_is_better=False) == 1.0
    assert beside_earlier((0.0, 1.0), more_is_better=False) == float("inf")


def test_what_is_slower_than_in_an_earlier_tree_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # This tree stands for the earlier one; what is measured is cut to one short row.
    monkeypatch.setattr(core, "SIDES", (4,))
    options = [str(FOLDER), "--only", "core", "--short", "--rounds", "1"]
    assert before.main([*options, "--percent", "1e9"]) == 0
    assert "0 of 6 more than 1e+09 % worse" in capsys.readouterr().out
    assert before.main([*options, "--percent", "-100"]) == 1
    printed = capsys.readouterr().out
    assert "6 of 6 more than -100 % worse" in printed
    assert "  regenerate that queue of 300 jobs, 48 boards: " in printed


def test_a_folder_without_a_tree_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        before.main([str(tmp_path)])
    assert f"{tmp_path} has no spalloc_server in it" in capsys.readouterr().err


def test_ratios_say_how_many_times_better_ours_is() -> None:
    assert [row.ratio for row in ROWS] == [10.0, 2.5, None]


def test_results_can_be_read_again(tmp_path: Path) -> None:
    results.write_csv(ROWS, tmp_path / "results.csv")
    assert results.read_csv(tmp_path / "results.csv") == ROWS


def test_results_are_drawn_again_without_measuring(tmp_path: Path) -> None:
    results.write_csv(ROWS, tmp_path / "results.csv")
    printed = run("--redraw", "--no-plot", "--output", tmp_path)
    last = printed.rstrip().splitlines()[-1]
    assert last.split() == ["memory", "1,200", "boards", "MiB", "–", "1,234", "–", "–"]  # noqa: RUF001
    tables = (tmp_path / "tables.inc").read_text(encoding="utf-8")
    assert tables.count(".. list-table::") == 3
    assert "     - 2.5\n" in tables
