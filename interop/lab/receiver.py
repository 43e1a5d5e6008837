"""A BGP listener for measurements: accepts sessions in a node's network and notes when each byte arrived.

It keeps its neighbours happy and parses on demand, after the clock has been read: what is measured is the sender.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from .laboratory import Node
from .shell import LabError

CLONE_NEWNET = 0x40000000
OPEN, UPDATE, KEEPALIVE = 1, 2, 4

Prefix = tuple[int, int, bytes]  # address family, length, address octets


def socket_within(node: Node, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket made inside the node's network namespace; it stays there, whoever uses it."""
    made: list[socket.socket | OSError] = []

    def enter_and_make() -> None:
        try:
            namespace = os.open(f"/proc/{node.pid}/ns/net", os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(namespace)
            made.append(make())
        except OSError as failure:
            made.append(failure)

    thread = threading.Thread(target=enter_and_make)  # a thread may change its network namespace without moving the others
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def listening_socket(node: Node, address: str, port: int = 179) -> socket.socket:
    """A TCP socket that listens inside the node."""

    def make() -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(4)
        return server

    try:
        return socket_within(node, make)
    except OSError as failure:
        raise LabError(f"{node.name}: cannot listen on {address}: {failure}") from failure


def message(kind: int, body: bytes) -> bytes:
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def open_message(asn: int, router_id: str, hold_time: int, four_octets: bool = True) -> bytes:
    """An OPEN for both families; without `four_octets` that of an old speaker (RFC 6793 §3)."""
    capabilities = b"".join(
        [
            bytes([1, 4]) + struct.pack("!HBB", 1, 0, 1),
            bytes([1, 4]) + struct.pack("!HBB", 2, 0, 1),
            bytes([2, 0]),
            bytes([65, 4]) + struct.pack("!I", asn) if four_octets else b"",
        ]
    )
    parameters = bytes([2, len(capabilities)]) + capabilities
    short = asn if asn < 65536 else 23456
    fixed = struct.pack("!BHH4sB", 4, short, hold_time, socket.inet_aton(router_id), len(parameters))
    return message(OPEN, fixed + parameters)


class Receiver:
    """Listens on one address; collects what the current session sends."""

    def __init__(self, node: Node, address: str, asn: int, router_id: str = "10.0.1.1", hold_time: int = 180,
                 four_octets: bool = True, pace: int = 0) -> None:  # fmt: skip
        self._server = listening_socket(node, address)
        self._open = open_message(asn, router_id, hold_time, four_octets)
        self._hold = hold_time
        self._connection: socket.socket | None = None
        self._pace = pace  # octets a second it takes; 0: as fast as they come
        self.keepalives: list[float] = []
        self._changed = threading.Condition()
        self._chunks: list[tuple[float, bytes]] = []
        self._parsed = 0
        self._rest = b""
        self._closed = False
        self.established = 0
        self.last_arrival = 0.0
        self.update_octets = 0
        self.updates = 0
        self.table: dict[Prefix, float] = {}  # present prefixes: when they were announced last
        self.withdrawn: dict[Prefix, float] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, octets: bytes) -> None:
        """Sends whole messages on the current session."""
        if self._connection is None:
            raise LabError("there is no session to say anything on")
        self._connection.sendall(octets)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            # Wakes whoever waits for a connection; until then the kernel would keep the address in use.
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384 if self._pace else 4 << 20)
        try:
            connection.sendall(self._open + message(KEEPALIVE, b""))
            stop = threading.Event()
            threading.Thread(target=self._keep_alive, args=(connection, stop), daemon=True).start()
            with self._changed:
                self._chunks.clear()
                self._parsed, self._rest = 0, b""
                self.table.clear()
                self.withdrawn.clear()
                self._connection = connection
                self.established += 1
            while True:
                chunk = connection.recv(8192 if self._pace else 1 << 18)
                if self._pace:
                    time.sleep(len(chunk) / self._pace)
                now = time.time()
                if not chunk:
                    break
                with self._changed:
                    self._chunks.append((now, chunk))
                    self.last_arrival = now
                    self._changed.notify_all()
        except OSError:
            pass
        finally:
            stop.set()
            connection.close()

    @staticmethod
    def _keep_alive(connection: socket.socket, stop: threading.Event) -> None:
        while not stop.wait(2.0):
            try:
                connection.sendall(message(KEEPALIVE, b""))
            except OSError:
                return

    # Looking ------------------------------------------------------------------------------------------------------

    def reset_counters(self) -> None:
        with self._changed:
            self._parse()
            self.update_octets = self.updates = 0
            self.keepalives.clear()

    def wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Parses what came and waits until `condition` holds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                self._parse()
                if condition():
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LabError(f"{what}: not within {timeout:g} s; {len(self.table)} prefixes are here")
                self._changed.wait(min(left, 0.5))

    def wait_quiet(self, quiet: float, timeout: float, since: float) -> None:
        """Waits until something came after `since` and then nothing for `quiet` seconds; parses afterwards."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.last_arrival > since and time.time() - self.last_arrival > quiet:
                with self._changed:
                    self._parse()
                return
            time.sleep(0.02)
        raise LabError(f"nothing, or no end of it, within {timeout:g} s")

    def _parse(self) -> None:
        while self._parsed < len(self._chunks):
            when, chunk = self._chunks[self._parsed]
            self._parsed += 1
            data = self._rest + chunk if self._rest else chunk
            at = 0
            while len(data) - at >= 19:
                length = struct.unpack_from("!H", data, at + 16)[0]
                if len(data) - at < length:
                    break
                if data[at + 18] == KEEPALIVE:
                    self.keepalives.append(when)
                elif data[at + 18] == UPDATE:
                    self.update_octets += length
                    self.updates += 1
                    self._update(data[at + 19 : at + length], when)
                at += length
            self._rest = data[at:]
        self._chunks.clear()
        self._parsed = 0

    def _update(self, body: bytes, when: float) -> None:
        gone = struct.unpack_from("!H", body)[0]
        self._prefixes(1, body[2 : 2 + gone], when, False)
        size = struct.unpack_from("!H", body, 2 + gone)[0]
        at = 4 + gone
        end = at + size
        self._prefixes(1, body[end:], when, True)
        while at < end:
            flags, kind = body[at], body[at + 1]
            if flags & 0x10:
                length, start = struct.unpack_from("!H", body, at + 2)[0], at + 4
            else:
                length, start = body[at + 2], at + 3
            value = body[start : start + length]
            if kind == 14:
                self._prefixes(struct.unpack_from("!H", value)[0], value[5 + value[3] :], when, True)
            elif kind == 15:
                self._prefixes(struct.unpack_from("!H", value)[0], value[3:], when, False)
            at = start + length

    def _prefixes(self, family: int, data: bytes, when: float, announced: bool) -> None:
        at = 0
        size = len(data)
        while at < size:
            bits = data[at]
            octets = (bits + 7) >> 3
            key = (family, bits, data[at + 1 : at + 1 + octets])
            if announced:
                self.table[key] = when
                self.withdrawn.pop(key, None)
            else:
                self.table.pop(key, None)
                self.withdrawn[key] = when
            at += 1 + octets


def host_prefix(address: str) -> Prefix:
    """The key of a /32 or /128."""
    if ":" in address:
        return (2, 128, socket.inet_pton(socket.AF_INET6, address))
    return (1, 32, socket.inet_pton(socket.AF_INET, address))
