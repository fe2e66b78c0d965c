"""Manual pages and completion are as the parsers are, and work; the dashboard too."""

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONTRIB = Path(__file__).resolve().parent.parent / "contrib"
GENERATOR: dict[str, Any] = runpy.run_path(str(CONTRIB / "generate.py"))
PARSERS: list[argparse.ArgumentParser] = GENERATOR["parsers"]()


def options(parser: argparse.ArgumentParser) -> list[str]:
    return [
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]


# argparse words some things differently from release to release.
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="made with Python 3.11")
def test_files_are_as_they_are_made_now() -> None:
    for name, contents in GENERATOR["files"]().items():
        committed = (CONTRIB / name).read_text(encoding="utf-8")
        assert committed == contents, "run python contrib/generate.py"


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_option_is_in_every_file(parser: argparse.ArgumentParser) -> None:
    name = parser.prog
    page = (CONTRIB / "man" / f"{name}.1").read_text().replace("\\-", "-")
    bash = (CONTRIB / "completion" / "bash" / name).read_text()
    zsh = (CONTRIB / "completion" / "zsh" / f"_{name}").read_text()
    for option in options(parser):
        # That of help is left to the page's other words.
        assert option in page or option == "--help"
        assert option in bash
        assert option in zsh


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_manual_pages_can_be_shown(parser: argparse.ArgumentParser) -> None:
    shown = subprocess.run(
        ["man", "--warnings", "-l", str(CONTRIB / "man" / f"{parser.prog}.1")],
        env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    for word in ("NAME", "SYNOPSIS", "EXIT STATUS", options(parser)[-1]):
        assert word in shown.stdout


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_"$1" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["spalloc_server", "--st"], ["--state-dir"]),
        (["spalloc_server", "--log-format", ""], ["text", "json"]),
        (["spalloc_server", "--http"], ["--http", "--http-address", "--http-host"]),
        (["spalloc_server_usage", "--c"], ["--csv"]),
        (["spalloc_server_admin", "--st"], ["--state-dir"]),
        (["spalloc_server_admin", "re"], ["resume", "reload"]),
        (["spalloc_server_admin", "drain", "m", "--f"], ["--frame"]),
        (["spalloc_server_admin", "jobs", "--state", "q"], ["queued"]),
        (["spalloc_server_gateway", "--add"], ["--add-user"]),
    ],
)
def test_bash_completes(words: list[str], expected: list[str]) -> None:
    script = CONTRIB / "completion" / "bash" / words[0]
    completed = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(script), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.split() == expected


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    text = (CONTRIB / "grafana-dashboard.json").read_text()
    dashboard = json.loads(text)
    assert dashboard["title"]
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]
    asked = set(re.findall(r"\bspalloc_\w+", " ".join(queries)))
    source = (CONTRIB.parent / "spalloc_server" / "web" / "metrics.py").read_text()
    served = set(re.findall(r'"(spalloc_\w+)"', source))
    for name in asked:
        assert re.sub(r"_(total|bucket|sum|count)$", "", name) in served, name
    # Each but that of the version is looked at.
    for name in served - {"spalloc_server"}:
        assert any(query.startswith(name) for query in asked), name
