"""Reports: plots, tables, the page at the end of a run, the results of benches."""

from __future__ import annotations
