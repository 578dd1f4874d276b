"""What decide() costs in the kernel, beside an empty indirect call in the same loop.

Ratios are of the loop with a decision to the loop with an empty call, nothing subtracted; what
the bare loop takes is written down beside them. Features are made before the loops, so that
neither pays for them.
"""

import random
from statistics import median

from mlproxy_vm import programs
from mlproxy_vm.consumer import FOLDER

from mlproxy.proxy import BpfProxy, KernelProxy, Kind, Mode, Reason, Recommendation, Reject

DEPTH = 12
CALLS = 1000  # in a row of the example's bench


def costs():
    """Nanoseconds per turn of the bare loop, with an empty call, with a decision: medians."""
    rows = [map(int, line.split()) for line in (FOLDER / "bench").read_text().splitlines()]
    return [median(column) / CALLS for column in zip(*rows, strict=True)]


def measured(agent, measure, name, **what):
    """Trust the agent's model and measure; the numbers of a decision that the model makes."""
    agent.start(0)
    agent.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
    advice = Recommendation(agent.config.kind, 1, 1 << 30, 1, 1, **what)
    assert agent.submit(advice, 0) is Reject.NONE
    loop, empty, decide = costs()
    snapshot = agent.snapshot(0)
    default, model = snapshot.decisions
    assert model > 10 * default
    assert snapshot.fallbacks == 0
    assert loop < empty < decide
    measure(f"decide_{name}_ratio", decide / empty)
    measure(f"decide_{name}_ns", decide)
    measure("empty_call_ns", empty)
    measure("bare_loop_ns", loop)


def program():
    """12 comparisons on every way."""
    return programs.deep(random.Random(5), DEPTH, 8, 8)


def test_of_a_value(module, load_example, measure):
    with load_example("kind=1"), KernelProxy.attach("example") as agent:
        measured(agent, measure, "value", value=3)


def test_of_a_program(module, load_example, measure):
    with load_example(), KernelProxy.attach("example") as agent:
        assert agent.config.kind is Kind.PROGRAM
        measured(agent, measure, "program", program=program())


def test_of_a_model_as_bpf(bpf, load_example, measure):
    with load_example(), BpfProxy.attach("example") as agent:
        measured(agent, measure, "struct_ops", program=program())
