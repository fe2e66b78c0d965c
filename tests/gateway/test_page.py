"""What the page on the gateway says is so."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spalloc_server_gateway.options import make_parser
from tests.gateway.support import Place
from tests.support import TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gateway.rst").read_text(encoding="utf-8")


def test_the_page_tells_every_option() -> None:
    options = {
        option
        for action in make_parser()._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    terms = " ".join(re.findall(r"(?m)^``--.*$", PAGE))
    assert options == set(re.findall(r"--[a-z-]+", terms))


def test_commands_have_only_options_that_there_are() -> None:
    units = (ROOT / "contrib" / "spalloc-server-gateway.service").read_text()
    (line,) = re.findall("ExecStart=.*", units)
    options = make_parser().parse_args(line.split()[1:])
    assert options.users == "/etc/spalloc/users"
    assert not options.open


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
def test_the_units_are_right_and_expose_little(tmp_path: Path) -> None:
    # It looks for the program, which is not installed there.
    program = tmp_path / "spalloc_server_gateway"
    program.touch(0o755)
    names = ["spalloc-server-gateway.service", "spalloc-server-gateway.socket"]
    for name in names:
        text = (ROOT / "contrib" / name).read_text()
        text = text.replace("/opt/spalloc/bin/spalloc_server_gateway", str(program))
        (tmp_path / name).write_text(text)
    assert str(program) in (tmp_path / names[0]).read_text()
    for name in names:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        # It also looks at the units of this machine, which are none of our business.
        complaints = [
            line
            for line in done.stderr.splitlines()
            if "spalloc-server-gateway" in line
        ]
        assert complaints == []
    exposure = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=yes", "--no-pager"),
            str(tmp_path / names[0]),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    level = re.search(r"exposure level for \S+: ([0-9.]+)", exposure.stdout)
    assert level is not None, exposure.stderr
    assert float(level[1]) < 3.0


def test_the_units_go_together() -> None:
    service, socket = (
        (ROOT / "contrib" / f"spalloc-server-gateway.{kind}").read_text()
        for kind in ("service", "socket")
    )
    assert "Requires=spalloc-server-gateway.socket" in service
    assert "Type=notify" in service
    # What is open while the gateway restarts.
    assert "Accept=yes" not in socket


def test_every_metric_is_described_as_what_it_is(place: Place) -> None:
    text = place.get("metrics").text
    kinds = dict(re.findall(r"# TYPE spalloc_gateway_(\w+) (\w+)", text))
    assert {name for name, kind in kinds.items() if kind == "gauge"} <= {
        *("server_up", "proxies", "channels", "requests_under_way"),
        *("requests_created", "request_seconds_created"),
    }
    for name, kind in kinds.items():
        assert (kind == "counter") == name.endswith("_total"), name
    assert kinds["packets_to_boards_total"] == "counter"
    assert kinds["failed_logins_total"] == "counter"
