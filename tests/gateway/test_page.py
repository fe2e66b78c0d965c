"""What the page on the gateway says is so."""

import re
from pathlib import Path

from spalloc_server_gateway.options import make_parser

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
