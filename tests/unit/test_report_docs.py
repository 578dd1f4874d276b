"""The documentation: pages are reachable, links lead somewhere, the words are the house's."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {"tutorial", "how-to", "reference", "explanation", "results", "adr"}
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
# another word for something that has a name here (docs/explanation/what-mlproxy-is.md)
FOREIGN = {
    r"recommendation mode": "trusted",
    r"(?:fallback|fall-back|safe|failsafe) mode": "emergency",
    r"shadow mode": "learning",
    r"(?:baseline|control|treatment|learned) arm": "default or model arm",
    r"\bshadow simulation|\bmini-?sim(?:ulation)?\b": "twin",
    r"\bWAF\b|write amplification factor": "write amplification",
    r"\bdead letter": "spool",
    r"\basyncio-mqtt\b": "aiomqtt",
}


def ids(paths):
    return [path.relative_to(DOCS).as_posix() for path in paths]


def prose(page):
    """The text of a page without its code blocks."""
    return re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def test_every_page_is_of_a_known_kind():
    assert {path.split("/")[0] for path in ids(PAGES)} <= KINDS | {"README.md"}


def test_the_index_links_every_page():
    """Results and decision records come and go by themselves; the index names their folders."""
    index = LINK.findall(prose(DOCS / "README.md"))
    linked = {(DOCS / link.split("#")[0]).resolve() for link in index if "://" not in link}
    by_hand = [p for p in PAGES if p.parent.name not in ("results", "adr", "docs")]
    assert ids(p for p in by_hand if p.resolve() not in linked) == []


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_a_page_has_one_title_and_links_that_lead_somewhere(page):
    text = prose(page)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    for link in [*LINK.findall(text), *IMAGE.findall(text)]:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor and target.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_a_page_uses_the_words_of_the_house(page):
    text = " ".join(prose(page).split())
    for pattern, word in FOREIGN.items():
        found = re.search(pattern, text, re.IGNORECASE)
        assert found is None, f"says {found[0]!r}, here that is {word!r}"


def test_there_are_pages():
    assert len(PAGES) >= 3
