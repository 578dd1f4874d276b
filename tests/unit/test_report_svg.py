"""The plots: well-formed, escaped, readable without colour, right where it counts."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.report.canvas import legend_places
from mlproxy.report.lines import LEFT, RIGHT, thin
from mlproxy.report.scale import Scale, linear_ticks, log_ticks, number, tick_labels
from mlproxy.report.svg import (
    DARK,
    LIGHT,
    Bars,
    Mark,
    ModeSpan,
    Series,
    bar_plot,
    line_plot,
    mode_timeline,
    page_css,
)

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("x")</script> & \x00\x1b[31m'
SPANS = (
    ModeSpan(0, 60, "learning", "start"),
    ModeSpan(60, 90, "trusted", "promoted"),
    ModeSpan(90, 100, "emergency", "cost-spike"),
)


def parse(svg):
    return ET.fromstring(svg)


def paths(svg, cls):
    return [e.get("d") for e in parse(svg).iter(f"{SVG}path") if cls in e.get("class", "")]


def coordinates(d):
    return [tuple(map(float, p.split())) for p in re.findall(r"-?[\d.]+ -?[\d.]+", d)]


def ramp(name="a", n=11):
    return Series(name, np.arange(n), np.arange(n, dtype=float))


def test_a_line_runs_from_the_lower_left_to_the_upper_right():
    svg = line_plot([ramp()], title="t", size=(500, 300), y_range=(0, 10))
    points = coordinates(paths(svg, "ln s0")[1])  # the first is the legend's sample
    assert points[0][0] == LEFT
    assert points[-1][0] == 500 - RIGHT
    assert points[0][1] == 300 - 26
    ys = [y for _, y in points]
    assert ys == sorted(ys, reverse=True)


def test_a_step_holds_the_old_value_up_to_the_next_x():
    series = Series("a", [0, 1, 2], [0, 10, 10])
    d = paths(line_plot([series], title="t", step=True), "ln s0")[1]
    points = coordinates(d)
    assert points[1][1] == points[0][1]
    assert points[2][0] == points[1][0]


def test_a_gap_in_the_data_is_a_gap_in_the_line():
    series = Series("a", range(6), [1, 2, np.nan, np.inf, 3, 4])
    assert len(paths(line_plot([series], title="t"), "ln s0")) == 1 + 2


def test_a_single_point_between_gaps_is_drawn():
    series = Series("a", range(3), [np.nan, 2, np.nan])
    assert len(list(parse(line_plot([series], title="t")).iter(f"{SVG}circle"))) == 1


@pytest.mark.parametrize("series", [[], [Series("a", [], [])], [Series("a", [1], [np.nan])]])
def test_nothing_to_draw_is_said(series):
    assert "no data" in line_plot(series, title="t")


def test_constant_data_has_an_axis():
    for value in (0.0, 1.0, -5.0):
        svg = line_plot([Series("a", [0, 1], [value, value])], title="t")
        assert len(paths(svg, "ln s0")) == 2


def test_a_band_does_not_squeeze_its_line():
    x = np.arange(100.0)
    y = 1 + x / 1000
    wide = Series("a", x, y, y - 1e6, y + 1e6)
    ys = [p[1] for p in coordinates(paths(line_plot([wide], title="t"), "ln s0")[1])]
    assert max(ys) - min(ys) > 80


def test_robust_keeps_the_usual_values_visible_and_marks_the_outlier():
    y = np.linspace(1, 2, 1000)
    y[500] = 1e14
    svg = line_plot([Series("a", np.arange(1000), y)], title="t", robust=True)
    ys = [p[1] for p in coordinates(paths(svg, "ln s0")[1])]
    assert max(ys) - min(ys) > 150
    assert "100T, off the scale" in svg


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="'a'"):
        line_plot([Series("a", [1, 2], [1])], title="t")


def test_marks_outside_are_dropped_and_crowded_labels_too():
    marks = [Mark(5, f"event {i}", f"detail {i}") for i in range(5)] + [Mark(99, "outside")]
    svg = line_plot([ramp()], title="t", marks=marks)
    assert "outside" not in svg
    assert svg.count("detail 4") == 1  # the tooltip of the line; there was no room for a label
    labels = [e for e in parse(svg).iter(f"{SVG}text") if e.get("class") == "small"]
    assert len(labels) == 2


def test_every_series_differs_by_more_than_its_colour():
    css = re.findall(r"\.ln\.s\d\{stroke:(#\w+)(.*?)\}", line_plot([ramp()], title="t"))
    assert len({dash for _, dash in css}) == len(css) == 8


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(palette):
    for colour in (palette.ink, palette.faint, *palette.series, *palette.modes):
        assert _contrast(colour, palette.paper) >= 4.5, colour
    for colour in palette.modes:
        assert _contrast(palette.on_mode, colour) >= 4.5, colour


def test_standalone_is_a_file_of_its_own_and_inline_is_not():
    alone = line_plot([ramp()], title="t")
    inline = line_plot([ramp()], title="t", standalone=False)
    assert 'xmlns="http://www.w3.org/2000/svg"' in alone
    assert "<style>" in alone
    assert "xmlns" not in inline
    assert "<style>" not in inline
    assert "prefers-color-scheme:dark" in page_css()


def test_pictures_have_a_title_and_a_description_that_are_pointed_to():
    pictures = (
        line_plot([ramp("first")], title="what"),
        bar_plot(["g"], [Bars("first", [0.5])], title="what"),
        mode_timeline(SPANS, title="what"),
    )
    for svg in pictures:
        root = parse(svg)
        assert root.get("role") == "img"
        title, desc = (root.find(f"{SVG}{tag}") for tag in ("title", "desc"))
        assert title.text == "what"
        assert re.search("first|learning", desc.text)
        assert root.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]


def test_everything_is_escaped():
    pictures = (
        line_plot(
            [Series(EVIL, [0, 1], [0, 1])],
            title=EVIL,
            desc=EVIL,
            x_label=EVIL,
            y_label=EVIL,
            marks=[Mark(0.5, EVIL, EVIL)],
        ),
        bar_plot([EVIL], [Bars(EVIL, [2]), Bars("b", [None])], title=EVIL, reference_label=EVIL),
        mode_timeline([ModeSpan(0, 1, "learning", EVIL)], title=EVIL, x_label=EVIL),
    )
    for svg in pictures:
        parse(svg)
        assert "<script" not in svg
        assert "\x1b" not in svg


def test_bars_begin_at_the_reference_and_point_to_their_side():
    svg = bar_plot(
        ["better", "worse"], [Bars("m", [0.5, 1.5]), Bars("n", [None, 1.0])], title="t", reference=1
    )
    line = coordinates(paths(svg, "ref")[0].replace("V", " "))
    bars = [e for e in parse(svg).iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    ends = {
        e.find(f"{SVG}title").text: (float(e.get("x")), float(e.get("x")) + float(e.get("width")))
        for e in bars
    }
    zero = line[0][0]
    assert ends["better, m: 0.5"][1] == pytest.approx(zero, abs=0.11)
    assert ends["worse, m: 1.5"][0] == pytest.approx(zero, abs=0.11)
    assert ends["worse, n: 1"][1] - ends["worse, n: 1"][0] == 1
    assert "better, n" not in "".join(ends)
    assert "0.500" in svg
    assert ">none<" in svg


def test_bars_and_groups_must_agree():
    with pytest.raises(ValueError, match="2 values, 1 groups"):
        bar_plot(["g"], [Bars("m", [1, 2])], title="t")


def test_the_timeline_says_the_mode_by_its_row():
    svg = mode_timeline(SPANS, title="t", width=500)
    spans = [e for e in parse(svg).iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    rows = [float(e.get("y")) for e in spans]
    assert rows[2] > rows[0] > rows[1]  # emergency lowest, trusted highest
    tips = [e.find(f"{SVG}title").text for e in spans]
    assert tips[0] == "learning: start\nfrom 0 to 60 (60% of the time)"
    assert float(spans[0].get("x")) == LEFT
    assert float(spans[-1].get("x")) + float(spans[-1].get("width")) == 500 - RIGHT


def test_the_timeline_refuses_a_mode_it_does_not_know():
    with pytest.raises(ValueError, match="unknown mode 'recommendation'"):
        mode_timeline([ModeSpan(0, 1, "recommendation")], title="t")


def test_the_same_input_gives_the_same_bytes():
    assert line_plot([ramp()], title="t") == line_plot([ramp()], title="t")


def test_thin_keeps_the_spikes_and_both_ends():
    y = np.zeros(10_000)
    y[1234], y[5678] = 7, -7
    kept = thin(np.arange(10_000.0), y, 100)
    assert len(kept) <= 301
    assert {0, 1234, 5678, 9999} <= set(kept.tolist())


def test_thin_leaves_short_series_alone():
    assert thin(np.arange(30.0), np.zeros(30), 10).tolist() == list(range(30))


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(2, 10))
def test_linear_ticks_are_inside_even_and_not_too_many(low, span, target):
    high = low + span
    ticks = linear_ticks(low, high, target)
    if high - low < abs(low) * 1e-9:
        return  # closer than floats can divide
    assert all(low - span * 1e-6 <= t <= high + span * 1e-6 for t in ticks)
    assert 1 <= len(ticks) <= 3 * target
    assert ticks == sorted(set(ticks))


@given(st.floats(1e-200, 1e200), st.floats(1.5, 1e30))
def test_log_ticks_are_inside_and_rise(low, factor):
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= t <= low * factor * 1.001 for t in ticks)


def test_tick_labels_of_different_ticks_differ():
    ticks = [12_000.0, 12_250.0, 12_500.0]
    assert tick_labels(ticks) == ["12.00k", "12.25k", "12.50k"]
    assert tick_labels([]) == []


def test_numbers_of_all_sizes_are_short():
    values = (1e-12, 0.5, 999_999, 2**63, float("inf"), float("-inf"))
    assert [number(v) for v in values] == ["1e-12", "0.5", "1M", "9223000T", "inf", "-inf"]


def test_a_scale_holds_values_inside_the_axis():
    for log in (False, True):
        scale = Scale(1, 100, 10, 20, log)
        assert [scale(v) for v in (0.1, 1, 100, 1e9)] == [10, 10, 20, 20]
    assert Scale(1, 100, 10, 20, log=True)(10) == pytest.approx(15)


def test_the_legend_wraps():
    rows = [row for _, row in legend_places(["name"] * 10, 200)]
    assert rows[0] == 0
    assert rows == sorted(rows)
    assert rows[-1] >= 4


@settings(max_examples=60)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=0, max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_no_data_breaks_a_plot(values, log, robust):
    series = Series("a", range(len(values)), values)
    with np.errstate(all="ignore"):
        svg = line_plot([series], title="t", log=log, robust=robust)
    assert not re.search(r"[MLHV -]nan|inf ", "".join(paths(svg, "")))
    parse(svg)
