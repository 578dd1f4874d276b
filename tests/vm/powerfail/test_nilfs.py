"""NILFS2: mount, verify what the last cut left, then let the model clean until the next one."""

import contextlib
import json
import subprocess
import threading
import time
from pathlib import Path

from mlproxy_vm.blockdev import modprobe
from mlproxy_vm.nilfs import mount, umount
from mlproxy_vm.promises import Promises

from mlproxy import SubsystemContext
from mlproxy.errors import ProxyError
from mlproxy.proxy import Mode, Reason
from mlproxy_nilfs.options import NilfsOptions
from mlproxy_nilfs.subsystem import NilfsSubsystem
from mlproxy_nilfs.volume import Volume

DEVICE = "/dev/vdd"
FEW = 3
"""Reclaims by the model after which the power may go."""


def test_nilfs(module, result, tmp_path):
    request = json.loads(Path("/src/request.json").read_text(encoding="utf-8"))
    folder = tmp_path / "mnt"
    folder.mkdir()
    modprobe("nilfs2")
    if request["first"]:
        subprocess.run(["mkfs.nilfs2", "-q", "-f", "-B", "64", DEVICE], check=True)
    mount(folder, device=DEVICE)
    promises = Promises(folder, files=30, blocks=256, seed=request["seed"])
    if request["first"]:
        result("promised", promises.fill())
    else:
        wrong = promises.verify(request["promised"])
        assert wrong == []
        volume = Volume(DEVICE)
        numbers = volume.checkpoint_list()["cno"].tolist()
        assert len(numbers) == volume.checkpoints()[1]
        volume.close()
        result("verified", {"blocks": len(request["promised"]), "checkpoints": len(numbers)})
    if request["last"]:
        umount(folder)
        return
    clean(result, tmp_path, promises)


def clean(result, tmp_path, promises):
    """Until the power goes."""
    subsystem = NilfsSubsystem()
    options = NilfsOptions(
        device=DEVICE, protection_seconds=1, interval_seconds=0.1, interval_seconds_low=0.1,
        min_clean_percent=20.0, max_clean_percent=22.0, lock_dir=str(tmp_path / "lock"),
    )  # fmt: skip
    # What is tested is the file system: the guards that would keep a forced model out are off.
    off = {"nilfs-victim": {"spike": 1_000_000_000, "budget": 0, "trip_limit": 1_000}}
    subsystem.start(SubsystemContext("nilfs", options, 1, str(tmp_path), off))
    subsystem._brain.acting, subsystem._brain.version = "cost-benefit", (1, 1)
    subsystem._brain._choose = lambda now: None
    failed = []

    def write():
        try:
            while True:
                # Not so fast that all segments are needed for recovery: then nothing is cleaned.
                time.sleep(0.1)
                result("promised", promises.write(24))
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)

    threading.Thread(target=write, daemon=True).start()
    while not failed:
        # Refused while the disk is so full that the default must act.
        with contextlib.suppress(ProxyError):
            if subsystem._proxy.snapshot(subsystem._now()).mode != Mode.TRUSTED:
                subsystem._proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, subsystem._now())
        subsystem.step()
        if subsystem._arms[1] >= FEW:
            result("cleaning", {"segments": subsystem._arms[1]})
    raise failed[0]
