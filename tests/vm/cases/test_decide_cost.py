"""What decide() costs in the kernel, beside an empty indirect call in the same loop.

Ratios are of the loop with a decision to the loop with an empty call, nothing subtracted; what
the bare loop takes is written down beside them. Features are made before the loops, so that
neither pays for them.
"""

import random

from mlproxy_vm import example as consumer
from mlproxy_vm import programs

from mlproxy.proxy import BpfProxy, KernelProxy, Kind, Mode, Reason, Recommendation, Reject

DEPTH = 12


def measured(agent, measure, name, **what):
    """Trust the agent's model and measure; the numbers of a decision that the model makes."""
    agent.start(0)
    agent.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
    advice = Recommendation(agent.config.kind, 1, 1 << 30, 1, 1, **what)
    assert agent.submit(advice, 0) is Reject.NONE
    cost = consumer.bench()
    snapshot = agent.snapshot(0)
    default, model = snapshot.decisions
    assert model > 10 * default
    assert snapshot.fallbacks == 0
    assert cost.loop < cost.empty < cost.decide
    measure(f"decide_{name}_ratio", cost.decide / cost.empty)
    measure(f"decide_{name}_ns", cost.decide)
    measure("empty_call_ns", cost.empty)
    measure("bare_loop_ns", cost.loop)


def program():
    """12 comparisons on every way."""
    return programs.deep(random.Random(5), DEPTH, 8, 8)


def test_of_a_value(module, load_example, measure):
    with load_example("kind=1"), KernelProxy.attach(consumer.NAME) as agent:
        measured(agent, measure, "value", value=3)


def test_of_a_program(module, load_example, measure):
    with load_example(), KernelProxy.attach(consumer.NAME) as agent:
        assert agent.config.kind is Kind.PROGRAM
        measured(agent, measure, "program", program=program())


def test_of_a_model_as_bpf(bpf, load_example, measure):
    with load_example(), BpfProxy.attach(consumer.NAME) as agent:
        measured(agent, measure, "struct_ops", program=program())
