"""Ranges of API versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlproxy.errors import PluginError
from mlproxy.plugin.api import accepts


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        (">=1,<2", (1, 0), True),
        (">=1,<2", (2, 0), False),
        (">=1.2", (1, 1), False),
        ("== 1.1", (1, 1), True),
        ("==1", (1, 1), False),
        (">1,<=1.5", (1, 5), True),
        ("<1", (0, 9), True),
    ],
)
def test_ranges(requirement: str, version: tuple[int, int], expected: bool) -> None:
    assert accepts(requirement, version) is expected


@pytest.mark.parametrize("text", ["", "1", ">=1,", "~=1", ">=1.2.3", ">=a"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(PluginError) as caught:
        accepts(text, (1, 0))
    assert caught.value.code == "plugin.bad_api_range"


@given(st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_every_version_equals_itself(version: tuple[int, int]) -> None:
    text = "{}.{}".format(*version)

    assert accepts(f"=={text}", version)
    assert accepts(f">={text},<={text}", version)
    assert not accepts(f">{text}", version)
