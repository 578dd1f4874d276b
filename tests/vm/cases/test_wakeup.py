"""A published record wakes a reader about as soon as an eventfd does; the numbers are kept."""

import subprocess

import numpy as np

PROGRAM = "/src/tests/vm/bin/wakeup"
ROUNDS, SAMPLES = 20, 100


def test_from_record_to_woken_reader(example, measure):
    done = subprocess.run(
        [PROGRAM, str(ROUNDS), str(SAMPLES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    ns = {
        side: np.array([int(value) for name, value in lines if name == side], np.int64)
        for side in ("ring", "eventfd")
    }
    assert all(len(values) == ROUNDS * SAMPLES for values in ns.values())
    for percent in (50, 99):
        ring, event = (float(np.percentile(ns[side], percent)) for side in ("ring", "eventfd"))
        measure(f"wakeup_p{percent}_ratio", ring / event)
        measure(f"wakeup_p{percent}_us", ring / 1000)
        measure(f"eventfd_p{percent}_us", event / 1000)
    # How far the rounds agree: each has both sides.
    medians = {side: np.median(values.reshape(ROUNDS, SAMPLES), 1) for side, values in ns.items()}
    ratios = medians["ring"] / medians["eventfd"]
    measure("wakeup_p50_ratio_least", float(ratios.min()))
    measure("wakeup_p50_ratio_most", float(ratios.max()))
