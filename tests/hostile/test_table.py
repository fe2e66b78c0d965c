"""The documentation's table of what is tried names the tests there are."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "survival.rst"


def test_every_file_of_hostile_cases_is_in_the_table() -> None:
    named = set(re.findall(r"``(test_\w+\.py)``", PAGE.read_text()))
    there = {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert named == there
