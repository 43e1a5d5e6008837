"""Watching from the leaf while something happens: pings and TCP connections with the loss in milliseconds, and the exact
time of every change of a kernel's routes, rules and neighbours.

A loss is the longest silence between two answers when an answer between them is missing – what a user of the address
would have noticed – and zero when none is missing.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import re
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from .laboratory import Node
from .shell import LabError, wait_for

CLONE_NEWNET = 0x40000000
INTERVAL = 0.01  # of pings, seconds


def inside(namespace: str, work: Callable[[], Any]) -> threading.Thread:
    """Runs `work` in a thread of its own within a network namespace, given by its path."""

    def enter() -> None:
        descriptor = os.open(namespace, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
        finally:
            os.close(descriptor)
        work()

    thread = threading.Thread(target=enter, daemon=True)  # a thread may change its namespace without moving the others
    thread.start()
    return thread


def namespace_of(node: Node, machine: str | None = None) -> str:
    """The path of a node's network namespace, or of a virtual machine's in it."""
    return f"/proc/{node.pid}/root/run/netns/{machine}" if machine else f"/proc/{node.pid}/ns/net"


class Answers:
    """Answers of one address, as (number, time) pairs; the part that pings and connections have in common."""

    what = "answer"

    def __init__(self, address: str) -> None:
        self.address = address
        self._from = 0

    def answers(self) -> list[tuple[int, float]]:
        raise NotImplementedError

    def mark(self) -> None:
        """What counts begins with the last answer so far."""
        self._from = max(0, len(self.answers()) - 1)

    def loss(self) -> float:
        """Milliseconds of the longest silence with an answer missing, since the mark."""
        counted = self.answers()[self._from :]
        silences = [later[1] - earlier[1] for earlier, later in zip(counted, counted[1:]) if later[0] > earlier[0] + 1]
        return 1000.0 * max(silences, default=0.0)

    def missing(self) -> int:
        """How many answers are missing since the mark."""
        counted = self.answers()[self._from :]
        return counted[-1][0] - counted[0][0] + 1 - len(counted) if counted else 0


def wait_steady(watches: list[Answers], timeout: float = 20.0, in_a_row: int = 20) -> None:
    """Waits for answers in a row, of each, that begin after now."""
    waiting = {watch: len(watch.answers()) for watch in watches}

    def steady(watch: Answers, begin: int) -> bool:
        new = watch.answers()[begin:]
        return len(new) > in_a_row and new[-1][0] - new[-1 - in_a_row][0] == in_a_row

    def all_steady() -> bool:
        for watch, begin in list(waiting.items()):
            if steady(watch, begin):
                del waiting[watch]
        return not waiting

    try:
        wait_for("", all_steady, timeout, 0.1)
    except LabError as late:
        missing = ", ".join(f"{watch.address} ({watch.what}s)" for watch in waiting)
        raise LabError(f"not {in_a_row} answers in a row within {timeout:g} s from {missing}") from late


class Ping(Answers):
    """`ping` every 10 ms (20 where the kernel's clock is coarse) in a node, into a log."""

    what = "answered ping"
    _numbers = 0

    def __init__(self, node: Node, address: str, source: str | None = None, interval: float = INTERVAL) -> None:
        super().__init__(address)
        Ping._numbers += 1
        self.node = node
        self.name = f"ping-{Ping._numbers}"
        bind = f"-I {source} " if source else ""
        node.start(self.name, f"ping -n -D -i {interval} {bind}{address}")
        self._answers: list[tuple[int, float]] = []
        self._read = 0

    def answers(self) -> list[tuple[int, float]]:
        with open(self.node.share / f"{self.name}.log", errors="replace") as log:
            log.seek(self._read)
            text = log.read()
        whole, newline, _ = text.rpartition("\n")
        self._read += len((whole + newline).encode())
        for line in whole.splitlines():
            found = re.match(r"\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+) ", line)
            if found and "DUP" not in line:
                number = int(found.group(2))
                if self._answers:  # sequence numbers have 16 bits
                    number += (self._answers[-1][0] - number + 32768) // 65536 * 65536
                self._answers.append((number, float(found.group(1))))
        return self._answers

    def stop(self) -> None:
        self.node.stop(self.name, signal.SIGKILL)


class Connections(Answers):
    """A TCP connection every 20 ms, each of which has to be answered with the name of whoever accepted it. The time that
    counts is the one at which it was begun; one that takes nearly a second (the first repetition) has failed."""

    what = "answered connection"
    PATIENCE = 0.9

    def __init__(self, node: Node, address: str, port: int, source: str, interval: float = 0.02) -> None:
        super().__init__(f"{address} port {port}")
        self._target = (address, port)
        self._source = source
        self._interval = interval
        self._answers: list[tuple[int, float]] = []
        self.servers: list[str] = []
        self._stop = threading.Event()
        self._thread = inside(namespace_of(node), self._run)

    def _run(self) -> None:
        with selectors.DefaultSelector() as waiting:
            number, due = 0, time.monotonic()
            while not self._stop.is_set():
                if time.monotonic() >= due:
                    number, due = number + 1, due + self._interval
                    self._begin(waiting, number)
                for key, _ in waiting.select(max(0.0, due - time.monotonic())):
                    self._end(waiting, key)
                for key in [key for key in waiting.get_map().values() if key.data[2] < time.monotonic() - self.PATIENCE]:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
            for key in list(waiting.get_map().values()):
                key.fileobj.close()

    def _begin(self, waiting: selectors.BaseSelector, number: int) -> None:
        client = socket.socket(socket.AF_INET6 if ":" in self._source else socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            client.bind((self._source, 0))
            client.connect_ex(self._target)
            waiting.register(client, selectors.EVENT_READ, (number, time.time(), time.monotonic()))
        except OSError:
            client.close()

    def _end(self, waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        waiting.unregister(key.fileobj)
        with key.fileobj as client:
            try:
                name = client.recv(64).decode()
            except OSError:
                return
        if name:
            self.servers.append(name)
            self._answers.append((key.data[0], key.data[1]))

    def answers(self) -> list[tuple[int, float]]:
        return sorted(self._answers)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)


def serve(node: Node, machine: str, port: int, kind: str = "tcp") -> None:
    """Answers every TCP connection (or UDP datagram) to `port` of a virtual machine with the machine's name."""

    def tcp() -> None:
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as server:
            while True:
                client, _ = server.accept()
                with client:
                    client.sendall(machine.encode())

    def udp() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind(("::", port))
            while True:
                _, client = server.recvfrom(512)
                server.sendto(machine.encode(), client)

    inside(namespace_of(node, machine), {"tcp": tcp, "udp": udp}[kind])


def ask_udp(node: Node, address: str, port: int, source: str, timeout: float = 5.0) -> str:
    """Who answers a datagram; an empty string if nobody does within the time."""
    heard: list[str] = []

    def ask() -> None:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.2)
            client.bind((source, 0))
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline and not heard:
                try:
                    client.sendto(b"?", (address, port))
                    heard.append(client.recv(64).decode())
                except OSError:
                    time.sleep(0.05)

    inside(namespace_of(node), ask).join(timeout + 5)
    return heard[0] if heard else ""


class Missing:
    """Looks at the leaf's table all the time and notes which of the prefixes it misses."""

    def __init__(self, leaf, prefixes):
        self.leaf = leaf
        self.prefixes = set(prefixes)
        self.missed = set()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.05):
            try:
                self.missed |= self.prefixes - set(self.leaf.routes())
                self.looks += 1
            except LabError:
                continue  # no answer from a busy leaf is no route lost


class Monitor:
    """`ip -ts monitor` in a node: when which route, rule or neighbour changed."""

    def __init__(self, node: Node, *kinds: str) -> None:
        self.node = node
        self.name = "monitor-" + "-".join(kinds)
        node.start(self.name, ["stdbuf", "-oL", "ip", "-ts", "monitor", *kinds])
        self._read = 0
        self._changes: list[tuple[float, bool, str]] = []

    def changes(self) -> list[tuple[float, bool, str]]:
        """Time, whether it was added, and the line (without the device)."""
        text = (self.node.share / f"{self.name}.log").read_text(errors="replace")
        whole = text[: text.rfind("\n") + 1]
        for line in whole[self._read :].splitlines():
            found = re.match(r"\[(\S+?)\] (Deleted )?(.*)", line)
            if found:
                when = datetime.datetime.fromisoformat(found.group(1)).replace(tzinfo=datetime.timezone.utc).timestamp()
                self._changes.append((when, not found.group(2), " ".join(found.group(3).split())))
        self._read = len(whole)
        return self._changes

    def when(self, pattern: str, added: bool, since: float, timeout: float = 20.0) -> float:
        """The time of the first change whose line matches, after `since`."""
        expression = re.compile(pattern)

        def look() -> float | None:
            fitting = (at for at, new, line in self.changes() if at >= since and new == added and expression.search(line))
            return next(fitting, None)

        word = "added" if added else "removed"
        return wait_for(f"{self.node.name}: {pattern} to be {word}", look, timeout)

    def repaired(self, pattern: str, since: float, returned: str = "", timeout: float = 20.0) -> float:
        """Milliseconds from the removal of what matches to its return (when it looks otherwise then, like `returned`)."""
        gone = self.when(pattern, False, since, timeout)
        return 1000.0 * (self.when(returned or pattern, True, gone, timeout) - gone)


def send_frame(node: Node, machine: str, frame: bytes) -> None:
    """Puts an Ethernet frame on a virtual machine's wire."""
    sent = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            wire.send(frame.ljust(60, b"\0"))
        sent.set()

    inside(namespace_of(node, machine), send).join(5)
    if not sent.is_set():
        raise LabError(f"{machine}: a frame was not sent")


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def reverse_arp(mac: str) -> bytes:
    """What a hypervisor sends for a machine that has arrived."""
    raw = octets(mac)
    return b"\xff" * 6 + raw + bytes.fromhex("80350001080006040003") + raw + bytes(4) + raw + bytes(4)


def unsolicited(mac: str, address: str) -> bytes:
    """What a machine sends that has taken an address: a gratuitous ARP, or a neighbour advertisement."""
    raw = octets(mac)
    if ":" not in address:
        ip = socket.inet_aton(address)
        return b"\xff" * 6 + raw + bytes.fromhex("08060001080006040001") + raw + ip + bytes(6) + ip
    ip, everyone = (socket.inet_pton(socket.AF_INET6, text) for text in (address, "ff02::1"))
    head, target = bytes([136, 0]), bytes([0x20, 0, 0, 0]) + ip + bytes([2, 1]) + raw
    pseudo = ip + everyone + bytes([0, 0, 0, 32, 0, 0, 0, 58]) + head + bytes(2) + target
    total = sum(int.from_bytes(pseudo[at : at + 2], "big") for at in range(0, len(pseudo), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet = bytes([0x60, 0, 0, 0, 0, 32, 58, 255]) + ip + everyone + head + (0xFFFF ^ total).to_bytes(2, "big") + target
    return bytes.fromhex("333300000001") + raw + bytes.fromhex("86dd") + packet
