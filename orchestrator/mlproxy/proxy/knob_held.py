"""The knobs of an in-process proxy: applied, restored, compared, noted in the journal.

The steps are those of kmod/module/knob.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy.errors import ProxyError
from mlproxy.log import get_logger
from mlproxy.proxy.knob import Knob, KnobStatus, open_knob
from mlproxy.proxy.knob_file import GONE, PASSING, KnobFile
from mlproxy.proxy.knob_journal import Entry, Journal, journal_path
from mlproxy.proxy.knob_restore import restore_journal

__all__ = ("HeldKnobs",)

_owners: Final[dict[tuple[int, int], tuple[object, str]]] = {}
"""Which file is whose: two proxies would fight for it."""


class HeldKnobs:
    """Knobs that are held open, and what has been written to them.

    Not thread-safe.

    Args:
        proxy: whose they are.
        knobs: which.
        settings: as `settings_of` returns them; of length 0: the value itself.
        journal_dir: where the journal is kept; None: none, a crash leaves what is in force.
        failed: called when a knob does not take a value.
        overridden: called when somebody else has changed one.
        clock: nanoseconds, for `KnobStatus.since`.

    Raises:
        ProxyError: `knob.*`, `proxy.exists`.
    """

    def __init__(
        self,
        proxy: str,
        knobs: Sequence[Knob],
        settings: npt.NDArray[np.int64],
        journal_dir: str | Path | None,
        *,
        failed: Callable[[], None],
        overridden: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self.applied = False
        self.overridden: int | None = None
        self._proxy = proxy
        self._settings = settings
        self._failed, self._taken, self._clock = failed, overridden, clock
        self._again = False  # a default was refused for a reason that passes
        self._setting = 0
        self._writes = self._restores = self._failures = self._since = 0
        self._pid = os.getpid()
        self._token = object()  # not self: the table must not keep it alive
        self._files: list[KnobFile] = []
        self._entries: list[Entry] = []
        self._journal: Journal | None = None
        self._log = get_logger()
        if journal_dir is not None:
            self._settle(journal_path(journal_dir, proxy))
        try:
            for knob in knobs:
                self._take(knob)
            if journal_dir is not None:
                self._journal = Journal(journal_dir, proxy, self._entries)
        except BaseException:
            self._let_go()
            raise

    def _settle(self, path: Path) -> None:
        """What an earlier life has left comes back first: it would be taken for the default."""
        if not path.exists():
            return
        for told in restore_journal(path):
            if told.outcome == "held":
                raise ProxyError(
                    f"{self._proxy}: a process that lives has that proxy's knobs: {path}",
                    code="proxy.exists",
                    hint="another daemon with the same daemon.state_dir; stop it first",
                    path=str(path),
                )
            self._log.warning("knob.left", proxy=told.proxy, outcome=told.outcome, what=str(told))
        if path.exists():
            raise ProxyError(
                f"{self._proxy}: what an earlier run left could not be put back: {path}",
                code="knob.journal",
                hint="the log says why; when the knobs are as they should be, remove the file",
                path=str(path),
            )

    def _take(self, knob: Knob) -> None:
        fd, restore = open_knob(knob)
        file = KnobFile(knob.path, fd, readable=not knob.trigger)
        self._files.append(file)
        token, owner = _owners.setdefault(file.identity, (self._token, self._proxy))
        if token is not self._token or file.identity in (f.identity for f in self._files[:-1]):
            self._files.pop().close()
            raise ProxyError(
                f"{self._proxy}: {knob.path} is held already, by {owner}",
                code="knob.busy",
                hint="one proxy per tunable: stop the other one first",
                knob=knob.path,
            )
        text = file.read()
        self._entries.append(Entry(knob.path, knob.trigger, restore, text, text))

    # -- what is in force -------------------------------------------------------

    def apply(self, action: int) -> None:
        """Put a model's setting in force, unless somebody else has changed a knob."""
        if (which := self._changed_by_others()) is not None:
            self._override(which)
            return
        if self.applied and not self._again and self._setting == action:
            return
        texts = [str(action)] * len(self._entries)
        if len(self._settings):
            texts = [str(value) for value in self._settings[action]]
        values = [i for i, entry in enumerate(self._entries) if not entry.trigger]
        for i in values:
            self._entries[i].writing = texts[i]
        if not self._note(applied=True):
            # What nobody would put back must not be written.
            for i in values:
                self._entries[i].writing = None
            self._failures += 1
            self._failed()
            self.restore()
            return
        self.applied, self._again = True, False  # also when only some of them take it
        self._setting = action
        self._writes += 1
        for i in values:
            error = self._put(i, texts[i])
            self._entries[i].seen = self._files[i].read()
            if error is not None:
                self.restore()
                return
        for i in values:
            self._entries[i].writing = None
        self._note(applied=True)
        self._pull_triggers()
        self._since = self._clock()

    def restore(self) -> None:
        """Put the defaults in force, but not over a value that is somebody else's."""
        if not self.applied:
            return
        self._again = False
        for i, entry in enumerate(self._entries):
            if entry.trigger:
                continue
            text = self._files[i].read()
            if text is not None and text != entry.seen:
                entry.writing = None
                self._override(i)
                continue
            self._put_back(i)
        self._pull_triggers()
        self.applied = self._again  # then the next call tries again
        self._restores += not self._again
        self._since = self._clock()
        self._note(applied=self._owed())

    def adopt(self) -> None:
        """The operator has released the proxy: what he had written is the default now."""
        for entry, file in zip(self._entries, self._files, strict=True):
            text = file.read()
            if text is not None and text != entry.seen:
                entry.seen = entry.usual = text
                entry.restore = text.strip()
        self.overridden = None
        self._note(applied=self._owed())

    def status(self) -> KnobStatus:
        """Return what is in force."""
        return KnobStatus(
            applied=self.applied,
            overridden=self.overridden,
            setting=self._setting,
            writes=self._writes,
            restores=self._restores,
            failures=self._failures,
            since=self._since,
        )

    def close(self) -> None:
        """Put the defaults back and let the knobs go; a second time is harmless."""
        if not self._files:
            return
        if os.getpid() != self._pid:  # a forked child's copy
            if self._journal is not None:
                self._journal.forget()
            self._let_go()
            return
        self.restore()
        for i, entry in enumerate(self._entries):
            if entry.writing is not None:  # an earlier try failed
                self._put_back(i)
            # What somebody else has taken over is not ended by us.
            if entry.trigger and self.overridden is None:
                self._put(i, entry.restore)
        if self._journal is not None:
            self._journal.close(keep=self._owed())
        self._let_go()

    # -- steps ------------------------------------------------------------------

    def _owed(self) -> bool:
        """Whether a default could not be put back."""
        return any(e.writing is not None for e in self._entries)

    def _put(self, i: int, text: str, *, back: bool = False) -> int | None:
        """Write a knob; return an errno when it does not take the text."""
        file = self._files[i]
        try:
            (file.put_back if back else file.write)(text)
        except OSError as error:
            self._failures += 1
            path, why = self._entries[i].path, error.strerror
            self._log.warning("knob.refused", proxy=self._proxy, knob=path, value=text, why=why)
            self._failed()
            return error.errno or errno.EIO
        return None

    def _put_back(self, i: int) -> None:
        entry = self._entries[i]
        error = self._put(i, entry.restore, back=True)
        self._again |= error in PASSING
        entry.writing = None if error is None or error in GONE else entry.restore
        entry.seen = self._files[i].read()
        if entry.writing is None:
            entry.usual = entry.seen

    def _pull_triggers(self) -> None:
        for i, entry in enumerate(self._entries):
            if entry.trigger:
                self._put(i, entry.trigger)

    def _changed_by_others(self) -> int | None:
        for i, (entry, file) in enumerate(zip(self._entries, self._files, strict=True)):
            text = file.read()
            if text is not None and text != entry.seen:
                return i
        return None

    def _override(self, which: int) -> None:
        if self.overridden is not None:
            return
        self.overridden = which
        path = self._entries[which].path
        self._log.warning("knob.overridden", proxy=self._proxy, knob=path)
        self._note(applied=self.applied)
        self._taken()

    def _note(self, *, applied: bool) -> bool:
        if self._journal is None:
            return True
        try:
            overridden = self.overridden is not None
            self._journal.note(self._entries, applied=applied, overridden=overridden)
        except OSError as error:
            self._log.error("knob.journal", proxy=self._proxy, why=str(error))
            return False
        return True

    def _let_go(self) -> None:
        for file in self._files:
            if os.getpid() == self._pid:
                _owners.pop(file.identity, None)
            file.close()
        self._files.clear()
