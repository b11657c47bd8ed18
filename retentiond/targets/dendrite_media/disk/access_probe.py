"""Whether reads of media move access times that this host sees: tested on the store itself, not read from mount flags.

The probe is a file without a name (O_TMPFILE) in the media directory: it leaves nothing behind, so plans make it as
well. It covers reads by this host on this file system. Access times prove nothing if reads do not reach that file
system, or do not move the times of older files: network file systems and FUSE, whose clients answer reads from a
cache; overlays, whose lower layers never note a read; and a second mount of the file system with `noatime`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.disk.mounts import LOCAL, mount_of, read_mounts
from retentiond.targets.dendrite_media.disk.tree import inside

if TYPE_CHECKING:
    from retentiond.targets.dendrite_media.disk.mounts import Mount
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

# FS_IOC_GETFLAGS and FS_NOATIME_FL of the kernel, which Python does not name.
_GET_ATTRIBUTES: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_NO_ACCESS_TIMES: Final = 0x80
_DAY: Final = 86400.0
_HOUR: Final = 3600.0
_NOT_PERMITTED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True, slots=True)
class AccessProbe:
    """How far access times of media can be trusted.

    `proven`: a media item without a recent access was not read. `shown`: a recent access time comes from a read.
    `late`: the seconds after its last access during which a file may look unread. `reason`: why nothing is proven, in
    words. `untried`: this user could not test it, and the result for a pass is unknown.
    """

    proven: bool = False
    shown: bool = True
    late: float = _DAY
    reason: str = ""
    untried: bool = False


def probe_access_times(tree: MediaTree) -> AccessProbe:
    """Test whether a read in the media directory moves an access time."""
    if os.fstatvfs(tree.root).f_flag & os.ST_NOATIME or _attributes(tree.root) & _NO_ACCESS_TIMES:
        return AccessProbe(shown=False, reason=f"{tree.path} keeps no access times (noatime, or chattr +A)")
    reason = _doubt(tree)
    if reason:
        return AccessProbe(reason=reason)
    try:
        moved, at_once = _try_to_read(tree.root)
    except OSError as error:
        reason = f"whether {tree.path} keeps access times cannot be tested: {disk_error(error)}"
        return AccessProbe(reason=reason, untried=error.errno in _NOT_PERMITTED)
    if not moved:
        return AccessProbe(reason=f"{tree.path} should keep access times, but a read did not change one")
    mount = mount_of(tree.root, read_mounts())
    lazy = mount is not None and "lazytime" in mount.shared_options
    # relatime notes a read once a day; lazytime keeps up to a day of them in memory, which a crash loses.
    return AccessProbe(proven=True, late=(0.0 if at_once else _DAY) + (_DAY if lazy else 0.0))


def _doubt(tree: MediaTree) -> str:
    """Return why no probe of ours can prove anything about the media; empty if one can."""
    mounts = read_mounts()
    mount = mount_of(tree.root, mounts)
    if mount is None:
        return (
            f"the kernel does not say which file system {tree.path} is on, so its access times prove nothing"
        )
    if mount.kind not in LOCAL:
        return (
            f"{tree.path} is on {mount.kind}, where reads of media may leave no access time that this host sees "
            "(caches of clients, layers)"
        )
    silent = _mounted_without(mount, mounts)
    if silent is not None:
        return f"the file system of {tree.path} is also mounted at {silent.point} with noatime, where dendrite may read"
    for name, _ in tree.first_level():
        with inside(tree.root, name) as directory:
            if _attributes(directory) & _NO_ACCESS_TIMES:
                return f"{tree.path}/{name} keeps no access times (chattr +A)"
    return ""


def _mounted_without(mount: Mount, mounts: list[Mount]) -> Mount | None:
    return next((one for one in mounts if one.device == mount.device and "noatime" in one.options), None)


def _try_to_read(directory: int) -> tuple[bool, bool]:
    """Return whether a read moves an old access time, and whether it moves a recent one as well. Raises OSError."""
    descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        now = time.time()
        moved = _moves(descriptor, now - 2 * _DAY)
        if not moved:
            # Some file systems note no read of an empty file, and a full disk has no room for more than one byte.
            os.pwrite(descriptor, b"\n", 0)
            moved = _moves(descriptor, now - 2 * _DAY)
        # With relatime an access time that is newer than the last change stays for a day.
        return moved, moved and _moves(descriptor, now + _HOUR)
    finally:
        os.close(descriptor)


def _moves(descriptor: int, accessed: float) -> bool:
    os.utime(descriptor, (accessed, time.time()))
    before = os.fstat(descriptor).st_atime_ns
    os.pread(descriptor, 1, 0)
    return os.fstat(descriptor).st_atime_ns != before


def _attributes(descriptor: int) -> int:
    flags = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(descriptor, _GET_ATTRIBUTES, flags)
    except OSError:
        # This file system has none.
        return 0
    return int.from_bytes(flags[:4], sys.byteorder)
