"""Disk images of a guest: the root, and the modules of one kernel over it."""

from __future__ import annotations

from pathlib import Path

from .chroot import chroot
from .host import key_of, once
from .pysite import INSIDE as SITE
from .pysite import site
from .trees import extracted, trixie

# A file in the image costs time on every make, and guests neither compile nor install.
_UNUSED = """
rm -rf /boot /usr/src /usr/lib/modules /usr/lib/gcc /usr/lib/llvm-* /usr/include
rm -rf /usr/lib/x86_64-linux-gnu/libLLVM* /usr/lib/x86_64-linux-gnu/libclang*
rm -rf /var/lib/apt /var/lib/dpkg /var/cache/* /usr/share/doc /usr/share/perl* /usr/share/icons
find /usr/lib -name '*.a' -delete
find /usr/bin -name '*-linux-gnu-*' -delete
mkdir -p /usr/lib/modules /src /build
"""
# `/` is bound to a second place, so that mke2fs sees the tree without what is mounted in it.
MAKE = """
mkdir -p /image/mnt && mount --bind {source} /image/mnt
blocks=$(du -s -B 4096 /image/mnt | cut -f 1)
mke2fs -q -t ext4 -b 4096 -O ^has_journal -m 0 -L {label} -d /image/mnt \\
  -N {inodes} /image/out/{label}.ext4 $((blocks + blocks / 8 + 8192))
"""
# Drivers of real hardware, which a guest does not have, are most of a kernel's modules.
NO_HARDWARE = """
cd {modules}/kernel
rm -rf sound drivers/gpu drivers/media drivers/staging drivers/infiniband drivers/iio drivers/usb
rm -rf drivers/hid drivers/input drivers/hwmon drivers/mfd drivers/mmc drivers/mtd drivers/scsi
rm -rf drivers/net/ethernet drivers/net/wireless drivers/net/usb drivers/net/can drivers/platform
rm -rf drivers/bluetooth drivers/i2c drivers/comedi drivers/isdn drivers/video drivers/edac
rm -rf net/bluetooth net/wireless net/mac80211
cd /
depmod {release}
mkdir -p /layer/usr/lib/modules
cp -a {modules} /layer/usr/lib/modules/
rm -f /layer{modules}/build /layer{modules}/source
"""


def guest_root() -> Path:
    """The image that every guest's root is made of."""
    tree, python = trixie(), site()

    def make(folder: Path) -> None:
        chroot(
            tree,
            _UNUSED
            + f"mkdir -p {SITE} && cp -a /image/site/. {SITE}/\n"
            + MAKE.format(source="/", label="root", inodes=0).replace("-N 0 ", ""),
            log=folder / "root.log",
            what="making the guest's root",
            binds={"/image/out": folder, "/image/site": python},
        )

    key = key_of(tree.parent.name, python.parent.name, _UNUSED, MAKE)
    return once(f"root-{key}", make) / "root.ext4"


# What the root has already stays as it is there: libraries and programs of one build.
_ADDED = """
cd /image/added
find . \\( -type f -o -type l \\) -path './usr/*' | while read -r file; do
  [ -e "/$file" ] || cp -a --parents "$file" /layer/
done
cd /
"""


def packages_layer(packages: tuple[str, ...]) -> Path:
    """The image, over the root's, of more Debian packages; they are not configured."""
    tree, added = trixie(), extracted(packages)

    def make(folder: Path) -> None:
        layer(tree, _ADDED, folder, "added", {"/image/added": added})

    key = key_of(tree.parent.name, added.parent.name, _ADDED, MAKE)
    return once(f"packages-{key}", make) / "added.ext4"


def layer(tree: Path, script: str, out: Path, label: str, binds: dict[str, Path]) -> Path:
    """Make the image `out/LABEL.ext4` of what a script puts into /layer."""
    chroot(
        tree,
        "mkdir -p /layer\n" + script + MAKE.format(source="/layer", label=label, inodes=16384),
        log=out / f"{label}.log",
        what=f"making the image {label}",
        binds={"/image/out": out, **binds},
    )
    return out / f"{label}.ext4"


def modules_layer(tree: Path, release: str, out: Path) -> Path:
    """The image with the modules of a kernel that is installed in a tree."""
    modules = f"/usr/lib/modules/{release}"
    script = NO_HARDWARE.format(modules=modules, release=release)
    return layer(tree, script, out, "modules", {})
