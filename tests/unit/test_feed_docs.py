"""docs/reference/feed.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlproxy.events import schema
from mlproxy.feed.config import FeedConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/feed.md").read_text("utf-8")
PACKAGE = ROOT / "orchestrator/mlproxy"


def rows() -> dict[str, str]:
    """Configuration key -> its default as the page has it."""
    table = PAGE.partition("## Configuration")[2].partition("\n## ")[0]
    found = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            keys, defaults = (c.strip() for c in line.split("|")[1:3])
            names = re.findall(r"`(\w+)`", keys)
            values = [d.strip().strip("`") for d in defaults.split(",")]
            found |= dict(zip(names, values * len(names), strict=False))
    return found


@pytest.mark.parametrize("key", sorted(FeedConfig.model_fields))
def test_every_key_is_on_the_page_with_its_default(key):
    default = FeedConfig.model_fields[key].default
    said = rows()[key]
    if isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, int | float):
        assert float(said) == default


def test_no_other_keys_are():
    assert rows().keys() == FeedConfig.model_fields.keys()


def test_error_codes_are_those_in_the_source():
    files = [*PACKAGE.glob("feed/*.py"), *PACKAGE.glob("events/*.py"), PACKAGE / "cli/events.py"]
    raised = {c for f in files for c in re.findall(r'code="(feed\.\w+)"', f.read_text("utf-8"))}
    table = PAGE.partition("## Errors")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(feed\.\w+)`", table)) == raised


def test_every_schema_is_named():
    assert all(f"`{name}`" in PAGE for name in schema.MESSAGES)
