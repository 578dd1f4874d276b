"""Build the native parts with the package: cffi extensions and the recorder.

Each entry of `EXTENSIONS` is one cffi API-mode module. Its `cdef` is a header
whose lines between `/* cffi: begin */` and `/* cffi: end */` are given to cffi
(plain declarations, no preprocessor), its sources are the C files themselves.
"""
# No postponed annotations: hatchling executes this file without entering it in
# sys.modules, where dataclasses would look their names up.

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, to rebuild in place
    BuildHookInterface = object  # type: ignore[assignment,misc,unused-ignore]

ROOT = Path(__file__).resolve().parent.parent
CFLAGS = ["-O3", "-std=gnu11", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter"]


@dataclass(frozen=True)
class Extension:
    """One cffi module: where it goes, what it declares, what it compiles."""

    module: str
    package_dir: str
    cdef: tuple[str, ...]
    prelude: str
    sources: tuple[str, ...]
    include_dirs: tuple[str, ...]
    libraries: tuple[str, ...] = field(default=())


def _globbed(pattern: str) -> tuple[str, ...]:
    return tuple(sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(pattern)))


EXTENSIONS = (
    Extension(
        module="mlproxy._core",
        package_dir="orchestrator/mlproxy",
        cdef=(
            "kmod/uapi/mlproxy.h",
            "kmod/uapi/mlproxy_ioctl.h",
            "kmod/core/mlproxy_core.h",
            "orchestrator/mlproxy/proxy/csrc/binding.h",
            "orchestrator/mlproxy/proxy/csrc/transport.h",
            "orchestrator/mlproxy/proxy/csrc/bench.h",
        ),
        prelude="".join(
            f'#include "{header}"\n'
            for header in (
                "mlproxy_ioctl.h",
                "mlproxy_core.h",
                "binding.h",
                "transport.h",
                "bench.h",
            )
        ),
        sources=_globbed("kmod/core/*.c") + _globbed("orchestrator/mlproxy/proxy/csrc/*.c"),
        include_dirs=("kmod/core", "kmod/uapi", "orchestrator/mlproxy/proxy/csrc"),
    ),
    Extension(
        module="mlproxy_lfs._store",
        package_dir="plugins/mlproxy_lfs",
        cdef=("plugins/mlproxy_lfs/csrc/store.h",),
        prelude='#include "store.h"',
        sources=_globbed("plugins/mlproxy_lfs/csrc/*.c"),
        include_dirs=("plugins/mlproxy_lfs/csrc", "kmod/core", "kmod/uapi"),
        libraries=("m",),
    ),
    Extension(
        module="mlproxy_lfs._pagecache",
        package_dir="plugins/mlproxy_lfs",
        cdef=("plugins/mlproxy_lfs/csrc/pagecache/pagecache.h",),
        prelude='#include "pagecache.h"',
        sources=_globbed("plugins/mlproxy_lfs/csrc/pagecache/*.c"),
        include_dirs=("plugins/mlproxy_lfs/csrc/pagecache",),
    ),
)

# Plain shared objects (not Python modules): source folder -> target.
SHARED = (("orchestrator/mlproxy/trace/csrc", "orchestrator/mlproxy/trace/librecorder.so"),)


def declarations(header: Path) -> str:
    """Return what cffi shall see of a header: constants and declarations."""
    text = header.read_text(encoding="utf-8")
    marked = re.findall(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", text, re.DOTALL)
    body = "".join(marked) if marked else text
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    lines = []
    for line in body.splitlines():
        constant = re.match(r"#define\s+(MLP_\w+|LFS_\w+)\s+\S", line)
        if constant:
            lines.append(f"#define {constant.group(1)} ...")
        elif not line.lstrip().startswith("#") and not line.startswith("typedef uint"):
            lines.append(line)
    return "\n".join(lines)


TYPES = """
typedef uint8_t __u8; typedef uint16_t __u16;
typedef uint32_t __u32; typedef unsigned long long __u64;
typedef int32_t __s32; typedef long long __s64;
"""


def _constant_arrays(text: str) -> str:
    """Replace array sizes that are macros by their numbers, as cffi wants."""
    values: dict[str, str] = {}
    headers = (
        "kmod/uapi/mlproxy.h",
        "kmod/uapi/mlproxy_ioctl.h",
        "kmod/core/mlproxy_core.h",
        "plugins/mlproxy_lfs/csrc/store.h",
    )
    for header in (ROOT / h for h in headers):
        if header.exists():
            source = header.read_text(encoding="utf-8")
            values.update(re.findall(r"#define\s+(\w+)\s+(\d+)\b", source))
            values.update(
                re.findall(r"^\s*(MLP_\w+_NR|LFS_\w+_NR)\s*=\s*(\d+)", source, re.MULTILINE)
            )
    return re.sub(r"\[(\w+)\]", lambda m: f"[{values.get(m.group(1), m.group(1))}]", text)


def build_extension(extension: Extension, target_root: Path) -> Path:
    """Compile one cffi module in place and return the file made."""
    from cffi import FFI

    ffi = FFI()
    text = "\n".join(declarations(ROOT / h) for h in extension.cdef)
    ffi.cdef(TYPES + _constant_arrays(text))
    extra = os.environ.get("MLPROXY_CFLAGS", "").split()
    ffi.set_source(
        extension.module,
        extension.prelude,
        sources=[str(ROOT / s) for s in extension.sources],
        include_dirs=[str(ROOT / d) for d in extension.include_dirs],
        extra_compile_args=CFLAGS + extra,
        extra_link_args=extra,
        libraries=list(extension.libraries),
    )
    with tempfile.TemporaryDirectory() as tmp:
        built = Path(ffi.compile(tmpdir=tmp, verbose=False))
        target = target_root / extension.package_dir / built.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A rename, so that a running process keeps the file it has mapped.
        staged = target.with_name(target.name + ".new")
        shutil.copy2(built, staged)
        staged.rename(target)
    return target


def build_shared(folder: str, target: str) -> Path | None:
    """Compile the C files of a folder into one shared object."""
    sources = sorted((ROOT / folder).glob("*.c"))
    if not sources:
        return None
    out = ROOT / target
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    staged = out.with_name(out.name + ".new")
    subprocess.run(  # noqa: S603
        [
            *compiler,
            *CFLAGS,
            "-O2",
            "-fPIC",
            "-shared",
            "-o",
            str(staged),
            *map(str, sources),
            "-ldl",
            "-lpthread",
        ],
        check=True,
    )
    staged.rename(out)
    return out


def build_all() -> list[Path]:
    """Build everything into the source tree; return the files made."""
    made = [build_extension(e, ROOT) for e in EXTENSIONS if e.sources]
    made += [p for folder, target in SHARED if (p := build_shared(folder, target))]
    return made


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """Hatchling calls this for wheels and for editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the tree and, for a wheel, put the results into it."""
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in build_all():
            relative = path.relative_to(ROOT)
            inside = Path(*relative.parts[1:])
            if version != "editable":
                build_data["force_include"][str(path)] = str(inside)


if __name__ == "__main__":
    for made in build_all():
        print(made.relative_to(ROOT))  # noqa: T201
