"""Make the manual pages and the shell completion from the parsers of the commands.

    python contrib/generate.py

writes them beside this file; they are committed, and installed with the package. A
test holds them to what the parsers are.
"""

import argparse
import re
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from spalloc_server import __version__
from spalloc_server.command_line import admin_options, options, usage_report
from spalloc_server_gateway import options as gateway_options

FOLDER = Path(__file__).resolve().parent

EXIT_STATUS = {
    "spalloc_server": "0 after a stop by SIGINT or SIGTERM, or where --check finds a "
    "config file that the server would take. 1 where the server could not start or "
    "ended by an error, or where it would refuse the config file. 2 for wrong "
    "arguments.",
    "spalloc_server_admin": "0 where it was done. 1 where it could not be, because no "
    "server is running there, or there is no such machine, board or job; one line says "
    "why. 2 for wrong arguments.",
    "spalloc_server_gateway": "0 after a stop by SIGINT or SIGTERM, or where "
    "--add-user has written the file of users. 1 where it could not start, or write "
    "that file. 2 for wrong arguments.",
    "spalloc_server_usage": "0 for a report, 1 for a file that cannot be used, 2 for "
    "wrong arguments.",
}
SIGNALS = (
    "SIGHUP makes the server read its config file again; SIGINT and SIGTERM stop it in "
    "good order, and boards in use stay on."
)


FILES = {
    *("config", "job_log", "files", "plot", "gateway_secret"),
    *("secret", "cert", "key", "users"),
}


def parsers() -> list[argparse.ArgumentParser]:
    """The parser of each command, with what completion needs to know."""
    made = [
        options.make_parser(),
        admin_options.make_parser(),
        gateway_options.make_parser(),
        usage_report.make_parser(),
    ]
    for parser in made:
        for action in parser._actions:
            if action.dest in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.dest == "state_dir":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return made


def manual_page(parser: argparse.ArgumentParser) -> str:
    """The manual page of a command, in roff."""
    page = Manpage(
        parser,
        _data={
            "project_name": "spalloc_server",
            "version": __version__,
            "manual_section": "1",
            "manual_title": "SpiNNaker partitioning server",
            "description": f"{parser.description}".rstrip("."),
        },
    )
    # Whenever it is made, it is the same.
    text = re.sub(r'(?m)^(\.TH \S+ "1") "[^"]*"', r'\1 ""', str(page))
    extra = f".SH EXIT STATUS\n{EXIT_STATUS[parser.prog]}\n"
    if parser.prog == "spalloc_server":
        extra += f".SH SIGNALS\n{SIGNALS}\n"
    return f"{text.rstrip()}\n\n{extra}"


def files() -> dict[str, str]:
    """The contents of each file, by its name in this folder."""
    made = {}
    for parser in parsers():
        name = parser.prog
        made[f"man/{name}.1"] = manual_page(parser)
        for shell, file in (("bash", name), ("zsh", f"_{name}")):
            script = shtab.complete(parser, shell=shell)
            made[f"completion/{shell}/{file}"] = script.rstrip() + "\n"
    return made


def main() -> None:
    """Write the files."""
    for name, contents in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents, encoding="utf-8")


if __name__ == "__main__":
    main()
