"""The command line; one command per file."""

from __future__ import annotations
