"""Imports go one way, the core stays pure, and importing does nothing."""

import ast
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import spalloc_server
from spalloc_server.server import SpallocServer

# The way of a request from the command line down to the hardware. A piece is a folder,
# or a module in the root of the package, which is documented and stays where it is. It
# imports only from lines below its own; pieces of one line know nothing of each other.
LAYERS = """
    __main__
    server
    command_line
    admin web
    service history
    wire storage simulator
    observe
    controller
    control
    async_bmp_controller
    hardware model
    job_queue
    scheduling
    allocator
    pack_tree
    placement
    configuration+config
    area_to_rect coordinates polling_server_core
    links plain
"""

# What may know nothing of the world: no sockets, no threads, no waiting.
CORE = """
    links coordinates area_to_rect configuration pack_tree allocator job_queue
    placement scheduling model plain
    config.script config.checks config.changes config.spinner_csv config.standard_ips
    config.doubts
    hardware.requests hardware.schedule
    wire.framing wire.messages
    service.registry service.arguments service.replies service.job_texts
"""
OUTSIDE_WORLD = {
    *("socket", "select", "selectors", "socketserver", "threading", "_thread"),
    *("asyncio", "concurrent", "multiprocessing", "queue", "signal", "subprocess"),
}

PACKAGE = "spalloc_server"
FOLDER = Path(spalloc_server.__file__).parent


def _modules() -> list[str]:
    """Return the dotted name of every module of the package."""
    found = pkgutil.walk_packages([str(FOLDER)], f"{PACKAGE}.")
    return [PACKAGE, *sorted(module.name for module in found)]


def _imports(name: str) -> Iterator[str]:
    """Yield the dotted name of all that a module imports, anywhere in its text."""
    path = FOLDER.joinpath(*name.split(".")[1:])
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _piece(name: str) -> str:
    """Return the folder, or the module in the root, that a dotted name leads to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def _heights() -> dict[str, int]:
    heights: dict[str, int] = {}
    for height, line in enumerate(reversed(LAYERS.split("\n"))):
        for piece in line.split():
            heights |= dict.fromkeys(piece.split("+"), height)
    # What stands in __init__ (the version) is there for all.
    return heights | {"": -1, "__version__": -1}


def _together() -> set[frozenset[str]]:
    """Give the pieces that count as one: a door, and the folder on both its sides."""
    return {frozenset(piece.split("+")) for piece in LAYERS.split()}


def test_imports_go_one_way() -> None:
    heights, together = _heights(), _together()
    for name in _modules():
        piece = _piece(name)
        assert piece in heights, f"{name} has no place in LAYERS yet"
        for imported in _imports(name):
            other = _piece(imported)
            if imported.split(".")[0] != PACKAGE or other == piece:
                continue
            if any({piece, other} <= pieces for pieces in together):
                continue
            assert heights[other] < heights[piece], (
                f"{name} may not import {imported}: that is not below it"
            )


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = set(_modules())
    needs = {
        name: {
            found
            for imported in _imports(name)
            for found in (imported, imported.rpartition(".")[0])
            # A folder's __init__ is no more than its docstring, or its public face.
            if found in modules and found not in (name, PACKAGE)
        }
        for name in modules
    }
    assert list(TopologicalSorter(needs).static_order())


def test_layers_name_only_pieces_that_exist() -> None:
    named = {name for pieces in _together() for name in pieces}
    assert named == {_piece(name) for name in _modules()} - {""}


def _core_modules() -> list[str]:
    named = {f"{PACKAGE}.{name}" for name in CORE.split()}
    return [
        module
        for module in _modules()
        if module in named or module.rpartition(".")[0] in named
    ]


@pytest.mark.parametrize("module", _core_modules())
def test_core_knows_nothing_of_the_outside_world(module: str) -> None:
    roots = {imported.split(".")[0] for imported in _imports(module)}

    assert roots & OUTSIDE_WORLD == set()


# Prints every effect on the world of importing what it is told to, as the interpreter's
# own audit events tell it, and what is left over afterwards.
OBSERVER = """
import importlib, os, sys

WATCHED = {
    "socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork",
    "os.mkdir", "os.rename", "os.remove", "os.posix_spawn", "_thread.start_new_thread",
    "_thread.start_joinable_thread", "signal.pthread_kill",
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def observe(event, arguments):
    if event in WATCHED or (event == "open" and arguments[2] & WRITES):
        print(event, arguments[:2])

def descriptors():
    return set(os.listdir("/proc/self/fd"))

import logging, signal, threading
before = descriptors()
# The caller may ignore some, as nohup does.
handlers = {n: signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGTERM)}
sys.addaudithook(observe)
for name in sys.argv[1:]:
    importlib.import_module(name)
if descriptors() != before:
    print("descriptors", descriptors() ^ before)
if threading.enumerate() != [threading.main_thread()]:
    print("threads", threading.enumerate())
if logging.getLogger().handlers:
    print("log handlers", logging.getLogger().handlers)
for handled, handler in handlers.items():
    if signal.getsignal(handled) is not handler:
        print("handler of", handled)
"""


@pytest.mark.parametrize("everything", [False, True], ids=["package", "every module"])
def test_importing_has_no_side_effects(everything: bool, tmp_path: Path) -> None:
    modules = _modules() if everything else [PACKAGE]
    observed = subprocess.run(
        [sys.executable, "-c", OBSERVER, *modules],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(FOLDER.parent),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (observed.stdout, observed.stderr, observed.returncode) == ("", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; before = set(sys.modules); import spalloc_server; "
            "print(*sorted(set(sys.modules) - before))",
        ],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert loaded.stdout.split() == [PACKAGE]


def test_the_server_does_without_what_would_take_much_memory() -> None:
    """NumPy alone, which SpiNNMan's processes bring, takes a third of the server's."""
    source = "import sys, spalloc_server.server; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert "spinnman.connections" in loaded
    assert {"numpy", "aiohttp", "matplotlib"}.isdisjoint(loaded)
    # Only the process of simulated chips has those.
    assert "spalloc_server.simulator.chips" not in loaded


# What is for some servers only, and is read by those.
NOT_AT_EVERY_START = """
    simulator web history
    command_line.check command_line.probe command_line.query config.doubts
    config.watcher control.old_schemas
    storage.legacy storage.log_mending storage.old_layout storage.salvage
    storage.secret_file
"""
OF_OTHERS_NEITHER = {"_hashlib", "inotify_simple", "asyncio"}


def test_a_start_reads_nothing_that_is_for_some_servers_only(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text("configuration = Configuration(ip='127.0.0.1')\n")
    with SpallocServer(str(config), port=0):
        pass  # so that the next one finds its state
    with subprocess.Popen(
        [
            *(sys.executable, "-X", "importtime", "-m", PACKAGE),
            *(str(config), "--port", "0"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        log: list[str] = []
        while not log or "Listening" not in log[-1]:
            log.append(server.stderr.readline())
            assert log[-1], "the server has ended"
        server.terminate()
    assert any("Warm start" in line for line in log)
    read = {
        line.rpartition("|")[2].strip() for line in log if line.startswith("import t")
    }
    assert f"{PACKAGE}.controller" in read
    assert read & OF_OTHERS_NEITHER == set()
    for name in NOT_AT_EVERY_START.split():
        assert f"{PACKAGE}.{name}" not in read


def test_config_files_are_read_without_what_would_take_long() -> None:
    """Each is read in a process of its own, and somebody waits for that."""
    source = "import sys, spalloc_server.config.script_process; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert "spalloc_server.coordinates" in loaded
    assert {"spinn_machine", "spinnman", "sqlite3"}.isdisjoint(loaded)
