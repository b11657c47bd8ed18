"""Mounts as the kernel lists them in /proc/self/mountinfo."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "reiserfs", "tmpfs", "xfs", "zfs"}
)
"""File systems of which this kernel does every read and write: it notes each read, and a sync reaches the disk."""
_OCTAL = ("040", "011", "012", "134")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount: its point, the file system's device and type, and the options of the mount and of the file system."""

    mount_id: str
    device: str
    point: str
    options: frozenset[str]
    kind: str
    shared_options: frozenset[str]


def read_mounts() -> list[Mount]:
    """Read all mounts that this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [_parse(line) for line in lines]


def mount_of(descriptor: int, mounts: list[Mount]) -> Mount | None:
    """Return the mount through which an open directory is reached; None if the kernel does not list it."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        ids = [line.split()[1] for line in lines if line.startswith("mnt_id:")]
    return next((mount for mount in mounts if mount.mount_id in ids), None)


def mounts_below(descriptor: int) -> list[str]:
    """Return the mount points below an open directory."""
    # The descriptor's own path: the configured one may name another directory by now.
    base = os.readlink(f"/proc/self/fd/{descriptor}").rstrip("/") + "/"
    return sorted(mount.point for mount in read_mounts() if mount.point.startswith(base))


def _parse(line: str) -> Mount:
    # 36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,lazytime
    own, _, shared = line.rstrip("\n").partition(" - ")
    fields, kinds = own.split(" "), shared.split(" ")
    return Mount(
        fields[0], fields[2], _unescape(fields[4]), frozenset(fields[5].split(",")), kinds[0],
        frozenset(kinds[-1].split(",")),
    )  # fmt: skip


def _unescape(text: str) -> str:
    # mountinfo writes blanks, tabs, newlines and backslashes in octal.
    for code in _OCTAL:
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text
