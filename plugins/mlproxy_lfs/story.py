"""The demonstration's results as a table and as a report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

from mlproxy import __version__
from mlproxy.demo import FeedCount, Verdict
from mlproxy.report.collect import champion_history, mode_history
from mlproxy.report.model import DemoReport, Mark, ProxyReport, Series
from mlproxy.report.table import Align, Cell, Table
from mlproxy_lfs.acts import ActResult
from mlproxy_lfs.decisions import PLACEMENT, VICTIM

__all__ = ("report_of", "summary_of")

CURVES = {"default": "default", "mlproxy": "mlproxy", "sepbit": "SepBIT"}
X = "capacities written"


def summary_of(
    results: Mapping[str, ActResult], verdicts: Sequence[Verdict], leads: Mapping[str, str]
) -> Table:
    """One row per act; the mode that it ends in is that of the proxy that it is about."""
    headers = (
        "held",
        "act",
        "stream",
        "default",
        "mlproxy",
        "saved",
        "last third",
        "by model",
        "proxy",
        "ends in",
    )
    rows: list[Sequence[Cell]] = []
    for verdict in verdicts:
        r = results[verdict.part]
        rows.append(
            (
                "yes" if verdict.held else "NO",
                verdict.part,
                r.workload,
                r.whole["default"],
                r.whole["mlproxy"],
                _percent(1 - r.whole["mlproxy"] / r.whole["default"]),
                _percent(1 - r.late["mlproxy"] / r.late["default"]),
                f"{r.model_share:.0%}",
                leads[verdict.part],
                r.final[leads[verdict.part]],
            )
        )
    align: tuple[Align, ...] = (
        "left",
        "left",
        "left",
        "right",
        "right",
        "right",
        "right",
        "right",
        "left",
        "left",
    )
    return Table(headers, rows, align, caption="write amplification of the whole stream")


def _percent(share: float) -> str:
    return f"{share:+.1%}"


def _series(result: ActResult) -> list[Series]:
    found = []
    for key, label in CURVES.items():
        points = result.curves[key]
        x = [at / result.capacity for at, _ in points]
        found.append(Series(label, x, [cost for _, cost in points]))
    return found


def _losses(result: ActResult) -> list[Series]:
    return [
        Series(name, [at / result.capacity for at, _ in points], [loss for _, loss in points])
        for name, points in result.losses.items()
    ]


def _proxy(
    result: ActResult, name: str, proxy: str, *, intro: str, marks: Sequence[Mark]
) -> ProxyReport:
    """One proxy of one act; the act's costs stand with the proxy that has the intro."""
    capacity = float(result.capacity)
    spans, changes = mode_history(
        result.modes.get(proxy, []), 0, result.written, initial="learning", scale=capacity
    )
    whole = bool(intro)
    return ProxyReport(
        name=f"{name}: {proxy}",
        unit_of_x=X,
        cost=_series(result) if whole else (),
        losses=_losses(result) if proxy == PLACEMENT else (),
        modes=spans,
        changes=changes,
        champions=champion_history(result.champions.get(proxy, []), capacity),
        loss_label="loss (absolute error of log2 lifetime)",
        events=marks,
        intro=intro,
    )


def report_of(
    results: Mapping[str, ActResult],
    verdicts: Sequence[Verdict],
    feed: FeedCount,
    titles: Mapping[str, str],
    *,
    leads: Mapping[str, str],
    turned: Mapping[str, float],
) -> DemoReport:
    """The page.

    Args:
        results: by act.
        verdicts: of the acts.
        feed: what went over the broker.
        titles: of the acts.
        leads: act -> the proxy that it is about.
        turned: act -> capacities after which its models turned bad.
    """
    statements = {v.part: v.statement for v in verdicts}
    proxies = []
    for name, title in titles.items():
        result = results[name]
        at = turned.get(name)
        marks = [Mark(at, "models turn bad", "from here on they are poisoned")] if at else []
        intro = f"{title[:1].upper()}{title[1:]}: {statements[name]}."
        lead = leads[name]
        other = VICTIM if lead == PLACEMENT else PLACEMENT
        proxies.append(_proxy(result, name, lead, intro=intro, marks=marks))
        # A proxy that never left learning has nothing to show beside the first one.
        if len(result.modes.get(other, [])) > 1:
            proxies.append(_proxy(result, name, other, intro="", marks=marks))
    learn = results["learn"]
    blocks = sum(r.written for r in results.values())
    return DemoReport(
        title="mlproxy: what the models did",
        subtitle="Learned block placement in a log-structured store, from zero, under a guard",
        facts={
            "version": __version__,
            "python": platform.python_version(),
            "store": f"{learn.segments} segments of {learn.segment_blocks} blocks",
            "blocks written": f"{blocks:,}",
            "processor time": f"{sum(r.cpu_seconds for r in results.values()):.0f} s",
        },
        summary=summary_of(results, verdicts, leads),
        proxies=proxies,
        notes=[f"{'Held' if v.held else 'DID NOT HOLD'}: {v.statement}." for v in verdicts],
        feed={
            "broker": feed.broker + (" (inside the demo)" if feed.embedded else ""),
            "events published": feed.emitted,
            "events read back": feed.read,
            "mode changes": feed.modes,
            "messages in all": feed.messages,
            "dropped": feed.dropped,
        },
    )
