import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.service.arguments import (
    _CREATE_JOB_KEYWORDS,
    check_coordinates,
    check_create_job,
    check_integer,
    check_job_id,
    check_machine_name,
    check_reason,
    check_where_is,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NOT_INTEGERS: list[Any] = [None, True, 1.0, "1", [1], {}, math.nan]


@pytest.mark.parametrize("value", NOT_INTEGERS)
def test_integers_are_integers(value: Any) -> None:
    with pytest.raises(TypeError, match="job_id must be an integer, not"):
        check_job_id(value)
    with pytest.raises(TypeError, match="y must be an integer, not"):
        check_coordinates(x=0, y=value)
    with pytest.raises(TypeError, match="chip_x must be an integer, not"):
        check_where_is({"chip_x": value})


def test_integers_have_bounds() -> None:
    assert check_job_id(-1) == -1
    assert check_integer("n", 3, 1, 3) == 3
    with pytest.raises(ValueError, match="n must be from 1 to 3, not 4"):
        check_integer("n", 4, 1, 3)
    with pytest.raises(ValueError, match="job_id must be from") as e:
        check_job_id(10**1000)
    assert len(str(e.value)) < 200


def test_names() -> None:
    assert check_machine_name("é" * 512) == "é" * 512
    with pytest.raises(ValueError, match="machine_name must have at most 1024 bytes"):
        check_machine_name("é" * 513)
    with pytest.raises(ValueError, match="machine_name must be text"):
        check_machine_name("\ud800")
    with pytest.raises(TypeError, match="machine_name must be a string, not 3"):
        check_machine_name(3)
    with pytest.raises(TypeError, match="machine must be a string"):
        check_where_is({"machine": 1})


def test_reasons() -> None:
    assert check_reason(None) is None
    assert check_reason("x" * 4096) == "x" * 4096
    with pytest.raises(ValueError, match="reason must have at most 4096 bytes"):
        check_reason("\N{SNOWMAN}" * 1366)
    with pytest.raises(TypeError, match="reason must be a string"):
        check_reason({})


@pytest.mark.parametrize(
    ("args", "kwargs", "checked"),
    [
        ((), {"owner": "me"}, {"owner": "me"}),
        ((3,), {"owner": 5}, {"owner": "5"}),
        ((3, 4), {"owner": ""}, {"owner": ""}),
        ((0, 0, 2), {"owner": "x" * 1024}, {"owner": "x" * 1024}),
        # What released clients send.
        (
            (3,),
            {
                "owner": "me",
                "keepalive": 60,
                "machine": None,
                "tags": None,
                "min_ratio": 0.333,
                "max_dead_boards": 0,
                "max_dead_links": None,
                "require_torus": False,
            },
            {
                "owner": "me",
                "keepalive": 60.0,
                "machine": None,
                "tags": None,
                "min_ratio": 0.333,
                "max_dead_boards": 0,
                "max_dead_links": None,
                "require_torus": False,
            },
        ),
        (
            (3,),
            {
                "owner": "me",
                "keepalive": None,
                "tags": ["a", "b"],
                "min_ratio": None,
                "require_torus": None,
            },
            {"owner": "me", "keepalive": None, "tags": ["a", "b"]},
        ),
        ((2,), {"owner": "a", "require_torus": True}, None),
        ((1, 1), {"owner": "a", "machine": "m", "require_torus": True}, None),
    ],
)
def test_jobs_that_can_be_asked_for(
    args: tuple[int, ...], kwargs: dict[str, Any], checked: dict[str, Any] | None
) -> None:
    expected = kwargs if checked is None else checked
    result = check_create_job(args, kwargs)
    assert result == (list(args), expected)
    keepalive = result[1].get("keepalive")
    assert keepalive is None or isinstance(keepalive, float)


@pytest.mark.parametrize(
    ("args", "options", "problem"),
    [
        ((), {"owner": None}, "owner must be specified for all jobs"),
        ((), {"owner": ["me"]}, r"owner must be a string, not \['me'\]"),
        ((), {"owner": "x" * 1025}, "owner must have at most 1024 bytes"),
        ((), {"owner": "\udfff"}, "owner must be text"),
        ((), {"colour": 1}, "unexpected keyword argument 'colour'"),
        ((), {"job_id": 1}, "unexpected keyword argument 'job_id'"),
        ((), {"keepalive": math.nan}, "keepalive must be a finite number"),
        ((), {"keepalive": math.inf}, "keepalive must be a finite number"),
        ((), {"keepalive": -1}, "keepalive must be .* not negative, not -1"),
        ((), {"keepalive": 10**400}, "keepalive must be a finite number"),
        ((), {"keepalive": True}, "keepalive must be a number, not True"),
        ((), {"keepalive": "60"}, "keepalive must be a number, not '60'"),
        ((), {"machine": 1}, "machine must be a string"),
        ((), {"machine": "m", "tags": []}, "only one of machine and tags"),
        ((), {"tags": "default"}, "tags must be a list of strings, not 'default'"),
        ((), {"tags": ["a", None]}, "each of tags must be a string, not None"),
        ((), {"min_ratio": math.nan}, "min_ratio must be a finite number"),
        ((), {"min_ratio": -0.1}, "min_ratio must be .* not negative"),
        ((), {"min_ratio": []}, "min_ratio must be a number"),
        ((), {"max_dead_boards": -1}, "max_dead_boards must be from 0"),
        ((), {"max_dead_boards": 0.5}, "max_dead_boards must be an integer"),
        ((), {"max_dead_links": True}, "max_dead_links must be an integer"),
        ((), {"require_torus": 1}, "require_torus must be true or false, not 1"),
        ((), {"require_torus": True}, "require_torus must be false .* single boards"),
        ((1,), {"require_torus": True}, "require_torus must be false"),
        ((0, 0, 0), {"require_torus": True}, "require_torus must be false"),
        ((0,), {}, "number of boards must be from 1"),
        ((2**31,), {}, "number of boards must be from 1"),
        ((1.0,), {}, "number of boards must be an integer, not 1.0"),
        ((True,), {}, "number of boards must be an integer"),
        ((1, 0), {}, "height must be from 1"),
        (("1", 1), {}, "width must be an integer"),
        ((-1, 0, 0), {}, "x must be from 0"),
        ((0, 0, 3), {}, "z must be from 0 to 2, not 3"),
        ((0, 0, 0, 0), {}, "at most 3 positional arguments .* not 4"),
    ],
)
def test_jobs_that_cannot_be_asked_for(
    args: tuple[Any, ...], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        check_create_job(args, {"owner": "me", **options})


def test_the_owner_is_missed_before_anything_else() -> None:
    with pytest.raises(TypeError) as e:
        check_create_job((1, 2, 3, 4), {"colour": 1})
    assert str(e.value) == "owner must be specified for all jobs"


@given(
    st.lists(ANYTHING, max_size=4),
    st.dictionaries(
        st.sampled_from([*sorted(_CREATE_JOB_KEYWORDS), "other"]),
        ANYTHING,
    ),
)
def test_any_arguments_are_checked_or_refused(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    try:
        boards, options = check_create_job(args, kwargs)
    except (TypeError, ValueError):
        return
    assert all(type(number) is int for number in boards)
    assert type(options["owner"]) is str
