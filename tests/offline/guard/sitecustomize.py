"""Loaded by every Python of a test: notes each program, and each attempt to reach another machine.

Where the system has no way out, the attempt goes on and fails by itself; elsewhere it is refused.
"""

import errno
import os
import sys

_NOTES = os.environ["TUNEFORK_TEST_NOTES"]
_IS_CLOSED = os.environ.get("TUNEFORK_TEST_IS_CLOSED") == "1"
_LOCAL = (None, "", "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1")
_ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_NAMES = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}


def _note(kind: str, text: str) -> None:
    line = f"{kind}\t{text}\n".encode(errors="replace")
    handle = os.open(_NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, line)
    os.close(handle)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in _ADDRESSES:
        address = arguments[_ADDRESSES[event]]
        host = address[0] if isinstance(address, tuple) else None  # else a socket of this machine
    elif event in _NAMES:
        host = arguments[_NAMES[event]]
    else:
        return
    if host in _LOCAL or str(host).startswith("127."):
        return
    _note("reached", str(host))
    if not _IS_CLOSED:
        raise OSError(errno.ENETUNREACH, "a test tried to leave this machine")


sys.addaudithook(_watch)
_note("program", " ".join(sys.orig_argv))
