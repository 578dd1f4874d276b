"""Which transport a proxy gets, and what a subsystem's context makes of it."""

from __future__ import annotations

import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import InProcessKnobProxy, InProcessProxy, Kind, Knob, ProxyConfig, Trial, choose
from mlproxy.subsystem import SubsystemContext

CONFIG = ProxyConfig("unit", Kind.CHOICE)
KNOBBED = ProxyConfig("unit", Kind.CHOICE, Trial.SWITCHBACK, epoch=10**9)


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    return caught.value.code


@pytest.fixture
def knob(tmp_path):
    path = tmp_path / "knob"
    path.write_text("7\n")
    return Knob(str(path), 0, 9)


class TestChoice:
    def test_without_a_module(self, tmp_path, knob):
        away = str(tmp_path / "mlproxy")
        assert not choose.usable("auto", away)
        assert isinstance(choose.make_proxy(CONFIG, guard="auto", device=away), InProcessProxy)
        how = {"settings": [[1], [2]], "device": away}
        made = choose.make_knob_proxy(KNOBBED, [knob], guard="auto", **how)
        assert isinstance(made, InProcessKnobProxy)
        made.close()
        assert code(choose.make_proxy, CONFIG, guard="kernel", device=away) == "kernel.no_module"
        wanted = {"guard": "kernel", **how}
        assert code(choose.make_knob_proxy, KNOBBED, [knob], **wanted) == "kernel.no_module"
        for guard in ("auto", "kernel"):
            missing = code(choose.attach_proxy, "x", guard=guard, device=away)
            assert missing == "kernel.no_module"

    def test_a_module_of_another_abi_is_told_of_and_not_used(self, capfd):
        # /dev/null answers no call of ours, as a module of another release would not.
        made = choose.make_proxy(CONFIG, guard="auto", device="/dev/null")
        assert made.guard == "in-process"
        assert "kernel.version" in "".join(capfd.readouterr())
        refused = code(choose.make_proxy, CONFIG, guard="kernel", device="/dev/null")
        assert refused == "kernel.version"

    def test_in_process_by_configuration_asks_no_device(self, tmp_path, monkeypatch, knob):
        monkeypatch.setattr(choose, "open_device", None)
        assert choose.make_proxy(CONFIG, guard="in-process").guard == "in-process"
        assert code(choose.attach_proxy, "x", guard="in-process") == "proxy.guard"

    @pytest.mark.parametrize("refusal", ["knob.permission", "knob.file", "knob.busy"])
    def test_what_the_module_does_not_take_a_process_may(self, monkeypatch, knob, refusal):
        def refuse(*args, **kwargs):
            raise ProxyError("no", code=refusal)

        monkeypatch.setattr(choose, "usable", lambda *_: True)
        monkeypatch.setattr(choose.KernelProxy, "create", refuse)
        how = {"settings": [[1], [2]]}
        call = choose.make_knob_proxy
        assert code(call, KNOBBED, [knob], guard="kernel", **how) == refusal
        if refusal == "knob.busy":  # another proxy holds it: no way round
            assert code(call, KNOBBED, [knob], guard="auto", **how) == refusal
        else:
            made = call(KNOBBED, [knob], guard="auto", **how)
            assert made.guard == "in-process"
            made.close()


def test_a_context_makes_proxies_and_remembers_them(tmp_path, knob):
    context = SubsystemContext("s", None, 1, str(tmp_path), guard="in-process")
    plain = context.proxy(CONFIG, capacity=8)
    held = context.knob_proxy(KNOBBED, [knob], settings=[[1], [2]], default_action=1)
    assert context.made == [plain, held]
    assert (tmp_path / "knob-journal" / "unit.json").exists()
    assert code(context.attach, "x") == "proxy.guard"
    held.close()
    assert context == SubsystemContext("s", None, 1, str(tmp_path), guard="in-process")
