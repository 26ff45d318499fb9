"""Refuse the system calls that no grader needs: processes, sockets, mounts, signals.

Runs inside the child process, standard library only. A second wall behind the namespaces, and
the first where there are none. The filter is a short program for the kernel's own small machine
(classic BPF): it ends the process on a foreign processor mode, refuses the listed calls with
`EPERM`, and lets the rest pass. See `man 2 seccomp` and the kernel's `seccomp_data`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_KILL, _REFUSE, _ALLOW = 0x8000_0000, 0x0005_0000 | errno.EPERM, 0x7FFF_0000
_X32 = 0x4000_0000  # 32-bit calls on a 64-bit processor have numbers from here on

# clone3, io_uring, pidfd_open, mount_setattr and the new mount calls: one number everywhere
_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 435, 438, 442)
# fmt: off
_CALLS = {
    "x86_64": (0xC000_003E, (
        41, 53,                   # socket, socketpair
        56, 57, 58, 59, 322,      # clone, fork, vfork, execve, execveat
        62, 129, 200, 297,        # kill, rt_sigqueueinfo, tkill, rt_tgsigqueueinfo
        101, 310, 311, 312,       # ptrace, process_vm_readv, process_vm_writev, kcmp
        155, 161, 165, 166,       # pivot_root, chroot, mount, umount2
        169, 175, 246, 313, 320,  # reboot, init_module, kexec_load, and by file
        248, 249, 250,            # add_key, request_key, keyctl
        272, 308, 303, 304,       # unshare, setns, name_to_handle_at, open_by_handle_at
        298, 321, 323,            # perf_event_open, bpf, userfaultfd
    )),
    "aarch64": (0xC000_00B7, (
        198, 199,
        220, 221, 281,
        129, 138, 130, 240,
        117, 270, 271, 272,
        41, 51, 40, 39,
        142, 105, 104, 273, 294,
        217, 218, 219,
        97, 268, 264, 265,
        241, 280, 282,
    )),
}
# fmt: on


def is_known() -> bool:
    """Say whether the numbers of this processor's system calls are known here."""
    return platform.machine() in _CALLS


def refuse_calls() -> None:
    """Install the filter in this process, for good; rights must not be gainable any more.

    Raises:
        OSError: The kernel does not take it.
    """
    program = _program(*_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    n_instructions = len(program) // 8
    header = ctypes.create_string_buffer(struct.pack("@HP", n_instructions, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses the system call filter")


def _program(architecture: int, calls: tuple[int, ...]) -> bytes:
    refused = sorted({*calls, *_EVERYWHERE})
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_JUMP_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
        _line(_JUMP_AT_LEAST, _X32, len(refused) + 1, 0),
    ]
    for place, number in enumerate(refused):
        lines.append(_line(_JUMP_EQUAL, number, len(refused) - place, 0))
    return b"".join([*lines, _line(_RETURN, _ALLOW), _line(_RETURN, _REFUSE)])


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
