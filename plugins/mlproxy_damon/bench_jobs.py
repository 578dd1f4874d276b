"""Programs that the bench runs: a service over SQLite, and an analysis of data on disk.

    python bench_jobs.py orders DATABASE SEED | analysis FOLDER

They say `ready`, then answer each line `N` (a tick's number and what is wanted) with the
number of operations done. Not part of mlproxy: run by path, with the standard library and
numpy alone.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ORDERS = 200_000
"""In the database, of about 1 KiB each."""
RECENT = 12_000
"""The last of them: today's business."""
PARTITION = 3_000_000
"""Values in a partition, of 4 bytes."""
CHUNK = 100_000
"""Values of a partition that are read in a tick."""
FEATURES = 3


def make_orders(database: Path) -> None:
    """Write the database, the same each time."""
    rng = random.Random(11)
    words = [rng.randbytes(280).hex() for _ in range(64)]

    def rows() -> Iterator[tuple[int, int, float, str]]:
        for number in range(ORDERS):
            note = words[rng.getrandbits(6)] + words[rng.getrandbits(6)][:380]
            yield number, rng.getrandbits(14), rng.random(), note

    connection = sqlite3.connect(database)
    connection.executescript("pragma journal_mode = wal; pragma synchronous = normal;")
    connection.execute("create table orders (id integer primary key, customer, total, note)")
    connection.executemany("insert into orders values (?, ?, ?, ?)", rows())
    connection.commit()
    connection.close()


def make_partitions(folder: Path, count: int) -> None:
    """Write the partitions, the same each time."""
    import numpy as np

    rng = np.random.default_rng(12)
    for number in range(count):
        # Measured values, with a few digits: not noise to the last bit.
        values = rng.integers(0, 60_000, PARTITION).astype(np.float32)
        np.save(folder / f"partition{number:02}.npy", values)


def orders(database: str, seed: int) -> Callable[[list[int]], int]:
    """Of the operations, most are on today's orders, and a few on any in the archive.

    Before it is ready, it checks all orders once, as services do when they start.
    """
    rng = random.Random(seed)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.executescript(
        "pragma mmap_size = 1073741824; pragma synchronous = normal; pragma cache_size = -2000;"
    )
    connection.execute("select count(*), sum(total), max(length(note)) from orders").fetchone()

    def tick(wanted: list[int]) -> int:
        _, count, archive = wanted
        for _ in range(count - archive):
            # Twice as many look-ups as updates, of orders the more often the newer they are.
            number = ORDERS - 1 - int(RECENT * rng.random() ** 2)
            if rng.random() < 0.33:
                sql = "update orders set total = total + 1 where id = ?"
            else:
                sql = "select customer, total, note from orders where id = ?"
            connection.execute(sql, (number,)).fetchone()
        for _ in range(archive):
            sql = "select customer, total, note from orders where id = ?"
            connection.execute(sql, (rng.randrange(ORDERS),)).fetchone()
        return count

    return tick


def analysis(folder: str) -> Callable[[list[int]], int]:
    """A histogram and a weighted sum of a piece of two partitions, over and over."""
    import numpy as np

    files = sorted(Path(folder).glob("partition*.npy"))
    data: list[Any] = []
    # Made of the partitions of a phase: memory of its own, all of it in use.
    features = np.zeros((FEATURES, PARTITION), dtype=np.float32)
    scale = np.linspace(0.5, 1.5, CHUNK, dtype=np.float32)
    pieces = PARTITION // CHUNK

    def tick(wanted: list[int]) -> int:
        number, *chosen = wanted
        while len(data) <= chosen[0]:
            # A partition stays mapped: it may be wanted again.
            data.append(np.load(files[len(data)], mmap_mode="r"))
        at = number % pieces * CHUNK
        done = 0
        for partition in chosen:
            if partition < 0:
                continue
            piece = data[partition][at : at + CHUNK]
            total = float(np.dot(piece, scale))
            bins = (piece * (16 / 60_000)).astype(np.int8)
            total += int(np.count_nonzero(bins == number % 16))
            features[(partition + done) % FEATURES, at : at + CHUNK] += total
            done += 1
        return done

    return tick


def main() -> None:
    """Serve until the input ends."""
    name, where, *rest = sys.argv[1:]
    tick = orders(where, int(rest[0])) if name == "orders" else analysis(where)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(f"{tick(json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
