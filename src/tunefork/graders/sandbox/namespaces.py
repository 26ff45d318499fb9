"""Leave the system behind: Linux namespaces with a file tree of Python's own files.

Runs inside the child process before the stranger's program; standard library only, since the
child imports nothing of this package. `enter` needs Linux 5.12 and user namespaces that
unprivileged users may make. See `man 7 namespaces`, `man 2 mount_setattr`, `man 2 pivot_root`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_NEW = {
    "mount": 0x0002_0000,
    "cgroup": 0x0200_0000,
    "hostname": 0x0400_0000,
    "ipc": 0x0800_0000,
    "user": 0x1000_0000,
    "pid": 0x2000_0000,
    "network": 0x4000_0000,
}
_NOBODY = 65534
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x4_0000
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # the same on all processors
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 0x1, 0x2, 0x4
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITIES_V3 = 0x2008_0522
_ROOT = "/tmp"  # any folder: it is covered by the new tree, in this process only

_libc = ctypes.CDLL(None, use_errno=True)


def enter(visible: list[str]) -> None:
    """Move into new namespaces, as the only process there, seeing only `visible` paths.

    Returns in a child; the process that called waits for it and ends with it.

    Raises:
        OSError: The system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", sum(_NEW.values()))
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{_NOBODY} {group} 1")
    _move_to_tree(visible)
    die_with_parent()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    die_with_parent()
    _drop_capabilities()


def die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it ends."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def gain_nothing() -> None:
    """Give up, for good, every way of gaining rights by starting a program."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _move_to_tree(visible: list[str]) -> None:
    """Make a read-only tree of bind mounts the whole file system."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    sources = [(path, os.path.isdir(path)) for path in visible]
    handles = [os.open(path, os.O_PATH) for path, _ in sources]  # the new tree may cover them
    _mount("tmpfs", _ROOT, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for (path, is_folder), handle in zip(sources, handles, strict=True):
        target = _ROOT + path
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder:
            _write(target, "")
        _mount(f"/proc/self/fd/{handle}", target, None, _MS_BIND | _MS_REC)
        os.close(handle)
    _make_read_only(_ROOT)
    os.chdir(_ROOT)
    # New and old root in one place; what is then on top is the old one.
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def _make_read_only(path: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    _call(
        "syscall",
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        path.encode(),
        ctypes.c_long(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    name = None if kind is None else kind.encode()
    _call("mount", source.encode(), target.encode(), name, ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
