"""Every rule in docs/reference/arbitration.md has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_rule_has_a_test_and_each_such_test_a_rule() -> None:
    text = (ROOT / "docs/reference/arbitration.md").read_text()
    rules = {rule.lower() for rule in re.findall(r"^\*\*([AS]\d+)\.", text, re.MULTILINE)}
    tests: set[str] = set()
    for path in (ROOT / "tests/unit").glob("test_learn_*.py"):
        tests |= set(re.findall(r"^def test_([as]\d+)_", path.read_text(), re.MULTILINE))

    assert len(rules) == 15
    assert rules == tests


def test_the_numbers_in_the_rules_are_the_policys() -> None:
    from dataclasses import fields

    from mlproxy.learn import ArbitrationPolicy

    text = (ROOT / "docs/reference/arbitration.md").read_text()
    policy = ArbitrationPolicy()
    names = {field.name for field in fields(policy)}
    named = re.findall(r"\*(\w+)\*(?: \((\d[\d.]*)(%?)\))?", text)

    assert {name for name, _, _ in named if name in names} >= names - {"cuts"}
    for name, number, percent in named:
        if name in names and number:
            value = float(number) / (100 if percent else 1)
            assert value == getattr(policy, name), name
