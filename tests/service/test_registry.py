from collections.abc import Iterator
from typing import Any

import pytest

from spalloc_server.model.changes import Change, DestroyJob
from spalloc_server.service import registry
from spalloc_server.service.registry import (
    _COMMANDS,
    UnknownCommandError,
    call,
    changes,
    find,
    reads,
    spalloc_command,
)
from spalloc_server.wire.messages import Command


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_COMMANDS", {})
    monkeypatch.setattr(registry, "_SPECS", {})
    yield
    assert "add" not in _COMMANDS


class Server:
    def __init__(self) -> None:
        @spalloc_command
        @reads
        def add(server: Server, client: str, a: int, b: int = 1) -> tuple[str, int]:
            assert server is self
            return client, a + b

        @spalloc_command
        @reads
        def options(server: Server, client: str, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        @spalloc_command
        @reads
        def fail(server: Server, client: str) -> None:
            raise KeyError("oops")

        @spalloc_command
        @changes
        def destroy(server: Server, client: str, job_id: int) -> DestroyJob:
            """End a job."""
            return DestroyJob(client, job_id, None)

        self.made: list[Change] = []

    def make_change(self, change: Change) -> str:
        self.made.append(change)
        return "made"

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return call(find(name).method, self, "me", Command(name, list(args), kwargs))


def test_commands_are_called_with_the_client() -> None:
    assert Server().call("add", 1) == ("me", 2)
    assert Server().call("add", 1, b=5) == ("me", 6)
    assert Server().call("options", 1, x=2) == ((1,), {"x": 2})


def test_the_client_cannot_be_given() -> None:
    assert Server().call("add", 1, client="you") == ("me", 2)
    assert Server().call("options", client="you") == ((), {})


@pytest.mark.parametrize("name", ["sub", "", "__init__", "call"])
def test_only_what_is_decorated_can_be_called(name: str) -> None:
    with pytest.raises(UnknownCommandError, match=f"unknown command {name!r}") as e:
        Server().call(name)
    assert isinstance(e.value, IOError)


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "add: missing a required argument: 'a'"),
        ((1, 2, 3), {}, "add: too many positional arguments"),
        ((1,), {"c": 1}, "add: got an unexpected keyword argument 'c'"),
        ((1,), {"a": 1}, "add: multiple values for argument 'a'"),
        ((1,), {"server": 1}, "add: got an unexpected keyword argument 'server'"),
    ],
)
def test_arguments_that_do_not_fit(
    args: tuple[int, ...], kwargs: dict[str, int], problem: str
) -> None:
    with pytest.raises(TypeError) as e:
        Server().call("add", *args, **kwargs)
    assert str(e.value) == problem


def test_the_name_of_the_server_cannot_be_given_to_a_command_with_any_keywords() -> (
    None
):
    with pytest.raises(TypeError, match="multiple values"):
        Server().call("options", server=3)


def test_what_a_command_raises_is_passed_on() -> None:
    with pytest.raises(KeyError, match="oops"):
        Server().call("fail")


def test_what_changes_something_is_checked_without_being_done() -> None:
    server = Server()
    check = find("destroy").check
    assert check is not None
    assert check(server, "me", 7) == DestroyJob("me", 7, None)
    assert server.made == []
    assert find("add").check is None


def test_a_command_that_changes_something_can_be_called_like_any_other() -> None:
    server = Server()
    assert server.call("destroy", 7) == "made"
    assert server.made == [DestroyJob("me", 7, None)]
    with pytest.raises(TypeError, match="destroy: too many positional arguments"):
        server.call("destroy", 7, 8)


def test_a_command_has_to_be_declared() -> None:
    def undeclared(server: Server, client: str) -> None:
        """Do I change anything?"""

    with pytest.raises(TypeError, match="command undeclared has to be declared with"):
        spalloc_command(undeclared)
    assert "undeclared" not in registry._COMMANDS
