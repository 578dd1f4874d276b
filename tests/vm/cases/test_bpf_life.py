"""A BPF model comes, is updated, goes, is refused; the default acts whenever it does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlproxy_vm.modules import EXAMPLE, MODULE, ModuleError, insmod, is_loaded, rmmod

from mlproxy.errors import ProgramError, ProxyError
from mlproxy.proxy import (
    Arm,
    BpfModel,
    KernelProxy,
    Kind,
    Program,
    ProgramNode,
    ProxyConfig,
    Recommendation,
    Reject,
)
from mlproxy.proxy.bpf import WALKER

pytestmark = pytest.mark.usefixtures("bpf")

ZEROS = [0] * 16
DEFAULT = 77  # what `ask` gives as the default's action
SUBMITTED = 5  # what the program says that `trust` submits
REFUSED = {  # case -> the verifier's words
    "outside": "access beyond struct mlproxy_context",
    "writes": "only mlproxy_context.confidence may be written",
    "task": "only mlproxy_context.confidence may be written",
    "sleeps": "attach to unsupported member decide",
    "endless": "infinite loop detected",
}


def leaf(action, confidence=7):
    return Program((ProgramNode(-1, action, confidence=confidence),), nr_features=0)


def case(name):
    return WALKER.with_name(f"{name}.bpf.o")


def is_default(decision):
    return (decision.arm, decision.action, decision.model_version) == (Arm.DEFAULT, DEFAULT, 0)


def test_an_update_counts_at_once(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    for action in (3, -4, 3, 2**31 - 1):
        model.update(leaf(action))
        assert wide_proxy.ask(ZEROS).action == action


def test_coming_and_going_void_what_was_submitted(wide_proxy, attach):
    wide_proxy.trust()
    assert wide_proxy.ask(ZEROS).action == SUBMITTED
    model = attach(wide_proxy.config.name)
    model.update(leaf(9))
    assert is_default(wide_proxy.ask(ZEROS))
    wide_proxy.submit_leaf()
    assert wide_proxy.ask(ZEROS).action == 9
    before = wide_proxy.snapshot(0).fallbacks
    model.close()
    assert is_default(wide_proxy.ask(ZEROS))
    assert wide_proxy.snapshot(0).fallbacks == before + 1
    wide_proxy.submit_leaf()
    assert wide_proxy.ask(ZEROS).action == SUBMITTED


def test_it_is_asked_only_for_the_models_units_and_in_time(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    model.update(leaf(9))
    wide_proxy.trust(expiry=100)
    units = range(2000)
    said = [wide_proxy.decide(ZEROS, unit, DEFAULT, 50) for unit in units]
    arms = [wide_proxy.arm_of(unit, 50) for unit in units]
    assert {Arm.DEFAULT, Arm.MODEL} == set(arms)
    assert [d.action for d in said] == [9 if arm is Arm.MODEL else DEFAULT for arm in arms]
    assert wide_proxy.ask(ZEROS, now=100).action == 9
    assert is_default(wide_proxy.ask(ZEROS, now=101))


def test_reinit_keeps_the_model(wide_proxy, attach):
    attach(wide_proxy.config.name).update(leaf(9))
    wide_proxy.trust()
    wide_proxy.stop(0)
    wide_proxy.reinit(wide_proxy.config, 0)
    wide_proxy.trust()
    assert wide_proxy.ask(ZEROS).action == 9


def test_no_model_yet_and_actions_out_of_range_are_the_defaults(narrow_proxy, attach):
    model = attach(narrow_proxy.config.name)
    narrow_proxy.trust(action=1)
    counted = narrow_proxy.snapshot(0).fallbacks
    assert is_default(narrow_proxy.ask(ZEROS))  # the map is empty
    for action, allowed in ((3, True), (4, False), (-1, False), (-(2**31), False), (0, True)):
        model.update(leaf(action))
        assert is_default(narrow_proxy.ask(ZEROS)) is not allowed
    snapshot = narrow_proxy.snapshot(0)
    assert snapshot.fallbacks == counted + 4
    assert not any(snapshot.rejected.values())


def test_64_bits_are_not_cut_and_confidence_has_a_range(narrow_proxy, attach):
    model = attach(narrow_proxy.config.name, case("wide"))
    narrow_proxy.trust(action=1)
    assert is_default(narrow_proxy.ask([1] * 16))
    model.close()
    attach(narrow_proxy.config.name, case("unsure"))
    narrow_proxy.submit_leaf(1)
    assert narrow_proxy.ask([1000] * 16).confidence == 1000
    assert is_default(narrow_proxy.ask([1001] * 16))
    assert is_default(narrow_proxy.ask([-1] * 16))


def test_a_program_that_is_not_valid_changes_nothing(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    model.update(leaf(9))
    for bad in (leaf(1, confidence=1001), Program((ProgramNode(0, 0, 0, 0),)), b"", b"x" * 99):
        with pytest.raises(ProgramError, match=r"program\.invalid"):
            model.update(bad)
    assert wide_proxy.ask(ZEROS).action == 9


def test_one_model_per_proxy(wide_proxy, attach):
    first = attach(wide_proxy.config.name)
    with pytest.raises(ProxyError, match=r"bpf\.busy"):
        BpfModel(wide_proxy.config.name)
    first.close()
    first.close()
    with pytest.raises(ProxyError, match=r"proxy\.closed"):
        first.update(leaf(1))
    attach(wide_proxy.config.name)


@pytest.mark.parametrize("name", ["nobody", "x" * 31])
def test_unknown_proxy(module, name):
    with pytest.raises(ProxyError, match=r"proxy\.unknown"):
        BpfModel(name)


@pytest.mark.parametrize("name", ["", "x" * 32, "a\0b"])
def test_not_a_name(module, name):
    with pytest.raises(ProxyError, match=r"proxy\.config"):
        BpfModel(name)


@pytest.mark.parametrize("kind", [Kind.VALUE, Kind.CHOICE, Kind.RANK])
def test_only_programs_have_models(module, kind):
    with (
        KernelProxy.create(ProxyConfig("other", kind)),
        pytest.raises(ProxyError, match=r"bpf\.kind"),
    ):
        BpfModel("other")


def test_somebody_must_decide(wide_proxy):
    class Nobody(BpfModel):
        def _name(self, walker):
            super()._name(walker)
            from mlproxy.proxy.libbpf import ffi

            size = ffi.new("size_t *")
            ops = self._lib.bpf_map__initial_value(self._map("walker"), size)
            ffi.memmove(ops, b"\0" * 8, 8)

    with pytest.raises(ProxyError, match=r"bpf\.kind"):
        Nobody(wide_proxy.config.name)


@pytest.mark.parametrize("name", REFUSED)
def test_the_verifier_refuses(wide_proxy, name):
    with pytest.raises(ProxyError, match=r"bpf\.load") as caught:
        BpfModel(wide_proxy.config.name, walker=case(name))
    assert REFUSED[name] in caught.value.context["log"]
    wide_proxy.trust()
    assert wide_proxy.ask(ZEROS).action == SUBMITTED


def test_none_without_a_link(wide_proxy):
    with pytest.raises(ProxyError) as caught:
        BpfModel(wide_proxy.config.name, walker=case("unlinked"))
    assert caught.value.context["errno"] == "EOPNOTSUPP"


LOADER = """
import sys
from mlproxy.proxy import BpfModel, Program, ProgramNode
model = BpfModel(sys.argv[1])
model.update(Program((ProgramNode(-1, 9),), nr_features=0))
print("attached", flush=True)
sys.stdin.read()
"""


def test_it_ends_with_its_process(wide_proxy):
    command = [sys.executable, "-c", LOADER, wide_proxy.config.name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as loader:
        assert loader.stdout.readline() == "attached\n"
        wide_proxy.trust()
        assert wide_proxy.ask(ZEROS).action == 9
        loader.send_signal(signal.SIGKILL)
        loader.wait()
        assert is_default(wide_proxy.ask(ZEROS))


def test_a_forked_child_does_not_keep_it(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    model.update(leaf(9))
    wide_proxy.trust()
    ready, child_ready = os.pipe()
    end, child_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(child_end)
        os.write(child_ready, b"1")
        os.read(end, 1)  # until the parent has closed its end
        os._exit(0)
    os.close(end)
    assert os.read(ready, 1) == b"1"
    assert wide_proxy.ask(ZEROS).action == 9  # and a child does not end it
    model.close()
    assert is_default(wide_proxy.ask(ZEROS))
    os.close(child_end)
    os.waitpid(child, 0)


def test_the_module_stays_while_a_model_is_attached(module):
    """Also when its proxy has gone: the ops in the kernel are the module's code."""
    insmod(EXAMPLE)
    model = BpfModel("example")
    rmmod(EXAMPLE)
    with pytest.raises(ModuleError, match="in use"):
        rmmod(MODULE)
    model.update(leaf(1))
    insmod(EXAMPLE)  # a new proxy of the old name has no model
    with BpfModel("example"):
        model.close()  # and an old one's end is none of its business
        with KernelProxy.attach("example"), pytest.raises(ProxyError, match=r"bpf\.busy"):
            BpfModel("example")
    rmmod(EXAMPLE)
    assert is_loaded(MODULE)
    deadline = time.monotonic() + 60
    while is_loaded(MODULE):  # the kernel frees what was detached a little later
        try:
            rmmod(MODULE)
        except ModuleError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_proxy_goes_under_a_deciding_model(module):
    """Many times: proxies and models come and go in any order."""
    for turn in range(40):
        proxy = KernelProxy.create(ProxyConfig("fleeting", Kind.PROGRAM, nr_features=1))
        model = BpfModel("fleeting")
        model.update(leaf(turn % 2))
        proxy.start(0)
        proxy.decide([1], 1, 0, 0)
        for end in (proxy, model) if turn % 2 else (model, proxy):
            end.close()


def test_submits_reach_the_model_when_they_were_accepted(bpf_proxy):
    bpf_proxy.trust(action=3)
    for seq, action, reject in (
        (0, 2, Reject.REPLAY),
        (9, 9, Reject.LEAF),  # as the module says; the walker would not mind
        (10, 2, Reject.NONE),
        (11, 0, Reject.NONE),
    ):
        before = bpf_proxy.ask(ZEROS).action
        advice = Recommendation(Kind.PROGRAM, seq, 1 << 40, 1, 1, program=leaf(action))
        assert bpf_proxy.submit(advice, 0) is reject
        assert bpf_proxy.ask(ZEROS).action == (before if reject else action)
    # Garbage has the same way: the module's.
    assert bpf_proxy.submit_bytes(b"", 0) is Reject.SIZE
    assert bpf_proxy.submit_bytes(b"x" * 20_000, 0) is Reject.VERSION
    assert bpf_proxy.submit_bytes(b"x" * 200, 0) is Reject.VERSION
    with pytest.raises(ProxyError, match=r"bpf\.busy"):
        BpfModel(bpf_proxy.config.name)
    # Without its model it goes on as any other proxy.
    bpf_proxy.model.close()
    assert is_default(bpf_proxy.ask(ZEROS))
    bpf_proxy.seq = 20
    bpf_proxy.submit_leaf(1)
    assert bpf_proxy.ask(ZEROS).action == 1


def test_no_walker_there(wide_proxy, tmp_path):
    empty = tmp_path / "empty.bpf.o"
    empty.write_bytes(b"")
    for path in (Path("/nowhere"), empty, Path("/bin/true")):
        with pytest.raises(ProxyError, match=r"bpf\.walker"):
            BpfModel(wide_proxy.config.name, walker=path)
