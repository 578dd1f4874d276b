"""Knobs held by this process: epochs, emergencies, overrides, and what a dead process leaves."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    Arm,
    InProcessKnobProxy,
    Kind,
    Knob,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    Trial,
)
from mlproxy.proxy import knob_journal as journals
from mlproxy.proxy.knob_file import KnobFile
from mlproxy.proxy.knob_restore import restore_all

SECOND = 1_000_000_000
CONFIG = ProxyConfig(
    "unit.knobs",
    Kind.CHOICE,
    Trial.SWITCHBACK,
    max=2,
    epoch=SECOND,
    heartbeat_limit=3 * SECOND,
    cooldown=5 * SECOND,
    cooldown_max=5 * SECOND,
    share_trusted=999_999,
)
OTHER = ProxyConfig("other", Kind.CHOICE, Trial.SWITCHBACK, max=2, epoch=SECOND)
SETTINGS = [[10, 1], [20, 2], [30, 3]]


class Rig:
    """Two tunables (plain files), a clock, and the proxy that holds them."""

    def __init__(self, root: Path, *, journal: bool = True) -> None:
        self.now = 100 * SECOND
        self.a, self.b = root / "a", root / "b"
        self.a.write_text("7\n")
        self.b.write_text("0\n")
        self.journal = root / "state" / "knob-journal" if journal else None
        self.seq = 0
        self.proxy = self.made()

    def knobs(self):
        return [Knob(str(self.a), 0, 100), Knob(str(self.b), 0, 3)]

    def made(self, config=CONFIG, knobs=None, settings=SETTINGS, **more):
        return InProcessKnobProxy(
            config,
            self.knobs() if knobs is None else knobs,
            settings=settings,
            journal_dir=self.journal,
            clock=lambda: self.now,
            timer=False,
            **more,
        )

    def submit(self, choice, seconds=60):
        self.seq += 1
        return self.proxy.submit(
            Recommendation(Kind.CHOICE, self.seq, self.now + seconds * SECOND, 1, 1, value=choice),
            0,
        )

    def trust(self, choice=1):
        """The model acts from here on."""
        self.proxy.start(0)
        self.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        self.submit(choice)
        self.next()

    def next(self, seconds=1):
        self.now += seconds * SECOND
        self.proxy.heartbeat(0)

    def values(self):
        return self.a.read_text().strip(), self.b.read_text().strip()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.proxy.close()


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    return caught.value.code


class TestEpochs:
    def test_nothing_is_written_before_a_models_epoch(self, rig):
        rig.proxy.start(0)
        rig.submit(1)
        rig.proxy.tick(0)
        status = rig.proxy.knob_status()
        assert (status.writes, status.restores, status.since) == (0, 0, 0)
        assert rig.values() == ("7", "0")

    def test_the_models_setting_all_knobs_at_once_and_back_on_stop(self, rig):
        rig.trust(1)
        assert rig.values() == ("20", "2")
        status = rig.proxy.knob_status()
        assert (status.applied, status.setting, status.writes) == (True, 1, 1)
        assert status.since == rig.now
        rig.submit(2)
        assert rig.values() == ("20", "2")  # within an epoch nothing changes
        rig.next()
        assert rig.values() == ("30", "3")
        rig.proxy.stop(0)
        assert rig.values() == ("7", "0")
        assert rig.proxy.knob_status().restores == 1

    def test_arms_follow_the_cores_trial(self, tmp_path):
        rig = Rig(tmp_path)
        rig.proxy.start(0)
        rig.proxy.set_mode(Mode.COLLABORATION, Reason.OPERATOR, 0)
        seen = set()
        for _ in range(200):
            rig.submit(1)
            rig.next()
            applied = rig.proxy.knob_status().applied
            arm = rig.proxy._core.arm_of(0, rig.now)
            assert applied is (arm is Arm.MODEL)
            assert rig.values() == (("20", "2") if applied else ("7", "0"))
            seen.add(applied)
        assert seen == {False, True}
        decisions = rig.proxy.snapshot(0).decisions
        assert sum(decisions) >= 200
        rig.proxy.close()

    def test_a_value_goes_to_the_first_knob(self, tmp_path):
        rig = Rig(tmp_path, journal=False)
        rig.proxy.close()
        config = ProxyConfig("v", Kind.VALUE, Trial.SWITCHBACK, min=1, max=50, epoch=SECOND)
        rig.proxy = rig.made(config, rig.knobs()[:1], ())
        rig.proxy.start(0)
        rig.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        rig.proxy.submit(Recommendation(Kind.VALUE, 1, rig.now * 2, 1, 1, value=44), 0)
        for _ in range(20):
            rig.next()
            if rig.proxy.knob_status().applied:
                break
        assert rig.values() == ("44", "0")
        rig.proxy.close()
        assert rig.values() == ("7", "0")

    def test_an_expired_recommendation_gives_the_default_back_within_the_epoch(self, rig):
        rig.proxy.start(0)
        rig.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        rig.seq += 1
        expiry = rig.now + SECOND + SECOND // 2
        rig.proxy.submit(Recommendation(Kind.CHOICE, 1, expiry, 1, 1, value=1), 0)
        rig.next()
        assert rig.values() == ("20", "2")
        rig.now += SECOND * 6 // 10
        rig.proxy.tick(0)
        assert rig.values() == ("7", "0")


class TestEmergency:
    @pytest.mark.parametrize(
        ("cause", "reason"),
        [
            (lambda p: p.operator_emergency(True, 0), Reason.OPERATOR),
            (lambda p: p.critical(True, 0), Reason.CRITICAL),
            (lambda p: p.set_mode(Mode.EMERGENCY, Reason.OPERATOR, 0), Reason.OPERATOR),
        ],
    )
    def test_the_default_is_back_when_the_call_returns(self, rig, cause, reason):
        rig.trust()
        cause(rig.proxy)
        assert rig.values() == ("7", "0")
        assert rig.proxy.snapshot(0).reason is reason

    def test_silence(self, rig):
        rig.trust()
        rig.now += 2 * SECOND
        rig.proxy.tick(0)
        assert rig.proxy.snapshot(0).mode is Mode.TRUSTED
        rig.now += 2 * SECOND
        rig.proxy.tick(0)
        assert rig.proxy.snapshot(0).reason is Reason.HEARTBEAT
        assert rig.values() == ("7", "0")

    def test_a_knob_that_refuses(self, rig, monkeypatch):
        rig.trust(1)
        write = KnobFile.write

        def refuse(self, text):
            if text == "3":
                raise OSError(22, "Invalid argument")
            write(self, text)

        monkeypatch.setattr(KnobFile, "write", refuse)
        rig.submit(2)
        rig.next()
        assert rig.values() == ("7", "0")  # also the first knob, which had taken it
        snapshot = rig.proxy.snapshot(0)
        assert (snapshot.mode, snapshot.reason) == (Mode.EMERGENCY, Reason.WRITE_FAILED)
        assert rig.proxy.knob_status().failures == 1

    def test_a_default_that_is_refused_for_a_moment(self, rig, monkeypatch):
        rig.trust(1)
        write, tries = KnobFile.write, []

        def busy(self, text):
            tries.append(text)
            if len(tries) < 5:
                raise OSError(16, "Device or resource busy")
            write(self, text)

        monkeypatch.setattr(KnobFile, "write", busy)
        rig.proxy.stop(0)
        assert rig.values() == ("7", "0")
        assert rig.proxy.knob_status().failures == 0

    def test_a_default_that_is_refused_for_longer_is_tried_again(self, rig, monkeypatch):
        rig.trust(1)
        with monkeypatch.context() as patch:

            def busy(self, text):
                raise OSError(16, "Device or resource busy")

            patch.setattr(KnobFile, "write", busy)
            rig.proxy.stop(0)
            assert rig.values() == ("20", "2")
            assert rig.proxy.look_after() == 1.0
        status = rig.proxy.knob_status()
        assert (status.applied, status.restores) == (True, 0)
        assert rig.proxy.look_after() is None
        assert rig.values() == ("7", "0")
        status = rig.proxy.knob_status()
        assert (status.applied, status.restores) == (False, 1)

    def test_without_a_journal_no_setting(self, rig, monkeypatch):
        rig.proxy.start(0)
        rig.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        rig.submit(1)

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journals.Journal, "note", full)
        rig.next()
        assert rig.values() == ("7", "0")
        assert rig.proxy.snapshot(0).reason is Reason.WRITE_FAILED
        assert rig.proxy.knob_status().writes == 0


class TestOverride:
    def test_a_foreign_value_is_left_alone_and_adopted_on_release(self, rig):
        rig.trust(1)
        rig.a.write_text("55\n")
        rig.next()
        snapshot = rig.proxy.snapshot(0)
        assert snapshot.operator_hold
        assert (snapshot.mode, snapshot.reason) == (Mode.EMERGENCY, Reason.OPERATOR_OVERRIDE)
        assert rig.proxy.knob_status().overridden == 0
        assert rig.values() == ("55", "0")
        rig.proxy.operator_emergency(False, 0)
        assert rig.proxy.knob_status().overridden is None
        rig.next(6)
        rig.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        rig.submit(2)
        rig.next()
        assert rig.values() == ("30", "3")
        rig.proxy.close()
        assert rig.values() == ("55", "0")

    def test_in_the_defaults_time_too(self, rig):
        rig.proxy.start(0)
        rig.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        rig.b.write_text("1\n")
        rig.submit(1)
        rig.next()
        assert rig.values() == ("7", "1")
        assert rig.proxy.knob_status().overridden == 1


class TestTriggers:
    def knobs(self, rig, log):
        log.write_text("")
        return [Knob(str(rig.a), 0, 100), Knob(str(log), trigger="commit", restore="off")]

    def test_written_after_each_change_and_at_the_end(self, rig, tmp_path, monkeypatch):
        rig.proxy.close()
        log = tmp_path / "state-file"
        rig.proxy = rig.made(knobs=self.knobs(rig, log), settings=[[1], [2], [3]])
        written = []
        write = KnobFile.write
        monkeypatch.setattr(
            KnobFile, "write", lambda f, t: (written.append((Path(f.path).name, t)), write(f, t))
        )
        rig.trust(1)
        rig.proxy.stop(0)
        rig.proxy.close()
        assert written == [
            ("a", "2"),
            ("state-file", "commit"),
            ("a", "7"),
            ("state-file", "commit"),
            ("state-file", "off"),
        ]


class TestRefusals:
    def test_what_can_be_no_knob_proxy(self, rig):
        knobs = rig.knobs()
        wrong = [
            ({"knobs": []}, "knob.settings"),
            ({"settings": [[1, 1]]}, "knob.settings"),
            ({"settings": [[10, 1], [20, 2], [30, 4]]}, "knob.range"),
            ({"knobs": [Knob(str(rig.a), 5, 1), knobs[1]]}, "knob.range"),
            ({"knobs": [Knob("/nowhere", 0, 100), knobs[1]]}, "knob.open"),
            ({"config": ProxyConfig("x", Kind.CHOICE, max=2)}, "proxy.config"),
            ({}, "proxy.exists"),
        ]
        for changes, expected in wrong:
            # By another name: else the living one's journal would be told of first.
            other = {"config": OTHER} if changes else {}
            assert code(rig.made, **other | changes) == expected
        assert rig.proxy.knob_status().writes == 0

    def test_one_owner_per_knob(self, rig):
        assert code(rig.made, OTHER) == "knob.busy"
        journal, rig.journal = rig.journal, None
        assert code(rig.made) == "knob.busy"  # nor another one of the same name
        rig.journal = journal
        twice = [rig.knobs()[0]] * 2
        rig.proxy.close()
        assert code(rig.made, OTHER, twice) == "knob.busy"
        rig.proxy = rig.made(OTHER)

    def test_closed(self, rig):
        rig.proxy.close()
        rig.proxy.close()
        for call in (
            lambda: rig.proxy.start(0),
            lambda: rig.proxy.snapshot(0),
            rig.proxy.peek,
            rig.proxy.knob_status,
        ):
            assert code(call) == "proxy.closed"
        assert rig.proxy.look_after() is None
        assert list(rig.journal.iterdir()) == []


class TestThread:
    def test_it_follows_by_itself_and_ends_with_the_proxy(self, tmp_path):
        knob = tmp_path / "k"
        knob.write_text("7\n")
        config = ProxyConfig(
            "t", Kind.CHOICE, Trial.SWITCHBACK, epoch=20_000_000, share_trusted=999_999
        )
        proxy = InProcessKnobProxy(config, [Knob(str(knob), 0, 9)], settings=[[1], [2]])
        threads = {t for t in threading.enumerate() if t.name == "knobs-t"}
        assert len(threads) == 1
        proxy.start(0)
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        proxy.submit(Recommendation(Kind.CHOICE, 1, 1 << 62, 1, 1, value=1), 0)
        while not proxy.knob_status().applied:
            pass
        assert knob.read_text() == "2"
        del proxy
        gc.collect()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert knob.read_text() == "7"


def leave(rig, *, applied=1):
    """What a process that dies at once leaves: no close, the lock gone."""
    rig.trust(applied)
    held = rig.proxy._knobs
    held._journal.forget()
    held._journal = None
    held._let_go()
    rig.proxy._knobs = None


def told(rig):
    return {(Path(t.path).name, t.outcome) for t in restore_all(rig.journal)}


class TestJournal:
    def test_owner_only_and_gone_after_a_clean_end(self, rig):
        (path,) = rig.journal.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert rig.journal.stat().st_mode & 0o777 == 0o700
        assert told(rig) == {("unit.knobs.json", "held")}
        rig.proxy.close()
        assert told(rig) == set()

    def test_what_the_dead_have_left_is_put_back(self, rig):
        leave(rig)
        assert rig.values() == ("20", "2")
        assert told(rig) == {("a", "restored"), ("b", "restored")}
        assert rig.values() == ("7", "0")
        assert told(rig) == set()

    def test_what_somebody_else_has_set_since_is_left_alone(self, rig):
        leave(rig)
        rig.a.write_text("99\n")
        assert told(rig) == {("a", "foreign"), ("b", "restored")}
        assert rig.values() == ("99", "0")
        assert told(rig) == set()

    def test_a_write_under_way_is_put_back_whatever_it_reads_as(self, rig):
        rig.trust(1)
        held = rig.proxy._knobs
        held._entries[0].writing = "31"
        held._note(applied=True)
        rig.a.write_text("28\n")  # a tunable that rounds
        held._journal.forget()
        held._journal = None
        held._let_go()
        rig.proxy._knobs = None
        assert told(rig) == {("a", "restored"), ("b", "restored")}
        assert rig.values() == ("7", "0")

    def test_another_boot_has_nothing_to_put_back(self, rig, monkeypatch):
        leave(rig)
        monkeypatch.setattr("mlproxy.proxy.knob_restore.boot_id", lambda: "another")
        assert told(rig) == {("unit.knobs.json", "stale")}
        assert rig.values() == ("20", "2")
        assert list(rig.journal.iterdir()) == []

    def test_a_knob_that_is_gone(self, rig):
        leave(rig)
        rig.a.unlink()
        assert told(rig) == {("a", "gone"), ("b", "restored")}
        assert told(rig) == set()

    def test_one_that_refuses_is_tried_again(self, rig, monkeypatch):
        leave(rig)
        with monkeypatch.context() as patch:

            def refuse(self, text):
                raise OSError(16, "Device or resource busy")

            patch.setattr(KnobFile, "write", refuse)
            assert told(rig) == {("a", "failed"), ("b", "failed")}
            assert code(rig.made) == "knob.journal"
        assert told(rig) == {("a", "restored"), ("b", "restored")}

    def test_a_new_proxy_puts_back_first_what_the_last_one_left(self, rig):
        leave(rig)
        rig.proxy = rig.made()
        assert rig.values() == ("7", "0")
        rig.proxy.close()
        assert rig.values() == ("7", "0")

    def test_a_default_that_was_not_taken_is_owed(self, rig, monkeypatch):
        rig.trust(1)
        with monkeypatch.context() as patch:

            def refuse(self, text):
                raise OSError(16, "Device or resource busy")

            patch.setattr(KnobFile, "write", refuse)
            rig.proxy.close()
        assert rig.values() == ("20", "2")
        assert told(rig) == {("a", "restored"), ("b", "restored")}

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda p: p.write_bytes(b""),
            lambda p: p.write_bytes(p.read_bytes()[:4200]),
            lambda p: p.write_bytes(p.read_bytes().replace(b'"applied"', b'"applies"')),
            lambda p: p.write_bytes(p.read_bytes().replace(b"knobs-1", b"knobs-9")),
            lambda p: p.write_bytes(os.urandom(9000)),
            lambda p: p.chmod(0o622),
            lambda p: p.parent.chmod(0o770),
        ],
    )
    def test_one_that_cannot_be_relied_on_is_set_aside(self, rig, spoil):
        leave(rig)
        (path,) = rig.journal.iterdir()
        spoil(path)
        assert told(rig) == {("unit.knobs.json", "damaged")}
        assert rig.values() == ("20", "2")
        assert [p.name for p in rig.journal.iterdir()] == ["unit.knobs.damaged"]
        rig.journal.chmod(0o700)

    def test_a_link_is_not_followed(self, rig, tmp_path):
        rig.proxy.close()
        (rig.journal / "x.json").symlink_to(tmp_path / "elsewhere")
        assert told(rig) == {("x.json", "failed")}

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_child_gives_nothing_back(self, rig):
        rig.trust(1)
        child = os.fork()
        if not child:
            rig.proxy.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert rig.values() == ("20", "2")
        assert len(list(rig.journal.iterdir())) == 1

    def test_a_process_killed_in_a_models_epoch(self, tmp_path):
        rig = Rig(tmp_path)
        rig.proxy.close()
        script = f"""
import time
from mlproxy.proxy import *
from mlproxy.proxy.types import Mode, Reason
config = ProxyConfig("killed", Kind.CHOICE, Trial.SWITCHBACK, epoch=10_000_000,
                     share_trusted=999_999)
proxy = InProcessKnobProxy(config, [Knob({str(rig.a)!r}, 0, 99)], settings=[[1], [64]],
                           journal_dir={str(rig.journal)!r})
proxy.start(0)
proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
proxy.submit(Recommendation(Kind.CHOICE, 1, 1 << 62, 1, 1, value=1), 0)
while not proxy.knob_status().applied:
    time.sleep(0.001)
print("in force", flush=True)
time.sleep(600)
"""
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"in force\n"
            process.send_signal(signal.SIGSTOP)
            assert told(rig) == {("killed.json", "held")}
            assert rig.a.read_text() == "64"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert told(rig) == {("a", "restored")}
        assert rig.a.read_text() == "7"
