"""Config files: what is in their scope, and one clear line for all that goes wrong."""

import os
import re
import sys
from pathlib import Path

import pytest

from spalloc_server.config.script import (
    ConfigFileError,
    load_config_file,
    parse_config,
    validate_config,
)
from spalloc_server.configuration import Configuration, Machine
from spalloc_server.links import Links

CHIPS = "cabinet,frame,board,x,y\n0,0,0,0,0\n0,0,2,4,8\n0,0,1,8,4\n"

LARGE = """
m = Machine.with_standard_ips(
    "m", board_locations=board_locations_from_spinner("chips.csv")
)
configuration = Configuration(machines=[m])
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give the name of a config file that is not there yet."""
    return tmp_path / "server.cfg"


def error_of(path: Path) -> str:
    """Load a config file and give the message of its error, without the folder."""
    with pytest.raises(ConfigFileError) as caught:
        load_config_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}:")
    return message[len(str(path.parent)) + 1 :]


def test_least_config_file(config: Path) -> None:
    config.write_text("configuration = Configuration()")

    assert load_config_file(str(config)) == Configuration()


def test_documented_names_are_in_scope(config: Path) -> None:
    config.write_text(
        """
m = Machine.single_board("m", bmp_ip="bmp", spinnaker_ip="chip")
m = m._replace(dead_links={(*chip_to_board(0, 0, 12, 12), Links.north)})
assert board_to_chip(0, 0, 1) == (8, 4)
assert board_down_link(0, 0, 0, Links.north, 1, 1) == (0, 0, 2, WrapAround.none)
assert link_to_vector[0, Links.north] == (0, 0, 2)
assert triad_dimensions_to_chips(1, 1, WrapAround.both) == (12, 12)
configuration = Configuration(machines=[m], port=1)
"""
    )

    configuration = load_config_file(config)

    assert configuration.port == 1
    assert configuration.machines[0].dead_links == {(0, 0, 0, Links.north)}


def test_functions_of_a_script_see_its_variables(config: Path) -> None:
    config.write_text(
        "port = 5\ndef f(): return port\nconfiguration = Configuration(port=f())"
    )

    assert load_config_file(config).port == 5


def test_last_configuration_counts(config: Path) -> None:
    """The documented way of shutting all machines down is to append a line."""
    config.write_text(
        "m = Machine.single_board('m', bmp_ip='bmp', spinnaker_ip='chip')\n"
        "configuration = Configuration(machines=[m])\n"
        "configuration = Configuration()\n"
    )

    assert load_config_file(config).machines == []


def test_scripts_know_their_file_and_leave_no_trace(config: Path) -> None:
    before = list(sys.path)
    config.write_text(
        "configuration = Configuration(machines=[Machine.single_board("
        "__file__, bmp_ip='bmp', spinnaker_ip='chip')])\nMachine = None"
    )

    assert load_config_file(config).machines[0].name == str(config)
    assert sys.path == before
    config.write_text("assert Machine\nconfiguration = Configuration()")
    assert load_config_file(config) == Configuration()


def test_description_beside_the_config_file(
    config: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The folder of the config file is searched before the working directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    config.write_text(LARGE)

    assert re.match(
        r"server\.cfg:3: FileNotFoundError: .*'chips\.csv'$", error_of(config)
    )
    elsewhere.joinpath("chips.csv").write_text(CHIPS.replace("0,0,1,", "3,3,3,"))
    (machine,) = load_config_file(config).machines
    assert machine.board_locations[0, 0, 1] == (3, 3, 3)
    config.with_name("chips.csv").write_text(CHIPS)
    (machine,) = load_config_file(config).machines
    assert machine.board_locations[0, 0, 1] == (0, 0, 1)


def test_description_beside_a_config_file_given_by_relative_name(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(LARGE)
    config.with_name("chips.csv").write_text(CHIPS)

    monkeypatch.chdir(config.parent)
    assert len(load_config_file("server.cfg").machines) == 1
    monkeypatch.chdir(config.parent.parent)
    relative = os.path.join(config.parent.name, "server.cfg")
    assert len(load_config_file(relative).machines) == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("x = 1\n\nx = = 2\n", "server.cfg:3: invalid syntax"),
        ("x = 1\n  y = 2\n", "server.cfg:2: unexpected indent"),
        ("f(\n", "server.cfg:1: '(' was never closed"),
        ("x = 1\n1 / 0\n", "server.cfg:2: ZeroDivisionError: division by zero"),
        ("\nraise KeyError('here')\n", "server.cfg:2: KeyError: 'here'"),
        ("\nraise KeyboardError\n", "server.cfg:2: NameError: "),
        ("assert False\n", "server.cfg:1: AssertionError"),
        ("raise OSError('one\\n  two')\n", "server.cfg:1: OSError: one two"),
        ("def f():\n    1 / 0\n\nf()\n", "server.cfg:2: ZeroDivisionError: "),
        ("def f():\n    f()\n\nf()\n", "server.cfg:2: RecursionError: "),
        ("x = 1\nraise SystemExit(3)\n", "server.cfg:2: SystemExit: 3"),
        ("import sys\n\nsys.exit()\n", "server.cfg:3: SystemExit"),
        ("exec('1 +')\n", "server.cfg:1: SyntaxError: invalid syntax "),
        (
            "m = Machine(\n    name='m',\n    tags='abc',\n)\n",
            "server.cfg:1: TypeError: machine 'm': tags should be a set of strings, "
            "not 'abc'",
        ),
        ("", "server.cfg: does not define the variable 'configuration'"),
        (
            "configuration = {'machines': []}\n",
            "server.cfg: 'configuration' should be a Configuration, not "
            "{'machines': []}",
        ),
        (
            "configuration = Configuration\n",
            "server.cfg: 'configuration' should be a Configuration, not <class ",
        ),
        (
            "m = Machine.single_board('m', bmp_ip='bmp', spinnaker_ip='chip')\n"
            "configuration = Configuration([m])\n"
            "configuration.machines.append(m)\n",
            "server.cfg: two machines are called 'm'",
        ),
        (
            "m = Machine.single_board('m', bmp_ip='bmp', spinnaker_ip='chip')\n"
            "configuration = Configuration([m])\n"
            "m.bmp_ips.clear()\n",
            "server.cfg: machine 'm': bmp_ips is without (cabinet, frame) (0, 0)",
        ),
        (
            "configuration = Configuration()\nconfiguration.machines.append('m')\n",
            "server.cfg: machines should be a list of Machine, not of 'm'",
        ),
    ],
)
def test_config_files_refused(config: Path, script: str, message: str) -> None:
    config.write_text(script)

    assert error_of(config).startswith(message)


def test_null_character(config: Path) -> None:
    config.write_bytes(b"x = 1\0\n")

    # Python 3.12 made it a SyntaxError.
    assert re.match(r"server\.cfg:.*source code.*null bytes", error_of(config))


def test_brackets_nested_too_deeply(config: Path) -> None:
    config.write_text("x = " + "(" * 10_000 + ")" * 10_000)

    assert re.match(r"server\.cfg:.*(nested|Memory|Recursion)", error_of(config))


def test_exception_in_an_imported_file_is_blamed_on_the_line_that_imports(
    config: Path,
) -> None:
    other = config.with_name("other.py")
    other.write_text("\n\n\n\n\n1 / 0\n")
    config.write_text(f"import runpy\nrunpy.run_path({str(other)!r})\n")

    assert error_of(config) == "server.cfg:2: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "BaseException"]
)
def test_no_exception_of_a_script_gets_out(config: Path, name: str) -> None:
    config.write_text(f"raise {name}")

    assert error_of(config) == f"server.cfg:1: {name}"


def test_what_cannot_be_written_is_named_all_the_same(config: Path) -> None:
    config.write_text(
        "class Odd(Exception):\n    def __repr__(self): 1 / 0\n    __str__ = __repr__\n"
        "configuration = Odd()\n"
    )
    assert error_of(config).endswith("should be a Configuration, not a Odd")
    config.write_text(config.read_text() + "raise configuration\n")
    assert error_of(config) == "server.cfg:5: Odd"


def test_files_that_cannot_be_read(config: Path) -> None:
    assert error_of(config) == "server.cfg: cannot be read: No such file or directory"
    config.mkdir()
    assert error_of(config) == "server.cfg: cannot be read: Is a directory"
    with pytest.raises(ConfigFileError, match="cannot be read: embedded null byte"):
        load_config_file("a\0b")


def test_files_not_in_utf8(config: Path) -> None:
    config.write_bytes(b"# Maschine\n\n# Kabinett f\xfcr alle\n")

    assert error_of(config) == "server.cfg:3: not a text in UTF-8"


def test_byte_order_mark_and_line_ends_of_other_systems(config: Path) -> None:
    config.write_bytes(
        b"\xef\xbb\xbfx = 'caf\xc3\xa9'\r\nconfiguration = Configuration(ip=x)"
    )

    assert load_config_file(config).ip == "caf\u00e9"


def test_error_tells_its_parts(config: Path) -> None:
    config.write_text("x = 1\n1 / 0\n")

    with pytest.raises(ConfigFileError) as caught:
        load_config_file(config)

    assert caught.value.filename == str(config)
    assert caught.value.line == 2
    assert caught.value.reason == "ZeroDivisionError: division by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_parsing_and_validating_are_two_steps() -> None:
    parsed = parse_config("configuration = 5", "nowhere/server.cfg")

    assert parsed["configuration"] == 5
    with pytest.raises(ConfigFileError, match=r"^nowhere/server\.cfg: 'configuration'"):
        validate_config(parsed)


def test_validated_configuration_is_a_copy() -> None:
    parsed = parse_config(
        "m = Machine.single_board('m', bmp_ip='bmp', spinnaker_ip='chip')\n"
        "configuration = Configuration([m])\n"
    )
    configuration = validate_config(parsed)

    assert configuration == parsed["configuration"]
    parsed["configuration"].machines.clear()
    parsed["m"].bmp_ips.clear()
    assert configuration.machines == [
        Machine.single_board("m", bmp_ip="bmp", spinnaker_ip="chip")
    ]
