"""Every documented name is in its place, with its documented signature."""

import ast
import enum
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.manual_api import COMMANDS, STUBS

# How a stub names the base of a class, and what the class then has to be. The fields of
# named tuples and the members of enumerations are compared in full.
BASES: dict[str, type] = {
    "Enum": enum.Enum,
    "IntEnum": enum.IntEnum,
    "Exception": Exception,
    "NamedTuple": tuple,
}

Entry = tuple[str, tuple[str, ...], ast.stmt]


def _entries() -> Iterator[Entry]:
    """Yield the module, the path of names and the stub of each documented thing."""
    for module, stub in STUBS.items():
        for node in ast.parse(stub).body:
            yield module, (_name(node),), node
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        yield module, (node.name, member.name), member


def _name(node: ast.stmt) -> str:
    """Return the name that a statement of a stub defines."""
    if isinstance(node, ast.Assign):
        (target,) = node.targets
        assert isinstance(target, ast.Name)
        return target.id
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    return node.name


def _evaluate(expression: ast.expr, module: ModuleType) -> object:
    """Return the value of an expression of a stub, in the scope of its module."""
    scope = vars(importlib.import_module("spalloc_server.links")) | vars(module)
    return eval(compile(ast.Expression(expression), "stub", "eval"), scope)


def _parameters(signature: inspect.Signature) -> list[tuple[str, str, object]]:
    """Return name, kind and default of each parameter."""
    return [(p.name, p.kind.name, p.default) for p in signature.parameters.values()]


def _documented(node: ast.FunctionDef, module: ModuleType) -> inspect.Signature:
    """Return the signature that a stub of a function has."""
    definition = ast.FunctionDef(**{**vars(node), "decorator_list": []})
    scope = vars(importlib.import_module("spalloc_server.links")) | vars(module)
    exec(compile(ast.Module([definition], type_ignores=[]), "stub", "exec"), scope)
    return inspect.signature(scope[node.name])


@pytest.mark.parametrize(
    ("module_name", "path", "node"),
    [pytest.param(*entry, id=".".join((entry[0], *entry[1]))) for entry in _entries()],
)
def test_documented_name(
    module_name: str, path: tuple[str, ...], node: ast.stmt
) -> None:
    module = importlib.import_module(module_name)
    holder: Any = module
    for name in path[:-1]:
        holder = getattr(holder, name)
    thing = inspect.getattr_static(holder, path[-1])
    if isinstance(node, ast.Assign):
        assert thing == _evaluate(node.value, module)
    elif isinstance(node, ast.ClassDef):
        _check_class(thing, node, module)
    else:
        assert isinstance(node, ast.FunctionDef)
        _check_function(thing, node, module)


def _check_class(thing: Any, node: ast.ClassDef, module: ModuleType) -> None:
    assert inspect.isclass(thing)
    for base in node.bases:
        assert isinstance(base, ast.Name)
        assert issubclass(thing, BASES.get(base.id) or getattr(module, base.id))
    fields = [
        member.target.id
        for member in node.body
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
    ]
    if fields:
        assert list(thing._fields) == fields  # type: ignore[attr-defined]
    members = {
        _name(member): _evaluate(member.value, module)
        for member in node.body
        if isinstance(member, ast.Assign)
    }
    if members:
        assert issubclass(thing, enum.Enum)
        assert {name: member.value for name, member in thing.__members__.items()} == (
            members
        )


def _check_function(thing: Any, node: ast.FunctionDef, module: ModuleType) -> None:
    decorators = [d.id for d in node.decorator_list if isinstance(d, ast.Name)]
    if "property" in decorators:
        assert isinstance(thing, property)
        return
    if "staticmethod" in decorators:
        assert isinstance(thing, staticmethod)
        thing = thing.__func__
    elif "classmethod" in decorators:
        assert isinstance(thing, classmethod)
        thing = thing.__func__
    elif node.name == "__new__":
        thing = thing.__func__ if isinstance(thing, staticmethod) else thing
    assert callable(thing)
    assert _parameters(inspect.signature(thing)) == _parameters(
        _documented(node, module)
    )


def test_commands_are_the_documented_ones() -> None:
    server = importlib.import_module("spalloc_server.server")

    ours = ["report_problem", "list_problems", "clear_problem"]
    ours += ["describe_job", "speak_for_others"]
    assert sorted(server._COMMANDS) == sorted([*COMMANDS, *ours])
    for name, function in server._COMMANDS.items():
        # An unbound method: what the class has, or a function that it wraps.
        assert inspect.unwrap(function) is inspect.unwrap(
            inspect.getattr_static(server.SpallocServer, name)
        )


@pytest.mark.parametrize(
    ("module_name", "class_name", "arguments", "attributes"),
    [
        (
            "controller",
            "Controller",
            (),
            "max_retired_jobs machines changed_jobs changed_machines "
            "on_background_state_change",
        ),
        (
            "controller",
            "_Job",
            (1, "me"),
            "id owner start_time keepalive keepalive_until state power args kwargs "
            "allocated_machine boards periphery torus width height connections "
            "bmp_requests_until_ready",
        ),
        (
            "job_queue",
            "_Job",
            (1,),
            "id pending machine_name tags args kwargs machine allocation_id",
        ),
        (
            "job_queue",
            "_Machine",
            ("m", {"default"}, None),
            "name tags allocator queue",
        ),
        (
            "allocator",
            "_CandidateFilter",
            (1, 1, set(), set(), None, None, False),
            "boards periphery torus",
        ),
    ],
)
def test_documented_attributes(
    module_name: str, class_name: str, arguments: tuple[Any, ...], attributes: str
) -> None:
    module = importlib.import_module(f"spalloc_server.{module_name}")
    instance = getattr(module, class_name)(*arguments)

    missing = [name for name in attributes.split() if not hasattr(instance, name)]

    assert missing == []
    if class_name == "Controller":
        instance.stop()
        instance.join()


def test_wrap_around_can_be_used_as_a_bool_and_as_bits() -> None:
    wrap_around = importlib.import_module("spalloc_server.coordinates").WrapAround

    assert [bool(wrap) for wrap in wrap_around] == [False, True, True, True]
    assert bool(wrap_around.both & wrap_around.x)
    assert bool(wrap_around.both & wrap_around.y)
    assert bool(wrap_around.x & wrap_around.x)
    assert not bool(wrap_around.x & wrap_around.y)
