"""Layers and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlproxy.config.layers import Layer, key_lines, merge, parse, read_layers
from mlproxy.errors import Problem

KEYS = st.text("abcdefg_", min_size=1, max_size=4)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.integers()
        | st.booleans()
        | st.text("xyz", max_size=3)
        | st.lists(st.integers(), max_size=3),
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def reference(low: Any, high: Any) -> Any:
    """Deep merge, written the other way round."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return high
    keys = [*low, *(k for k in high if k not in low)]
    return {
        k: reference(low[k], high[k]) if k in low and k in high else {**low, **high}[k]
        for k in keys
    }


@given(st.lists(TREES, max_size=4))
def test_merge_is_a_deep_merge_in_order(trees: list[dict[str, Any]]) -> None:
    expected: Any = {}
    for tree in trees:
        expected = reference(expected, tree)

    assert merge([Layer(str(i), t) for i, t in enumerate(trees)]).data == expected


@given(st.lists(TREES, min_size=1, max_size=4))
def test_every_leaf_comes_from_the_last_layer_that_has_it(trees: list[dict[str, Any]]) -> None:
    merged = merge([Layer(str(i), t) for i, t in enumerate(trees)])

    def has(tree: Any, path: tuple[str, ...]) -> bool:
        for part in path:
            if not isinstance(tree, dict) or part not in tree:
                return False
            tree = tree[part]
        return not isinstance(tree, dict)

    def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for key, value in tree.items():
            here = (*path, key)
            found += leaves(value, here) if isinstance(value, dict) else [here]
        return found

    for path in leaves(merged.data):
        last = max(i for i, t in enumerate(trees) if has(t, path))
        assert merged.origin(path) == str(last)


def test_lines_of_keys() -> None:
    text = """
# comment
top = 1
[a]
b.c = 2
"q.r" = 3
[proxy."lfs.gc"]  # there
alpha = 5
"""

    lines = key_lines(text)

    assert lines["top",] == 3
    assert lines["a",] == 4
    assert lines["a", "b", "c"] == 5
    assert lines["a", "q.r"] == 6
    assert lines["proxy", "lfs.gc", "alpha"] == 8


def test_all_sources_in_their_order(tmp_path: Path) -> None:
    main = tmp_path / "mlproxy.toml"
    main.write_text("[daemon]\nnode = 'file'\nseed = 1\nstate_dir = '/s'\n[x]\na = 1\n")
    drop_in = tmp_path / "conf.d"
    drop_in.mkdir()
    (drop_in / "20-b.toml").write_text("[daemon]\nnode = 'second'\n")
    (drop_in / "10-a.toml").write_text("[daemon]\nnode = 'first'\nlog_level = 'debug'\n")
    (drop_in / "ignored.txt").write_text("no TOML at all")
    problems: list[Problem] = []

    environ = {"MLPROXY__DAEMON__SEED": "5", "MLPROXY__DAEMON__NODE": "env", "MLPROXY_CONFIG": "no"}
    merged = merge(read_layers(main, environ, ['daemon.node="option"', "x.b=plain"], problems))

    assert problems == []
    assert merged.data == {
        "daemon": {"node": "option", "seed": 5, "state_dir": "/s", "log_level": "debug"},
        "x": {"a": 1, "b": "plain"},
    }
    assert merged.origin(("daemon", "node")) == "-o daemon.node"
    assert merged.origin(("daemon", "seed")) == "$MLPROXY__DAEMON__SEED"
    assert merged.origin(("daemon", "state_dir")) == f"{main}:4"
    assert merged.origin(("daemon", "log_level")) == f"{drop_in / '10-a.toml'}:3"
    assert merged.origin(("nowhere",)) == "default"


def test_what_cannot_be_read_is_a_problem_each(tmp_path: Path) -> None:
    main = tmp_path / "mlproxy.toml"
    main.write_bytes(b"[daemon\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_bytes(b"x = '\xff'")
    problems: list[Problem] = []
    read_layers(main, {}, ["no-equals", "a..b=1"], problems)
    read_layers(tmp_path / "missing.toml", {}, [], problems)

    assert [p.code for p in problems] == [
        "config.syntax",
        "config.syntax",
        "config.bad_override",
        "config.bad_override",
        "config.not_found",
        "config.syntax",
    ]
    assert "line 1" in problems[0].message
    assert "byte 5" in problems[1].message


def test_an_override_cannot_smuggle_in_other_keys() -> None:
    problems: list[Problem] = []
    layers = read_layers(None, {}, ["a.b=1\nc=2", "a=1\nb"], problems)

    assert merge(layers).data == {"a": {"b": "1\nc=2"}} | {"a": "1\nb"}


@given(st.binary(max_size=200))
def test_any_bytes_give_a_layer_or_one_problem(data: bytes) -> None:
    problems: list[Problem] = []
    layer = parse(data, "f", problems)

    assert (layer is None) == (len(problems) == 1)
