"""Puts back what a daemon that died has left in knobs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlproxy.proxy.knob_file import GONE, KnobFile
from mlproxy.proxy.knob_journal import SUFFIX, Entry, JournalData, boot_id, opened

__all__ = ("Outcome", "Restored", "restore_all", "restore_journal")

Outcome = Literal["restored", "unchanged", "foreign", "gone", "failed", "stale", "damaged", "held"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one knob, or of a whole journal.

    Attributes:
        proxy: whose it was.
        outcome: `restored`; `unchanged`: it had its default; `foreign`: somebody else has
            changed it since, so it was left alone; `gone`: it is no longer there;
            `failed`: it did not take the default, the journal stays; of a journal:
            `stale`: of an earlier boot, `damaged`, `held`: its owner lives.
        path: the knob's file, or the journal.
        found: what the knob read as.
        restore: what was, or would have been, written.
        message: why, where the outcome does not say it.
    """

    proxy: str
    outcome: Outcome
    path: str
    found: str = ""
    restore: str = ""
    message: str = ""

    def __str__(self) -> str:
        words = {
            "restored": f"put back to {self.restore!r} (was {self.found!r})",
            "unchanged": "had its default",
            "foreign": f"left alone: somebody else has set it to {self.found!r}",
            "gone": "is no longer there",
            "failed": f"did not take {self.restore!r}: {self.message}",
            "stale": "is of an earlier boot: nothing to put back",
            "damaged": f"cannot be used, set aside: {self.message}",
            "held": "belongs to a process that lives",
        }
        return f"{self.path} {words[self.outcome]}"


def restore_all(directory: str | Path) -> list[Restored]:
    """Put back what the dead have left, from every journal in a directory.

    Returns:
        What became of each knob, and of journals that name none that could be used.
    """
    try:
        paths = sorted(p for p in Path(directory).iterdir() if p.suffix == SUFFIX)
    except OSError:  # no directory: nobody has ever held a knob
        return []
    return [told for path in paths for told in restore_journal(path)]


def restore_journal(path: Path) -> list[Restored]:
    """Put back what one journal names; remove it when nothing is left to do."""
    proxy = path.name.removesuffix(SUFFIX)
    try:
        with opened(path) as data:
            if data is None:
                return [Restored(proxy, "held", str(path))]
            if data.boot != boot_id():
                path.unlink()
                return [Restored(proxy, "stale", str(path))]
            told = _put_back(data)
            if all(one.outcome != "failed" for one in told):
                path.unlink()
            return told
    except ValueError as error:
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))
        return [Restored(proxy, "damaged", str(path), message=str(error))]
    except OSError as error:
        return [Restored(proxy, "failed", str(path), message=str(error.strerror))]


def _put_back(data: JournalData) -> list[Restored]:
    told = [_knob(data, entry) for entry in data.entries if not entry.trigger]
    triggers = [entry for entry in data.entries if entry.trigger]
    # What somebody else has taken over is not ended by us.
    if data.overridden or any(one.outcome == "foreign" for one in told):
        return told
    if any(one.outcome == "restored" for one in told):
        told += [_write(data, entry, entry.trigger, "") for entry in triggers]
    return told + [_write(data, entry, entry.restore, "") for entry in triggers]


def _knob(data: JournalData, entry: Entry) -> Restored:
    found: str | None = None
    try:
        with KnobFile(entry.path) as file:
            found = file.read()
    except OSError as error:
        if error.errno in GONE:
            return Restored(data.proxy, "gone", entry.path)
        return Restored(data.proxy, "failed", entry.path, "", entry.restore, str(error.strerror))
    # An unreadable knob cannot be compared: whoever wrote last, it gets its default.
    text = (found or "").strip()
    if found is not None:
        if found == entry.usual:
            return Restored(data.proxy, "unchanged", entry.path, text, entry.restore)
        # While a write is under way, what it will read as is not known: some
        # tunables round.
        if not data.applied or (entry.writing is None and found != entry.seen):
            return Restored(data.proxy, "foreign", entry.path, text, entry.restore)
    elif not data.applied:
        return Restored(data.proxy, "unchanged", entry.path, text, entry.restore)
    return _write(data, entry, entry.restore, text)


def _write(data: JournalData, entry: Entry, text: str, found: str) -> Restored:
    try:
        with KnobFile(entry.path) as file:
            file.put_back(text)
    except OSError as error:
        if error.errno in GONE:
            return Restored(data.proxy, "gone", entry.path)
        why = error.strerror or os.strerror(error.errno or 0)
        return Restored(data.proxy, "failed", entry.path, found, text, why)
    return Restored(data.proxy, "restored", entry.path, found, text)
