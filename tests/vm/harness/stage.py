"""What a guest gets of this working tree: sources, native parts, built modules."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from . import bpf
from .chroot import chroot
from .host import OUT, ROOT, once
from .images import layer
from .kernels import Kernel
from .pysite import BENCH_INSIDE, site
from .pysite import INSIDE as SITE
from .trees import trixie

_FOLDERS = ("orchestrator", "plugins", "tests", "kmod", "configs")
_LEFT_OUT = shutil.ignore_patterns("*.so", "*.o", "*.ko", "__pycache__", ".*")
_NATIVE = (
    *("kmod/core/*", "kmod/uapi/*", "plugins/**/csrc/**/*.[ch]", "orchestrator/**/csrc/**/*"),
    "tests/vm/csrc/*",
)
# What cases need in C: programs, and libraries for ctypes where the name begins with lib.
_HELPERS = """
mkdir -p tests/vm/bin
for source in tests/vm/csrc/*.c; do
  name=tests/vm/bin/$(basename "$source" .c) shared=
  case $source in */lib*) name=$name.so shared="-shared -fPIC" ;; esac
  gcc -std=gnu11 -O2 -Wall -Wextra -Werror -pthread -Ikmod/uapi $shared -o "$name" "$source"
  echo "$name"
done
"""


def sources() -> Path:
    """A copy of the working tree with everything compiled for the guest; BPF beside it."""
    target = OUT / "src"
    shutil.rmtree(target, ignore_errors=True)
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=_LEFT_OUT)
    shutil.copy2(ROOT / "pyproject.toml", target)
    shutil.copytree(_native(target), target, dirs_exist_ok=True)
    _metadata(target / "orchestrator")
    bpf.build(OUT / "bpf")
    chroot(
        trixie(),
        "python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /src",
        log=OUT / "compile.log",
        what="compiling the sources",
        binds={"/src": target},
    )
    return target


def _native(target: Path) -> Path:
    """Everything compiled, from the cache when the sources did not change."""
    digest = hashlib.sha256((trixie().parent.name + _HELPERS).encode())
    files = sorted({f for pattern in _NATIVE for f in target.glob(pattern) if f.is_file()})
    for file in (target / "orchestrator/build_native.py", *files):
        digest.update(str(file.relative_to(target)).encode() + b"\0" + file.read_bytes())

    def make(folder: Path) -> None:
        made = chroot(
            trixie(),
            f"cd /src && PYTHONPATH={SITE} python3 -B orchestrator/build_native.py\n{_HELPERS}",
            log=OUT / "native.log",
            what="compiling the native parts",
            binds={"/src": target, SITE: site()},
        )
        for line in made.split():
            (folder / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(target / line, folder / line)

    return once(f"native-{digest.hexdigest()[:12]}", make)


def _metadata(folder: Path) -> None:
    """What an installation would say of itself: version and entry points."""
    installed = metadata.distribution("mlproxy")
    info = folder / f"mlproxy-{installed.version}.dist-info"
    info.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (info / name).write_text(installed.read_text(name) or "", encoding="utf-8")


def work_layer(
    kernel: Kernel,
    modules: Path,
    request: Mapping[str, Any],
    out: Path,
    packages: Path | None = None,
) -> Path:
    """The image over all others: sources, the modules of this tree, what to run.

    Args:
        kernel: the kernel the modules were built for.
        modules: a folder with `*.ko`.
        request: goes to `/src/request.json`.
        out: where the image is made.
        packages: more Python packages, for a bench.
    """
    script = """
    mkdir -p /layer/opt/mlproxy/modules /layer/usr/lib/mlproxy
    cp -a /stage/src /layer/src
    cp /stage/modules/*.ko /layer/opt/mlproxy/modules/
    cp /stage/bpf/*.bpf.o /layer/usr/lib/mlproxy/
    """
    (OUT / "src/request.json").write_text(json.dumps(request), encoding="utf-8")
    binds = {"/stage/src": OUT / "src", "/stage/modules": modules, "/stage/bpf": OUT / "bpf"}
    if packages is not None:
        script += f"cp -a /stage/packages /layer{BENCH_INSIDE}\n"
        binds["/stage/packages"] = packages
    return layer(trixie(), script, out, "work", binds)
