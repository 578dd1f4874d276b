"""The BPF walker gives what the core's evaluator gives, bit for bit, and never half a model."""

import random
import threading

import numpy as np
import pytest
from mlproxy_vm import programs
from mlproxy_vm.consumer import DECIDE, FOLDER, OP

from mlproxy.proxy import (
    Arm,
    BpfProxy,
    Decision,
    KernelProxy,
    Kind,
    Mode,
    Program,
    ProgramNode,
    Reason,
    Recommendation,
    Reject,
)

pytestmark = pytest.mark.usefixtures("bpf")


def leaf(action, stream=0):
    return Program((ProgramNode(-1, action, confidence=7),), nr_features=0, stream=stream)


def test_single_programs(wide_proxy, attach):
    """All that the walker may meet: one node to 1024, one tree to 8, cuts, 24 deep, 4 streams."""
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    rng = random.Random(1)
    for turn in range(60):
        stream = turn % 4
        nodes, trees = rng.choice((1, 2, 3, 40, 1024)), rng.choice((1, 1, 2, 5, 8))
        if turn % 6 == 5:
            one = programs.chain(rng, 24, stream=stream)
        else:
            one = programs.program(rng, nodes, trees, cuts=turn % 3 == 0, stream=stream)
        model.update(one)
        for _ in range(100):
            features = programs.row(rng)
            said = wide_proxy.ask(features, stream)
            assert said == Decision(Arm.MODEL, *_with_version(programs.evaluate(one, features)))


def _with_version(evaluated):
    action, confidence = evaluated
    return action, 1, confidence


@pytest.mark.parametrize("depth", [0, 1, 23, 24])
def test_the_deepest_leaf_is_found(wide_proxy, attach, depth):
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    one = programs.chain(random.Random(depth), depth)
    model.update(one)
    features = [-5] * programs.FEATURES  # left at every node: to the very end
    assert one.nodes[-1].value == wide_proxy.ask(features).action


def test_sums_that_do_not_fit_are_cut(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    for value, action in ((programs.MOST, programs.MOST), (programs.LEAST, programs.LEAST)):
        model.update(Program((ProgramNode(-1, value),), (0,) * 8, 0))
        assert wide_proxy.ask([0] * programs.FEATURES).action == action


def test_streams_have_models_of_their_own(wide_proxy, attach):
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    for stream in range(4):
        model.update(leaf(stream * 10, stream))
    said = [wide_proxy.ask([0] * programs.FEATURES, stream).action for stream in range(4)]
    assert said == [0, 10, 20, 30]


def test_nobody_sees_half_a_model(wide_proxy, attach):
    """Every leaf says the same, so a mixture of two models would give another sum."""
    model = attach(wide_proxy.config.name)
    wide_proxy.trust()
    rng = random.Random(2)
    shape = programs.program(rng, 1023, 8, cuts=False)
    two = [
        Program(
            tuple(n if n.feature >= 0 else ProgramNode(-1, value) for n in shape.nodes),
            shape.roots,
            programs.FEATURES,
        )
        for value in (1, 1000)
    ]
    model.update(two[0])
    enough = threading.Event()
    updates = 0

    def update():
        nonlocal updates
        while not enough.is_set():
            updates += 1
            model.update(two[updates % 2])

    thread = threading.Thread(target=update)
    thread.start()
    said = []
    try:
        # An update takes as long as the host lets it: ask on until there were many.
        while len(said) < 3000 or updates <= 10 or len(set(said)) < 2:
            said += [wide_proxy.ask(programs.row(rng)).action for _ in range(300)]
    finally:
        enough.set()
        thread.join()
    assert set(said) == {8, 8000}


def operations():
    """20,000 decisions."""
    rng = np.random.default_rng(3)
    ops = np.zeros(20_000, OP)
    ops["now"] = np.arange(len(ops))
    ops["unit"] = rng.integers(0, 1 << 40, len(ops))
    ops["what"], ops["arg"] = DECIDE, 9
    ops["features"][:, :8] = rng.integers(0, 1000, (len(ops), 8))
    return ops


def play(kind_of_proxy, model, submitted, load_example):
    """What the example's digest and the proxy's snapshot are after these decisions."""
    with load_example(), kind_of_proxy.attach("example") as agent:
        agent.start(0)
        agent.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        advice = Recommendation(Kind.PROGRAM, 1, 1 << 30, 1, 5, program=submitted)
        assert agent.submit(advice, 0) is Reject.NONE
        if model is not None:
            agent.model.update(model)
        (FOLDER / "ops").write_bytes(operations().tobytes())
        snapshot = agent.snapshot(0)
        assert snapshot.decisions[Arm.MODEL] > 18_000
        return (FOLDER / "digest").read_text(), snapshot


def test_an_in_kernel_user_cannot_tell_the_difference(module, load_example):
    rng = random.Random(4)
    one, other = (programs.full(rng, 9, 8, 8) for _ in range(2))
    plain = play(KernelProxy, None, one, load_example)
    assert play(BpfProxy, None, one, load_example) == plain
    # And it was the walker: with another model in the map all is different.
    assert play(BpfProxy, other, one, load_example)[0] != plain[0]
