"""The page: self-contained, escaped, complete, the same each time."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mlproxy.report.html import (
    DemoReport,
    Mark,
    ModeChange,
    ModeSpan,
    ProxyReport,
    Series,
    Table,
    render_report,
)

EVIL = "<script>alert('x')</script><img src=\"http://evil/\" onerror=a()>&\x00"
VOID = {"meta", "br", "path", "rect", "circle"}


def make(text="plain"):
    x = np.arange(0, 1000, 10.0)
    proxy = ProxyReport(
        name=f"lfs.placement {text}",
        unit_of_x=f"blocks written {text}",
        cost=[
            Series(f"default twin {text}", x, 2 + x * 0),
            Series("model twin", x, 2 - x / 2000, 1.9 - x / 2000, 2.1 - x / 2000),
            Series("whole system", x, 2 - x / 3000),
        ],
        losses=[Series(f"river-tree {text}", x, 1 / (1 + x)), Series("river-linear", x, x * 0 + 1)],
        modes=[
            ModeSpan(0, 400, "learning", "start"),
            ModeSpan(400, 900, "trusted", f"promoted {text}"),
            ModeSpan(900, 1000, "emergency", "cost-spike"),
        ],
        changes=[
            ModeChange(400, "learning", "trusted", "promoted", f"default 2.0, model 1.8 {text}\nn"),
            ModeChange(900, "trusted", "emergency", "cost-spike", "cost 3.0 against 2.0"),
        ],
        champions=[(100.0, f"river-tree {text}", f"lowest loss {text}")],
        cost_label=f"write amplification {text}",
        loss_label=f"error {text}",
        events=[Mark(850, f"poisoned {text}", f"answers inverted {text}")],
        intro=f"Which log a block goes to. {text}",
    )
    return DemoReport(
        title=f"A run {text}",
        subtitle=f"of something {text}",
        facts={f"seed {text}": f"1 {text}"},
        summary=Table((f"workload {text}", "saving"), ((f"mail {text}", 0.125),)),
        proxies=[proxy],
        notes=[f"a note {text}"],
        feed={f"sent {text}": 12, "broker": f"embedded {text}"},
    )


class Checker(HTMLParser):
    """Collects tags and text, and notices a tag that is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.mark.parametrize("text", ["plain", EVIL])
def test_the_page_refers_to_nothing_outside(text):
    page = render_report(make(text))
    parsed = parse(page)
    active = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    assert not active & set(parsed.tags)
    for tag, name, value in parsed.attributes:
        assert name not in ("src", "srcset", "action", "data", "xlink:href"), (tag, name)
        assert not name.startswith("on"), (tag, name)
        assert name != "href" or value.startswith("#")
        assert name in ("title", "d") or not re.search(r"https?:|url\(", value or "")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert not re.search(r"https?:|url\(|@import", style)
    if text == "plain":
        assert not re.search(r"https?:|src=", page)


def test_everything_of_the_report_is_in_the_page():
    page = render_report(make("MARKER"))
    text = " ".join(parse(page).texts)
    for wanted in (
        "A run MARKER",
        "of something MARKER",
        "seed MARKER",
        "workload MARKER",
        "mail MARKER",
        "0.125",
        "lfs.placement MARKER",
        "default twin MARKER",
        "model twin",
        "whole system",
        "river-tree MARKER",
        "promoted MARKER",
        "default 2.0, model 1.8 MARKER",
        "cost 3.0 against 2.0",
        "lowest loss MARKER",
        "poisoned MARKER",
        "Which log a block goes to. MARKER",
        "a note MARKER",
        "sent MARKER",
        "embedded MARKER",
        "emergency 10%",
        "How to read this",
    ):
        assert wanted in text, wanted


def test_hostile_text_stays_text():
    parsed = parse(render_report(make(EVIL)))
    assert "script" not in parsed.tags
    assert "\x00" not in "".join(parsed.texts)
    assert any("<script>alert('x')</script>" in text for text in parsed.texts)


def test_links_of_the_contents_lead_somewhere():
    parsed = parse(render_report(make()))
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [value for _, name, value in parsed.attributes if name == "href"]
    assert links
    assert {link[1:] for link in links} <= set(ids)


def test_the_plots_of_a_proxy_share_their_x_axis():
    """The mode timeline stands below the cost, so that one sees what goes together."""
    page = render_report(make())
    cost, modes, losses = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    axis = [re.findall(r'text-anchor="middle">(\d+)<', svg) for svg in (cost, modes, losses)]
    assert axis[0] == axis[1] == axis[2] != []


def test_parts_without_data_are_left_out():
    bare = DemoReport("t", "s", {}, Table(("a",), ()), [ProxyReport("p", "steps")])
    page = render_report(bare)
    assert "<svg" not in page
    assert 'id="feed"' not in page
    assert 'id="notes"' not in page


def test_a_very_long_table_is_folded():
    changes = [ModeChange(i, "learning", "emergency", "rejects", f"row {i}") for i in range(100)]
    proxy = ProxyReport("p", "blocks", changes=changes)
    page = render_report(DemoReport("t", "s", {}, Table(("a",), ()), [proxy]))
    parsed = parse(page)
    assert "details" in parsed.tags
    assert "row 99" in parsed.texts
    assert "details" not in parse(render_report(make())).tags


def test_the_same_report_gives_the_same_bytes():
    assert render_report(make()) == render_report(make())


def test_a_long_run_still_makes_a_small_page():
    x = np.arange(200_000.0)
    noise = np.random.default_rng(1).normal(size=x.size)
    proxy = ProxyReport("p", "blocks", cost=[Series("a", x, noise), Series("b", x, noise + 1)])
    page = render_report(DemoReport("t", "s", {}, Table(("a",), ()), [proxy]))
    assert len(page) < 80_000
