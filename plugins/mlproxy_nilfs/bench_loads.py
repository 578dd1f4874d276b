"""What the bench writes: real programs with fixed seeds, and what ages the file system before.

    python -m mlproxy_nilfs.bench_loads NAME FOLDER SEED

runs one of them until it is ended.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ("LOADS", "age")

MIB: Final = 1 << 20
BLOCK: Final = 4096
HOT_MIB: Final = 6
"""About so much is what a load works on; the rest of the data is cold."""


def _fio(folder: Path, seed: int, jobs: str) -> None:
    """Fio over and over, each time with the next seed."""
    job = folder.parent / f"{folder.name}.fio"
    while True:
        text = f"[global]\ndirectory={folder}\nioengine=psync\nrandseed={seed}\n{jobs}"
        job.write_text(text, encoding="ascii")
        # What is laid out once stays: later rounds overwrite it.
        subprocess.run(  # noqa: S603
            ["fio", "--minimal", str(job)],  # noqa: S607
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seed += 100


def zipf(folder: Path, seed: int) -> None:
    """fio: random 4 KiB blocks of one file, zipf 0.99, fsync after 64."""
    _fio(
        folder,
        seed,
        f"[zipf]\nfilename=zipf\nsize={HOT_MIB}m\nio_size=64m\nbs=4k\nrw=randwrite\nfsync=64\n"
        "overwrite=1\nrandom_distribution=zipf:0.99\nnorandommap=1\n",
    )


def mixed(folder: Path, seed: int) -> None:
    """fio: a log, a file with a hot part, and uniform writes of several sizes, side by side."""
    _fio(
        folder,
        seed,
        "[log]\nfilename=log\nsize=1m\nio_size=16m\nbs=16k\nrw=write\nfsync=16\noverwrite=1\n"
        "[hot]\nfilename=hot\nsize=2m\nio_size=16m\nbs=4k\nrw=randwrite\nfsync=64\noverwrite=1\n"
        "random_distribution=zoned:80/10:20/90\nnorandommap=1\n"
        "[wide]\nfilename=wide\nsize=3m\nio_size=8m\nbsrange=4k-32k\nrw=randwrite\nfsync=32\n"
        "overwrite=1\nnorandommap=1\n",
    )


def uniform(folder: Path, seed: int) -> None:
    """fio: random 4 KiB blocks of one file, all alike."""
    _fio(
        folder,
        seed,
        f"[uniform]\nfilename=uniform\nsize={HOT_MIB}m\nio_size=64m\nbs=4k\nrw=randwrite\n"
        "overwrite=1\nfsync=64\nnorandommap=1\n",
    )


def sqlite(folder: Path, seed: int) -> None:
    """SQLite with a rollback journal: updates of accounts of which some are busy, and a history."""
    rng = random.Random(seed)
    data = sqlite3.connect(folder / "bank.db", isolation_level=None)
    data.execute("PRAGMA journal_mode=DELETE")
    data.execute("PRAGMA synchronous=NORMAL")
    data.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT)")
    data.execute("CREATE TABLE history (id INTEGER PRIMARY KEY, account INTEGER, note TEXT)")
    count = 16_000
    data.execute("BEGIN")
    data.executemany("INSERT INTO account VALUES (?, 0, ?)", ((n, "x" * 200) for n in range(count)))
    data.execute("COMMIT")
    number = 0
    while True:
        data.execute("BEGIN")
        for _ in range(12):
            busy = rng.random() < 0.8
            one = rng.randrange(count // 10) * 10 if busy else rng.randrange(count)
            data.execute("UPDATE account SET balance = balance + 1 WHERE id = ?", (one,))
            data.execute("INSERT INTO history VALUES (?, ?, ?)", (number, one, "y" * 60))
            data.execute("DELETE FROM history WHERE id = ?", (number - 12_000,))
            number += 1
        data.execute("COMMIT")


def rocksdb(folder: Path, seed: int) -> None:
    """RocksDB: puts of random keys, some often, with small tables so that it compacts."""
    from rocksdict import Options, Rdict, WriteOptions

    rng = random.Random(seed)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(256 << 10)
    options.set_target_file_size_base(256 << 10)
    options.set_max_bytes_for_level_base(MIB)
    options.set_max_background_jobs(1)
    options.set_keep_log_file_num(2)
    store = Rdict(str(folder / "db"), options)
    write = WriteOptions()
    for number in range(1 << 62):
        key = rng.randrange(1_000) if rng.random() < 0.5 else rng.randrange(8_000)
        store.put(key.to_bytes(8, "big"), rng.randbytes(300), write)
        if number % 256 == 255:
            store.flush_wal(sync=True)


def files(folder: Path, seed: int) -> None:
    """Many small files, as a mail server's: made, some rewritten, most deleted soon."""
    rng = random.Random(seed)
    living: list[Path] = []
    number = total = 0
    while True:
        size = min(max(200, int(rng.lognormvariate(8.3, 1.0))), 60_000)
        if total + size > (HOT_MIB - 2) * MIB or (living and rng.random() < 0.3):
            # The young go first, but for some that stay for long.
            at = len(living) - 1 - min(int(rng.expovariate(1 / 60)), len(living) - 1)
            gone = living.pop(at if rng.random() < 0.8 else rng.randrange(len(living)))
            total -= gone.stat().st_size
            gone.unlink()
            continue
        folder.joinpath(f"d{number % 16}").mkdir(exist_ok=True)
        path = folder / f"d{number % 16}" / f"m{number}"
        path.write_bytes(rng.randbytes(size))
        living.append(path)
        total += size
        number += 1
        if number % 32 == 0:
            with path.open("rb") as file:
                os.fsync(file.fileno())


LOADS: Final[Mapping[str, Callable[[Path, int], None]]] = {
    "zipf": zipf,
    "mixed": mixed,
    "sqlite": sqlite,
    "rocksdb": rocksdb,
    "files": files,
    "uniform": uniform,
}


def age(folder: Path, seed: int, cold_mib: int, churn_mib: int, pause: Callable[[], None]) -> None:
    """Fill with files that stay, then overwrite pieces of them in random places.

    Args:
        folder: in the file system.
        seed: of sizes, places and contents.
        cold_mib: so much is written, and stays.
        churn_mib: so much is then overwritten, in pieces of 4 to 64 KiB.
        pause: called after each MiB: cleaning may be needed.
    """
    rng = random.Random(seed)
    names: list[tuple[Path, int]] = []
    left = cold_mib * MIB
    while left > 0:
        size = min(left, rng.choice((64, 128, 256, 512, 1024)) << 10)
        path = folder / f"cold{len(names)}"
        path.write_bytes(rng.randbytes(size))
        names.append((path, size))
        left -= size
        if len(names) % 4 == 0:
            os.sync()
            pause()
    done = since = 0
    while done < churn_mib * MIB:
        path, size = rng.choice(names)
        piece = min(rng.choice((1, 2, 4, 16)) * BLOCK, size)
        with path.open("r+b") as file:
            file.seek(rng.randrange(size // BLOCK - piece // BLOCK + 1) * BLOCK)
            file.write(rng.randbytes(piece))
        done += piece
        since += piece
        if since >= MIB // 2:
            since = 0
            os.sync()
            pause()


if __name__ == "__main__":
    LOADS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
