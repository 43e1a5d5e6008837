"""`Lab`: a topology brought up, and always taken down again. `Node`: run, start, write, look."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import images
from .cable import DAMAGE, Cable
from .engine import RUNS, Engine, claim, release
from .ovsdb import Database
from .shell import LabError, run, wait_for
from .topology import End, Link, Node as Wanted, Topology

if TYPE_CHECKING:
    from .sabotage import Sabotage

MANGLE = Path(__file__).with_name("mangle.py")

CLEAN_ENV = ["env", "-i", "-C", "/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"]


class Node:
    """A running container. Commands enter its namespaces directly (15 ms), whichever engine made it."""

    def __init__(self, name: str, container: str, pid: int, share: Path) -> None:
        self.name = name
        self.container = container
        self.pid = pid
        self.share = share  # /lab inside
        self.speakers: list[Any] = []  # what speaks BGP here, each with a `view()`
        self.captures: list[Any] = []
        self.sabotage: Sabotage | None = None
        self._started: list[str] = []

    def enter(self, namespace: str | None = None) -> list[str]:
        """The command prefix that enters the node, or a namespace (a virtual machine) inside it."""
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", *CLEAN_ENV, *inside]

    def run(self, command: str | list[str], *, check: bool = True, timeout: float = 30.0, stdin: str | None = None,
            namespace: str | None = None) -> str:  # fmt: skip
        """Standard output of a command run in the node; a string goes through the shell."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        try:
            return run([*self.enter(namespace), *words], check=check, timeout=timeout, stdin=stdin).stdout
        except LabError as failure:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise LabError(f"{self.name}: {shown}\n{str(failure).split(chr(10), 1)[-1]}") from failure

    def succeeds(self, command: str | list[str], **options) -> bool:
        try:
            self.run(command, **options)
        except LabError:
            return False
        return True

    def start(self, name: str, command: str | list[str], namespace: str | None = None) -> None:
        """Starts a daemon in the foreground of its own session, fully detached; output goes to /lab/NAME.log."""
        words = command if isinstance(command, str) else shlex.join(command)
        script = f"echo $$ >/lab/{name}.pid; exec {words}"
        inner = f"setsid sh -c {shlex.quote(script)} </dev/null >>/lab/{name}.log 2>&1 &"
        (self.share / f"{name}.pid").unlink(missing_ok=True)
        self.run(inner, namespace=namespace)
        wait_for(f"{self.name}: {name} to start", lambda: self.daemon_pid(name), 5.0, 0.005)
        if name not in self._started:
            self._started.append(name)

    def daemon_pid(self, name: str) -> int | None:
        """The process id inside the node."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.share / f"{name}.pid").read_text())
        return None

    def alive(self, name: str) -> bool:
        pid = self.daemon_pid(name)
        if pid is None:
            return False
        state = self.run(f"cat /proc/{pid}/stat 2>/dev/null", check=False)
        return bool(state) and state.rsplit(")", 1)[-1].split()[0] != "Z"

    def kill(self, name: str, number: int) -> None:
        pid = self.daemon_pid(name)
        if pid is None:
            raise LabError(f"{self.name}: {name} was never started")
        self.run(["kill", f"-{number}", str(pid)])

    def stop(self, name: str, number: int = signal.SIGTERM, timeout: float = 10.0) -> None:
        """Signals a daemon and waits until it is gone."""
        if self.alive(name):
            self.kill(name, number)
            wait_for(f"{self.name}: {name} to stop", lambda: not self.alive(name), timeout)

    def status(self, name: str, key: str) -> str:
        """A line of /proc/PID/status of a daemon (`VmRSS`, …)."""
        text = self.run(f"cat /proc/{self.daemon_pid(name)}/status")
        for line in text.splitlines():
            if line.startswith(f"{key}:"):
                return line.split(":", 1)[1].strip()
        raise LabError(f"{self.name}: {name} has no {key}")

    def cpu_seconds(self, name: str) -> float:
        """Processor time a daemon's threads have used, from the scheduler's own books (nanoseconds)."""
        lines = self.run(f"cat /proc/{self.daemon_pid(name)}/task/*/schedstat").splitlines()
        return sum(int(line.split()[0]) for line in lines) / 1e9

    def install(self, source: Path) -> None:
        """Puts the daemon's binary into the node, unless it is there already."""
        target = self.share / "ovn-bgpd"
        if not target.exists():
            shutil.copy2(source, target)
            self.run("mkdir -p /usr/local/bin && ln -sf /lab/ovn-bgpd /usr/bin/ovn-bgpd")

    def database(self, socket_name: str, name: str) -> Database:
        """A database that listens on a socket in /lab."""
        return Database(self.share / socket_name, name)

    def write(self, path: str, text: str, mode: int | None = None) -> None:
        """Writes a file in the node."""
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat >{shlex.quote(path)}", stdin=text)
        if mode is not None:
            self.run(["chmod", f"{mode:o}", path])

    def file(self, name: str) -> Path:
        """A file of the node's /lab, as it is now, where this machine can read it."""
        return self.share / name

    def log(self, name: str) -> str:
        path = self.share / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def sysctl(self, path: str, value: int | str) -> None:
        self.run(f"echo {value} >/proc/sys/{path}")

    def ping(self, address: str, *, count: int = 3, timeout: float = 5.0, source: str | None = None,
             namespace: str | None = None) -> bool:  # fmt: skip
        """True when a ping is answered (the first ones may be lost to address resolution)."""
        bind = ["-I", source] if source else []
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.succeeds(["ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", "1", *bind, address],
                             namespace=namespace, timeout=timeout + count + 2):  # fmt: skip
                return True
        return False


class Lab:
    """A topology that is up. Use it as a context manager, within `guarded()`."""

    def __init__(self, topology: Topology, name: str = "lab", keep: bool = False, say=lambda text: None,
                 sabotage: "Sabotage | None" = None) -> None:  # fmt: skip
        self.topology = topology
        self.sabotage = sabotage
        self.keep = keep
        self.say = say
        self.run_id = f"{name}-{secrets.token_hex(3)}"
        self.directory = RUNS / self.run_id
        self.engine = Engine()
        self.nodes: dict[str, Node] = {}
        self.cables: dict[str, Cable] = {}  # faulty ones, by the interface at their first end
        self.failed = False

    def __enter__(self) -> "Lab":
        leftovers = self.engine.reap()
        if leftovers:
            self.say(f"removed what earlier runs left behind: {', '.join(leftovers)}")
        claim(self.run_id)
        try:
            self._up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.failed = self.failed or kind is not None
        if self.keep and kind is not KeyboardInterrupt:
            (self.directory / "kept").touch()
            return
        self.down()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def _up(self) -> None:
        references = {name: images.ensure(self.engine, name, self.say) for name in {n.image for n in self.topology.nodes}}
        for node in self.topology.nodes:
            self._container(node, references[node.image])
        self._cables(references)

    def _cables(self, references: dict[str, str] | None = None) -> None:
        for link in self.topology.links:
            if references and self.sabotage and self.sabotage.wire and link.ends[0].node == "host":
                self._faulty(link, references, "to-host", "to-leaf", self.sabotage.wire)
            elif link.faulty:
                if not references:
                    raise LabError("a faulty cable needs containers")
                self.cables[link.ends[0].interface] = Cable(self._faulty(link, references, "to-leaf", "to-host", DAMAGE))
            else:
                self._veth(*link.ends)
        for segment in self.topology.segments:
            self._segment(segment.name, segment.ends)

    def _outside(self, command: list[str]) -> None:
        """Runs a command where all nodes can be reached by the process id of their init."""
        run(command)

    def _container(self, node: Wanted, reference: str) -> None:
        share = self.directory / node.name
        share.mkdir(parents=True)
        share.chmod(0o777)
        container = f"obl-{self.run_id}.{node.name}"
        pid = self.engine.start(container, reference, self.run_id, share)
        self.nodes[node.name] = Node(node.name, container, pid, share)
        self.nodes[node.name].sabotage = self.sabotage
        self._prepare(self.nodes[node.name], node.forwarding)

    def _faulty(self, link: Link, references: dict[str, str], side: str, other: str, fault: str) -> Node:
        """A link with a node in its middle that changes what comes in at one side (mangle.py); that node."""
        host, leaf = link.ends
        name = f"fault-{host.interface}"
        self._container(Wanted(name), next(iter(references.values())))
        middle = self.nodes[name]
        middle.run("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
        self._veth(host, End(name, "to-host"))
        self._veth(End(name, "to-leaf"), leaf)
        for end in link.ends:  # a checksum left to hardware would be left to nobody
            self.nodes[end.node].run(["ethtool", "-K", end.interface, "tx", "off"])
        with open(middle.share / "mangle.log", "w") as log:
            # The host's Python in the node's network and processes, so that it goes with the node.
            subprocess.Popen(
                ["nsenter", "-t", str(middle.pid), "-n", "-p", "--", sys.executable, str(MANGLE), side, other, fault],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=middle.share, start_new_session=True,
            )  # fmt: skip
        wait_for("the faulty cable", lambda: "forwarding" in middle.log("mangle"))
        return middle

    def far_end(self, node: str, interface: str) -> tuple[str, str]:
        """The other end of a cable; of anything else, what was asked for."""
        for link in self.topology.links:
            for one, other in (link.ends, link.ends[::-1]):
                if (one.node, one.interface) == (node, interface):
                    return other.node, other.interface
        return node, interface

    def seen(self) -> str:
        """What every speaker says of its sessions and routes, and what was on the wire: for the message of a failure."""
        lines = []
        for node in self.nodes.values():
            for thing in (*node.speakers, *node.captures):
                try:
                    with hurry(10.0):
                        lines.append(thing.view())
                except (LabError, OSError, LookupError, ValueError) as silent:
                    lines.append(f"{node.name}: no answer ({str(silent).splitlines()[-1][:200] if str(silent) else silent!r})")
        return "\n".join(lines)

    def _prepare(self, node: Node, forwarding: bool) -> None:
        on = 1 if forwarding else 0
        node.run(
            "cd /proc/sys/net; "
            f"echo {on} >ipv4/ip_forward; echo {on} >ipv6/conf/all/forwarding; echo {on} >ipv6/conf/default/forwarding; "
            "for d in all default; do echo 0 >ipv4/conf/$d/rp_filter; echo 0 >ipv6/conf/$d/accept_dad; "
            "echo 0 >ipv6/conf/$d/disable_ipv6; done; ip link set lo up; mkdir -p /run/netns; "
            # Debian 13 ships the table of routing tables under /usr only; editing it must not depend on the release.
            "mkdir -p /etc/iproute2; test -e /etc/iproute2/rt_tables || "
            "cp /usr/share/iproute2/rt_tables /etc/iproute2/rt_tables"
        )

    def _veth(self, one: End, other: End) -> None:
        a, b = self.nodes[one.node], self.nodes[other.node]
        self._outside(["ip", "link", "add", one.interface, "netns", str(a.pid), "type", "veth",
             "peer", "name", other.interface, "netns", str(b.pid)])  # fmt: skip
        for end, node in ((one, a), (other, b)):
            self._address(node, end)

    def _segment(self, name: str, ends: tuple[End, ...]) -> None:
        home = self.nodes[ends[0].node]
        home.run(f"ip link add {ends[0].interface} type bridge forward_delay 0 && ip link set {ends[0].interface} up")
        self._address(home, ends[0])
        for index, end in enumerate(ends[1:], 1):
            port = f"{name[:10]}-{index}"
            self._outside(["ip", "link", "add", port, "netns", str(home.pid), "type", "veth",
                 "peer", "name", end.interface, "netns", str(self.nodes[end.node].pid)])  # fmt: skip
            home.run(f"ip link set {port} master {ends[0].interface} up")
            self._address(self.nodes[end.node], end)

    def _address(self, node: Node, end: End) -> None:
        script = [f"ip link set {end.interface} up"]
        for address in end.addresses:
            nodad = " nodad" if ":" in address else ""
            script.append(f"ip addr add {address} dev {end.interface}{nodad}")
        node.run(" && ".join(script))

    def how_to_look(self) -> str:
        """For a person who was left a standing lab."""
        lines = [f"The lab '{self.run_id}' is still standing. To look around:"]
        for node in self.nodes.values():
            there = "".join(f"; there: {speaker.try_this}" for speaker in node.speakers[:1] if speaker.try_this)
            lines.append(f"  interop/run --enter {self.run_id} {node.name:<10} # or: nsenter -t {node.pid} -a{there}")
        lines.append(f"Logs, configurations and captures: {os.path.relpath(self.directory)}")
        lines.append("To remove it:  interop/run --clean")
        return "\n".join(lines)

    def save(self, target: Path) -> None:
        """Copies logs, configurations and captures, for a run that failed."""
        shutil.rmtree(target, ignore_errors=True)
        ignore = lambda folder, names: [n for n in names if (Path(folder) / n).is_socket()]  # noqa: E731
        shutil.copytree(self.directory, target, ignore=ignore, dirs_exist_ok=True)

    def down(self) -> None:
        """Removes every container of this run (their namespaces, processes and cables go with them) and its files."""
        with uninterrupted():
            self.engine.remove_run(self.run_id)
            release(self.directory)
        self.nodes.clear()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turns TERM and HUP into the same orderly end as ctrl-C, which also counts when we were started in the background."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def hurry(seconds: float) -> Iterator[None]:
    """For what may not answer at all (a daemon that was stopped on purpose): a `LabError` when the time is over."""

    def late(number, frame):
        raise LabError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Cleaning up is not interrupted by an impatient second ctrl-C; every step in it has a time limit."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tool_version(command: list[str]) -> str:
    """First line a host tool prints about its version, or an empty string."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.splitlines()[0]
    return ""
