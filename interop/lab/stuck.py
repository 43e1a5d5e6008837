"""A speaker that is too busy to read, although its KEEPALIVEs keep coming: what the send-hold timer (RFC 9687) is for.

A process that is stopped as a whole falls silent, and the hold timer ends the session. These two leave it alive on the wire:

    MainThreadStopped(node, "bgpd")              FRR's bgpd has threads of its own for its sockets and its KEEPALIVEs: those go on
    StoppedButAlive(node, "bird", "fd00:1::2")   any other: it is stopped, and its KEEPALIVEs are said on its own socket for it

Both are context managers; at the end the speaker goes on where it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
from pathlib import Path

from .laboratory import Node
from .shell import LabError, wait_for

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000
PIDFD_GETFD = 438  # the same number on every architecture; Python has no name for it
KEEPALIVE = b"\xff" * 16 + b"\x00\x13\x04"


def process_here(node: Node, daemon: str) -> int:
    """A daemon's process id as this machine counts it, not as its node does."""
    inside, namespace = node.daemon_pid(daemon), os.readlink(f"/proc/{node.pid}/ns/pid")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, StopIteration):
            if os.readlink(entry / "ns/pid") == namespace:
                ids = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
                if int(ids.split()[-1]) == inside:
                    return int(entry.name)
    raise LabError(f"{node.name}: {daemon} is not running")


class MainThreadStopped:
    """The first thread of a process stands still (ptrace: a signal would stop all of them)."""

    def __init__(self, node: Node, daemon: str) -> None:
        self._thread = process_here(node, daemon)

    def __enter__(self) -> "MainThreadStopped":
        self._trace(PTRACE_SEIZE)
        self._trace(PTRACE_INTERRUPT)
        os.waitpid(self._thread, WALL)
        return self

    def __exit__(self, *_) -> None:
        self._trace(PTRACE_DETACH)

    def _trace(self, request: int) -> None:
        words = (ctypes.c_long(request), ctypes.c_long(self._thread), ctypes.c_void_p(), ctypes.c_void_p())
        if LIBC.ptrace(*words) != 0:
            raise LabError(f"ptrace {request:#x} of {self._thread}: {os.strerror(ctypes.get_errno())}")


class StoppedButAlive:
    """A process is stopped (SIGSTOP), and KEEPALIVE is said on its connection with `remote` in its name, every two seconds."""

    def __init__(self, node: Node, daemon: str, remote: str) -> None:
        self._process = process_here(node, daemon)
        self._remote = remote
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> "StoppedButAlive":
        self._socket = self._connection()
        os.kill(self._process, signal.SIGSTOP)
        self._thread.start()
        wait_for("the process to stop", self._stopped, 5.0, 0.01)
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()  # before the speaker wakes up: its own close is then the last one, and the other end hears of it
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGCONT)

    def _stopped(self) -> bool:
        states = [(task / "stat").read_text().rsplit(")", 1)[-1].split()[0] for task in Path(f"/proc/{self._process}/task").iterdir()]
        return all(state == "T" for state in states)

    def _connection(self) -> socket.socket:
        """The socket itself, a second time: what is written here comes from the same connection."""
        process = os.pidfd_open(self._process)
        try:
            for entry in Path(f"/proc/{self._process}/fd").iterdir():
                if not os.readlink(entry).startswith("socket:"):
                    continue
                number = LIBC.syscall(PIDFD_GETFD, process, int(entry.name), 0)
                if number < 0:
                    raise LabError(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
                found = socket.socket(fileno=number)
                with contextlib.suppress(OSError):
                    internet = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                    if internet and found.getpeername()[0] == self._remote:
                        return found
                found.close()
        finally:
            os.close(process)
        raise LabError(f"process {self._process} has no connection with {self._remote}")

    def _speak(self) -> None:
        while not self._over.is_set():
            try:
                self._socket.send(KEEPALIVE, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                return  # the other end has had enough
            self._over.wait(2.0)
