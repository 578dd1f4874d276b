"""Tables: aligned numbers, and nothing in a cell breaks the table around it."""

import io

import pytest
from rich.console import Console

from mlproxy.report.table import Table

TABLE = Table(
    ("workload", "wa", "n", "note"),
    (("mail", 1.5, 10, None), ("sqlite-wal", 12.25, 7, "worse"), ("none", float("nan"), None, "")),
    caption="Result",
)


def test_text_aligns_numbers_at_the_point():
    assert TABLE.to_text() == (
        "Result\n"
        "workload       wa   n  note\n"
        "----------  -----  --  -----\n"
        "mail         1.50  10  -\n"
        "sqlite-wal  12.25   7  worse\n"
        "none            -   -"
    )


def test_markdown():
    assert TABLE.to_markdown() == (
        "**Result**\n\n"
        "| workload   |    wa |   n | note  |\n"
        "| ---------- | ----: | --: | ----- |\n"
        "| mail       |  1.50 |  10 | -     |\n"
        "| sqlite-wal | 12.25 |   7 | worse |\n"
        "| none       |     - |   - |       |"
    )


def test_html_marks_numbers():
    html = TABLE.to_html()
    assert '<th scope="col" class="n">wa</th>' in html
    assert '<td class="n">12.25</td>' in html
    assert "<caption>Result</caption>" in html


def test_rich_shows_the_same_cells():
    console = Console(file=io.StringIO(), width=80)
    console.print(TABLE.to_rich())
    text = console.file.getvalue()
    for cell in ("Result", "workload", "sqlite-wal", "12.25", "worse"):
        assert cell in text


def test_cells_cannot_break_out():
    cell = "a|b<i>&\nc[bold]d"
    table = Table((cell,), ((cell,),), caption=cell)
    assert table.to_markdown().splitlines()[-1] == "| a\\|b&lt;i>&amp;<br>c[bold]d |"
    assert "<i>" not in table.to_html()
    assert "a|b&lt;i&gt;&amp;<br>c[bold]d" in table.to_html()
    console = Console(file=io.StringIO(), width=80)
    console.print(table.to_rich())
    assert "[bold]" in console.file.getvalue()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1234567, 1.0), ["0.123", "1.000"]),
        ((99.5, 1.0), ["99.50", "1.00"]),
        ((123.456, 1.0), ["123.5", "1.0"]),
        ((123456.7, 1.0), ["123457", "1"]),
        ((float("inf"), float("-inf")), ["inf", "-inf"]),
        ((True, False), ["yes", "no"]),
        ((0.0, -0.5), ["0.000", "-0.500"]),
    ],
)
def test_a_column_shares_its_decimals(values, expected):
    table = Table(("v",), [(value,) for value in values])
    assert [row[0] for row in table.cells()] == expected


def test_alignment_is_guessed_from_the_cells():
    table = Table(("a", "b", "c", "d"), ((1, "x", None, True), (None, 2, None, False)))
    assert table.alignment() == ("right", "left", "left", "left")


def test_rows_must_have_all_cells():
    with pytest.raises(ValueError, match="2 cells"):
        Table(("a", "b"), (("only",),))
    with pytest.raises(ValueError, match="1 entries"):
        Table(("a",), (), ("left", "left"))


def test_an_empty_table_has_its_head():
    assert Table(("a", "bb"), ()).to_text() == "a  bb\n-  --"
