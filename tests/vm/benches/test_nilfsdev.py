"""dev"""
import json, subprocess, sys, time, traceback
from pathlib import Path

def test_dev(result, capfd):
    request = json.loads(Path("/src/request.json").read_text())
    rows = []
    with capfd.disabled():
        from mlproxy_nilfs.bench_runs import Plan, run
        plan = Plan("/dev/ram0", **json.loads((request["arguments"] or ["{}"])[0]))
        subprocess.run(["modprobe", "nilfs2"], check=True)
        subprocess.run(["modprobe", "brd", "rd_nr=1", f"rd_size={plan.mib*1024}"], check=True)
        t = time.time()
        try:
            run(plan, lambda r: (rows.append(r), print(r, flush=True)), lambda s: print(f"{time.time()-t:.0f}", s, flush=True))
        except BaseException:
            traceback.print_exc()
            print(subprocess.run("dmesg | tail -20", shell=True, capture_output=True, text=True).stdout)
            raise
    result("nilfsdev", rows)
