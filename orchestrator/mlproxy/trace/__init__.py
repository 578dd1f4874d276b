"""Recordings of what real programs write: recorder, file format, reader."""

from __future__ import annotations
