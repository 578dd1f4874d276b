"""Proxies: the kernel-side object of one decision, wherever it lives."""

from mlproxy.proxy.bpf import BpfModel
from mlproxy.proxy.bpf_proxy import BpfProxy
from mlproxy.proxy.in_process import InProcessProxy, core_functions
from mlproxy.proxy.kernel import KernelClock, KernelProxy
from mlproxy.proxy.knob import Knob, KnobProxy, KnobStatus
from mlproxy.proxy.knob_in_process import InProcessKnobProxy
from mlproxy.proxy.layout import RECORD_DTYPE, RING_META_DTYPE
from mlproxy.proxy.program import check_program, decode_program, encode_program, eval_program
from mlproxy.proxy.recommendation import encode_recommendation
from mlproxy.proxy.types import (
    Arm,
    ArmStats,
    Decision,
    Evidence,
    Kind,
    Mode,
    Program,
    ProgramNode,
    Proxy,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
    Snapshot,
    Trial,
)

__all__ = (
    "RECORD_DTYPE",
    "RING_META_DTYPE",
    "Arm",
    "ArmStats",
    "BpfModel",
    "BpfProxy",
    "Decision",
    "Evidence",
    "InProcessKnobProxy",
    "InProcessProxy",
    "KernelClock",
    "KernelProxy",
    "Kind",
    "Knob",
    "KnobProxy",
    "KnobStatus",
    "Mode",
    "Program",
    "ProgramNode",
    "Proxy",
    "ProxyConfig",
    "Reason",
    "Recommendation",
    "RecordType",
    "Reject",
    "Snapshot",
    "Trial",
    "check_program",
    "core_functions",
    "decode_program",
    "encode_program",
    "encode_recommendation",
    "eval_program",
)
