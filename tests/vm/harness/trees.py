"""Debian trees: where modules are built, and what guests run."""

from __future__ import annotations

from pathlib import Path

from .host import HarnessError, key_of, once, run
from .mirrors import keyring, mirrors

# Both have the compiler that their kernels were built with: the headers' own
# tools (objtool, modpost) do not run on an older system.
_TRIXIE = (
    # kernel, and what builds modules for it
    *("linux-image-amd64", "linux-headers-amd64", "gcc", "make", "libc6-dev", "pahole", "sparse"),
    *("bpftool", "clang-19", "llvm-19", "libbpf-dev", "linux-bpf-dev", "dkms"),
    # what builds a whole kernel
    *("flex", "bison", "bc", "libelf-dev", "libssl-dev", "xz-utils", "perl", "patch", "cpio"),
    # the guest
    *("python3", "python3-dev", "kmod", "udev", "iproute2", "procps", "util-linux", "e2fsprogs"),
    *("f2fs-tools", "nilfs-tools", "fio", "iperf3", "strace", "file", "busybox-static"),
    *("mosquitto", "mosquitto-clients", "sqlite3", "ca-certificates"),
)
_BOOKWORM = (
    *("linux-image-amd64", "linux-headers-amd64", "gcc", "make", "libc6-dev", "sparse", "dkms"),
)

# Run by mmdebstrap in the new tree ($1): apt takes the backports from the mirror
# that it gets the release from.
_BACKPORTS = """
sed -n 's/ trixie main$/ trixie-backports main/p' "$1/etc/apt/sources.list" \
  > "$1/etc/apt/sources.list.d/backports.list"
"""
_NEWEST_KERNEL = """
chroot "$1" apt-get -qq -y --no-install-recommends -t trixie-backports install \
  linux-image-amd64 linux-headers-amd64
"""
_TRIM = """
rm -rf "$1"/usr/share/doc/* "$1"/usr/share/locale/* "$1"/usr/share/man/* "$1"/boot/initrd*
"""


def trixie() -> Path:
    """The tree with kernels 6.12 and 7.x, their headers, and all that guests run."""
    return _tree("trixie", _TRIXIE, setup=_BACKPORTS, customize=(_NEWEST_KERNEL, _TRIM))


def bookworm() -> Path:
    """The tree with kernel 6.1 and the older compiler that it wants."""
    return _tree("bookworm", _BOOKWORM, customize=(_TRIM,))


def extracted(packages: tuple[str, ...]) -> Path:
    """Files of more packages of trixie and of what they need, unpacked and not set up."""

    def make(folder: Path) -> None:
        run(
            [
                *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"),
                "--aptopt=APT::Install-Recommends false",
                f"--customize-hook={_TRIM}",
                f"--include={','.join(packages)}",
                *keyring(),
                *("trixie", folder / "root"),
                *mirrors("trixie"),
            ],
            log=folder / "mmdebstrap.log",
            what=f"unpacking {', '.join(packages)}",
        )

    return once(f"extracted-{key_of(_TRIM, *packages)}", make) / "root"


def kernel_version(tree: Path, prefix: str) -> str:
    """The kernel installed in a tree whose version begins with `prefix`.

    Raises:
        HarnessError: when there is not exactly one.
    """
    folder = tree / "usr/lib/modules"
    found = [
        p.name for p in folder.iterdir() if p.name.startswith(prefix) and (p / "build").is_symlink()
    ]
    if len(found) != 1:
        raise HarnessError(f"one kernel {prefix}* expected in {folder}, found {sorted(found)}")
    return found[0]


def _tree(
    suite: str, packages: tuple[str, ...], *, setup: str = "", customize: tuple[str, ...] = ()
) -> Path:
    def make(folder: Path) -> None:
        run(
            [
                *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
                "--aptopt=APT::Install-Recommends false",
                "--dpkgopt=force-unsafe-io",  # a crash leaves nothing in the cache
                # An initramfs of our own is made later: theirs is large and slow to make.
                *(f"--setup-hook={setup}" for _ in (1,) if setup),
                *(f"--customize-hook={hook}" for hook in customize),
                f"--include={','.join(packages)}",
                *keyring(),
                *(suite, folder / "root"),
                *mirrors(suite),
            ],
            log=folder / "mmdebstrap.log",
            what=f"making the Debian {suite} tree",
            env={"INITRD": "No"},
        )

    name = f"{suite}-{key_of(setup, *customize, *packages)}"
    return once(name, make) / "root"
