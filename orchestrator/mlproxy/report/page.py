"""The fixed parts of the report page: style and explanations."""

from __future__ import annotations

__all__ = ("GLOSSARY", "PAGE_CSS", "READING")

PAGE_CSS = """:root{color-scheme:light dark;--paper:#fff;--ink:#1c2126;--faint:#5a636b;
--line:#dfe3e7;--soft:#f5f7f8;--link:#1f5fa8}
@media (prefers-color-scheme:dark){:root{--paper:#14181c;--ink:#e5e9ec;--faint:#9ea8b0;
--line:#323a41;--soft:#1c2126;--link:#7db4f5}}
@media print{:root{--paper:#fff;--ink:#000;--faint:#444;--line:#bbb;--soft:#fff;--link:#000}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1.25rem 4rem;max-width:64rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,"DejaVu Sans",Helvetica,Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0}
h2{font-size:1.25rem;margin:2.5rem 0 .75rem;padding-bottom:.25rem;
border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
.sub{margin:.35rem 0 1rem;color:var(--faint)}
a{color:var(--link)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:1rem 0 0;padding:0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.5rem 1.5rem;
margin:0;padding:.9rem 1rem;background:var(--soft);border:1px solid var(--line);border-radius:6px}
dt{font-size:.8rem;color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
.words{margin:1rem 0}
.words div{display:grid;grid-template-columns:9rem 1fr;gap:1rem;padding:.3rem 0;
border-top:1px solid var(--line)}
.words dt{font-size:1rem;font-weight:600;color:var(--ink)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;min-width:60%}
caption{text-align:left;color:var(--faint);padding-bottom:.3rem}
th{text-align:left;font-weight:600;border-bottom:1.5px solid var(--faint);vertical-align:bottom}
td{border-bottom:1px solid var(--line);vertical-align:top}
th,td{padding:.32rem .9rem .32rem 0}
.n{text-align:right;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}
figure{margin:1rem 0 1.5rem}
figure svg{display:block;width:100%;height:auto}
figcaption{font-size:.85rem;color:var(--faint);margin-top:.25rem}
@media (max-width:34rem){.words div{grid-template-columns:1fr;gap:0}}"""

READING = """\
<p>Every decision of the store is made by one of two arms: the <em>default</em> logic, or a
<em>model</em> that learned from the stream while it ran. The proxy gives the model a small
share of the work, compares what both arms cost, and widens or narrows that share by itself.
Begin with the summary: a saving above zero means that the whole system, with all its trials
and fallbacks, wrote less than the default alone would have written.</p>
<p>In each cost plot, lower is better. While the model's line lies above the default's, the
proxy should be in <em>learning</em> or <em>emergency</em>; where it lies clearly below, the
proxy should climb to <em>collaboration</em> and <em>trusted</em>. The table below each
timeline says on what evidence each step was taken: the mean cost of both arms, how many
trial units stood behind it, and the bound that holds at every moment of looking, not only
at one chosen in advance. A saving is a share of the default's cost; its lower bound must
pass the configured smallest effect for a promotion.</p>
<p>The loss plot is about prediction only: how wrong each candidate was about what it
predicts, measured before it learned the answer. A good predictor may still be a bad
decider, so a loss may choose the champion but never changes a mode: only a measured cost
does. Point at a dotted line, a bar or a span to read what it stands for.</p>
"""

GLOSSARY = (
    ("proxy", "the kernel-side object of one decision; it decides who acts and keeps the ledger"),
    ("arm", "who acts: default or model"),
    (
        "emergency",
        "mode in which only the default logic acts; entered at once when in doubt",
    ),
    ("learning", "mode in which the model is tried on a small share of the operations"),
    ("collaboration", "mode in which the model acts on about half of the operations"),
    ("trusted", "mode in which the model acts on all but a small hold-out"),
    ("twin", "a small simulation of an arm on a sample of the live stream: cost without risk"),
    ("trial", "how operations are split between the arms to compare them"),
    ("champion", "the candidate model whose recommendations are sent to the proxy"),
    ("recommendation", "what a model wants the proxy to do, for a limited time"),
    ("write amplification", "blocks written to the device over blocks written by the user"),
    ("loss", "error of a model's predictions, measured before it learns from them"),
)
