"""The kernel transport's own half: errors, requests, the mapped ring. No module is needed."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy import RECORD_DTYPE, KernelClock, KernelProxy, Kind, Knob, ProxyConfig, Trial
from mlproxy.proxy.device import module_info, open_device
from mlproxy.proxy.kernel_file import KernelFile
from mlproxy.proxy.kernel_make import _create_failure
from mlproxy.proxy.knob import open_knob
from mlproxy.proxy.knob_rules import settings_of
from mlproxy.proxy.native import config_of, native_config
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.ring import RingReader, ring_bytes

ffi, lib = _core.ffi, _core.lib
HEADER = Path(__file__).resolve().parents[2] / "kmod/uapi/mlproxy_ioctl.h"
CONFIG = ProxyConfig("unit", Kind.CHOICE, max=3)
KNOBBED = ProxyConfig("unit", Kind.CHOICE, Trial.SWITCHBACK, max=1, epoch=10**9)


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    assert caught.value.args[0]
    return caught.value.code


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


class TestRefusals:
    def test_every_errno_of_the_header_has_a_meaning_of_its_own(self):
        text = HEADER.read_text(encoding="utf-8")
        always = {e for e in ("ENOTTY", "ENOTCONN", "ENODEV") if e in text}
        assert len(always) == 3
        for name in always:
            assert failure(getattr(errno, name), "tick", "p").code != "kernel.call"
        described = {
            "create": ("EEXIST", "EPERM", "EBADF", "EOPNOTSUPP", "ERANGE", "EBUSY"),
            "attach": ("ENOENT", "EBUSY"),
            "reinit": ("EBUSY", "EPERM"),
        }
        for what, names in described.items():
            assert all(re.search(rf"\b{name}\b", text) for name in names)
            codes = [failure(getattr(errno, name), what, "p").code for name in names]
            assert len(set(codes)) == len(names)
            assert "kernel.call" not in codes

    def test_what_has_no_meaning_is_told_with_its_name(self):
        error = failure(errno.EFAULT, "tick", "readahead", where="x")
        assert error.code == "kernel.call"
        assert "readahead" in str(error)
        assert "EFAULT" in str(error)
        assert error.context == {"call": "tick", "errno": "EFAULT", "where": "x"}
        assert "4096" in str(failure(4096, "tick", "p"))

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
    def test_no_permission_names_the_group(self, number):
        error = failure(number, "open", "/dev/mlproxy")
        assert error.code == "kernel.permission"
        assert "group" in error.hint

    def test_without_a_module_the_hint_says_how_to_get_it(self, tmp_path):
        for call in (open_device, module_info):
            with pytest.raises(ProxyError) as caught:
                call(str(tmp_path / "mlproxy"))
            assert caught.value.code == "kernel.no_module"
            assert "modprobe" in caught.value.hint

    def test_another_device_is_not_taken_for_ours_and_nothing_stays_open(self):
        before = open_files()
        assert code(open_device, "/dev/null") == "kernel.version"
        assert code(module_info, "/dev/null") == "kernel.version"
        assert code(KernelProxy.attach, "x", device="/dev/null") == "kernel.version"
        assert open_files() == before


class TestRequests:
    """What is told before the kernel is asked; /dev/null would be refused later."""

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"capacity": 0}, "capacity"),
            ({"capacity": 100}, "capacity"),
            ({"capacity": 1 << 21}, "capacity"),
            ({"clock": KernelClock.OWNER}, "clock"),
            ({"config": ProxyConfig("a/b", Kind.CHOICE)}, "name"),
            ({"config": ProxyConfig("", Kind.CHOICE)}, "name"),
            ({"config": ProxyConfig("x", Kind.CHOICE, alpha=0)}, "alpha"),
        ],
    )
    def test_fields(self, changes, field):
        with pytest.raises(ProxyError) as caught:
            KernelProxy.create(**{"config": CONFIG, "device": "/dev/null"} | changes)
        assert (caught.value.code, caught.value.context["field"]) == ("proxy.config", field)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"trial": Trial.PARTITION}, "trial"),
            ({"kind": Kind.PROGRAM, "nr_features": 1}, "kind"),
            ({"nr_features": 1}, "nr_features"),
            ({"nr_streams": 2}, "nr_streams"),
        ],
    )
    def test_fields_with_knobs(self, changes, field, tmp_path):
        config = ProxyConfig(**{f: getattr(KNOBBED, f) for f in KNOBBED.__slots__} | changes)
        knobs = [Knob(str(tmp_path / "k"), 0, 9)]
        with pytest.raises(ProxyError) as caught:
            KernelProxy.create(config, knobs=knobs, settings=[[1], [2]], device="/dev/null")
        assert (caught.value.code, caught.value.context["field"]) == ("proxy.config", field)

    def test_settings_have_a_row_per_choice_and_a_value_per_knob(self, tmp_path):
        path = tmp_path / "knob"
        path.write_text("7\n")
        knob = Knob(str(path), 0, 9)
        before = open_files()
        wrong = [
            ([knob], []),
            ([knob], [[1]]),
            ([knob, knob], [[1], [2]]),
            ([knob] * 9, [[1] * 9, [2] * 9]),
            ([], [[1], [2]]),
            ([Knob(str(path), trigger="commit", restore="off")], [[], []]),
        ]
        for knobs, settings in wrong:
            how = {"knobs": knobs, "settings": settings, "device": "/dev/null"}
            assert code(KernelProxy.create, KNOBBED, **how) == "knob.settings"
        right = {"knobs": [knob], "settings": [[1], [2]], "device": "/dev/null"}
        assert code(KernelProxy.create, KNOBBED, **right) == "kernel.version"
        assert open_files() == before

    def test_what_the_module_says_is_wrong_is_told_with_its_file(self):
        knobs = [Knob("/sys/a", 0, 9), Knob("/sys/b", 0, 9)]
        told = _create_failure(errno.EBADF, KNOBBED, "knobs[1]", knobs)
        assert (told.code, told.context["knob"]) == ("knob.not_writable", "/sys/b")
        told = _create_failure(errno.ERANGE, KNOBBED, "settings[3]", knobs)
        assert (told.code, told.context["setting"]) == ("knob.range", "choice 1 of /sys/b")
        told = _create_failure(errno.EOPNOTSUPP, KNOBBED, "knobs[0]", knobs)
        assert (told.code, told.context["errno"]) == ("knob.file", "EOPNOTSUPP")
        for number, expected in ((errno.EBUSY, "busy"), (errno.EPERM, "permission")):
            told = _create_failure(number, KNOBBED, "knobs", knobs)  # of none in particular
            assert (told.code, "knob" in told.context) == (f"knob.{expected}", False)
        told = _create_failure(errno.EINVAL, KNOBBED, "alpha", knobs)
        assert (told.code, told.context["field"]) == ("proxy.config", "alpha")
        assert _create_failure(errno.EEXIST, KNOBBED, "name", ()).code == "proxy.exists"
        assert _create_failure(errno.EPERM, KNOBBED, "knobs[0]", knobs).code == "knob.permission"
        version = _create_failure(errno.EPROTONOSUPPORT, KNOBBED, "abi_version", ())
        assert version.code == "kernel.version"

    def test_triggers_have_no_column_in_the_settings(self):
        knobs = [
            Knob("/sys/a", 0, 9),
            Knob("/sys/state", trigger="commit", restore="off"),
            Knob("/sys/b", 0, 9),
        ]
        full = settings_of(KNOBBED, knobs, [[1, 2], [3, 4]])
        assert full.tolist() == [[1, 0, 2], [3, 0, 4]]
        one = ProxyConfig("v", Kind.VALUE, Trial.SWITCHBACK, epoch=9)
        assert not len(settings_of(one, knobs[:2], []))
        assert code(settings_of, one, knobs, []) == "knob.settings"
        assert code(settings_of, one, knobs[1::-1], []) == "knob.settings"

    def test_a_name_that_no_proxy_can_have(self):
        for name in ("", "n" * 32):
            assert code(KernelProxy.attach, name, device="/dev/null") == "proxy.config"

    def test_a_configuration_survives_the_struct(self):
        config = ProxyConfig("p.q", Kind.VALUE, Trial.SWITCHBACK, min=-9, max=1, epoch=5, seed=7)
        assert config_of(native_config(config)) == config


class TestKnobs:
    def test_the_present_value_is_what_restores(self, tmp_path):
        path = tmp_path / "knob"
        path.write_text("always madvise [never]\n")
        fd, restore = open_knob(Knob(str(path), 0, 9))
        assert os.get_inheritable(fd) is False
        os.close(fd)
        assert restore == "always madvise [never]"
        fd, restore = open_knob(Knob(str(path), 0, 9, restore="never"))
        os.close(fd)
        assert restore == "never"

    def test_what_cannot_be_a_knob(self, tmp_path):
        empty, full = tmp_path / "empty", tmp_path / "full"
        empty.touch()
        full.write_text("x" * 64)
        before = open_files()
        assert code(open_knob, Knob(str(tmp_path / "none"), 0, 1)) == "knob.open"
        assert code(open_knob, Knob(str(tmp_path), 0, 1)) == "knob.open"
        assert code(open_knob, Knob(str(empty), 0, 1)) == "knob.restore"
        assert code(open_knob, Knob(str(full), 0, 1)) == "knob.restore"
        assert code(open_knob, Knob(str(full), 0, 1, restore="a\0b")) == "knob.restore"
        assert code(open_knob, Knob(str(full), 2, 1, restore="1")) == "knob.range"
        trigger = {"trigger": "commit", "restore": "off"}
        assert code(open_knob, Knob(str(full), 0, 1, **trigger)) == "knob.settings"
        assert code(open_knob, Knob(str(full), trigger="commit")) == "knob.settings"
        assert code(open_knob, Knob(str(full), trigger="c" * 64, restore="x")) == "knob.settings"
        assert open_files() == before


class Producer:
    """A core that publishes into a memory file, as the kernel does into its pages."""

    def __init__(self, capacity):
        self.size = ring_bytes(capacity)
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, self.size)
        self.pages = mmap.mmap(self.fd, self.size)
        self.memory = ffi.new("char[]", lib.mlp_proxy_size())
        self.core = ffi.cast("struct mlp_proxy *", self.memory)
        ring = ffi.from_buffer(self.pages)
        assert lib.mlp_init(self.core, native_config(CONFIG), ffi.NULL, ring, capacity, 0) == 0
        self.record = ffi.new("struct mlp_record *")
        self.lock = threading.Lock()  # as the module's: one at a time, but for the reader

    def publish(self, unit):
        self.record.unit = unit
        self.record.cost = self.record.aux = -unit
        self.record.features = [unit & 0x7FFFFFFF] * 16
        with self.lock:
            lib.mlp_publish(self.core, self.record)

    def consume(self, upto):
        with self.lock:
            assert lib.mlp_consume(self.core, upto) == 0


@pytest.fixture
def producer():
    producer = Producer(16)
    yield producer
    os.close(producer.fd)


def mapped(producer, capacity=16):
    file = KernelFile(os.dup(producer.fd), "unit", capacity)
    return file, RingReader(file.memory, capacity)


class TestMappedRing:
    def test_views_show_what_the_other_side_writes(self, producer):
        file, reader = mapped(producer)
        for unit in range(5):
            producer.publish(unit)
        (view,) = reader.peek()
        assert view.dtype == RECORD_DTYPE
        assert view["unit"].tolist() == [0, 1, 2, 3, 4]
        assert not view.flags.writeable
        producer.consume(reader.upto(5))
        assert reader.peek() == ()
        file.close()

    def test_closing_lets_the_file_go_and_leaves_zeros_in_views(self, producer):
        file, reader = mapped(producer)
        producer.publish(77)
        (view,) = reader.peek()
        assert view["unit"].tolist() == [77]
        inode = f":{os.fstat(producer.fd).st_ino} "
        mappings = Path("/proc/self/maps")
        before = sum(inode.strip(": ") in line for line in mappings.read_text().splitlines())
        file.close()
        file.close()
        after = sum(inode.strip(": ") in line for line in mappings.read_text().splitlines())
        assert (file.fileno(), before - after) == (-1, 1)
        assert view["unit"].tolist() == [0]
        assert code(file.call, lib.MLP_IOC_TICK, ffi.NULL, "tick") == "proxy.closed"
        assert code(file.wait, 0) == "proxy.closed"

    def test_views_outlive_file_and_reader(self, producer):
        file, reader = mapped(producer)
        producer.publish(5)
        (view,) = reader.peek()
        del file, reader
        gc.collect()
        assert view["seq"].shape == (1,)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_child_does_not_keep_it(self, producer):
        file, _ = mapped(producer)
        fd = file.fileno()
        child = os.fork()
        if not child:
            try:
                os.fstat(fd)
            except OSError:
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert os.fstat(fd)
        file.close()

    def test_a_lapped_reader_is_told_and_reads_no_torn_record(self, producer):
        file, reader = mapped(producer)
        stop = threading.Event()

        def produce():
            unit = 0
            while not stop.is_set():
                unit += 1
                producer.publish(unit)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            whole = lost = last = 0
            while whole < 300 or not lost:
                views = reader.peek()
                count = sum(len(view) for view in views)
                rows = np.concatenate([view.copy() for view in views]) if count else []
                overwritten = reader.overwritten(count)
                lost += overwritten
                for row in rows[overwritten:]:
                    unit = int(row["unit"])
                    assert row["seq"] == unit > last
                    assert (row["cost"], row["aux"]) == (-unit, -unit)
                    assert set(row["features"].tolist()) == {unit}
                    last = unit
                    whole += 1
                producer.consume(reader.upto(count))
                reader.consumed(count)
        finally:
            stop.set()
            thread.join()
        file.close()
