"""`make bench`: the figures of docs/performance.md, measured in the laboratory.

Times of agent figures run from the moment the transaction is sent to the Northbound database (its commit included) to
the moment the octets of the UPDATE are read by a listener at the leaf. The wiring happens in between. northd stands
still meanwhile and `up` is written here in its place, so that the figures are ours and not OVN's.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import platform
import re
import signal
import statistics
import time
from pathlib import Path

from . import neutron, ovn, peers, topology
from .daemon import ROOT, OvnBgpd
from .laboratory import Lab, guarded
from .receiver import Receiver, host_prefix
from .shell import LabError

AGENT = """\
[bgp]
asn = 64999
router_id = "172.30.1.1"
listen = []

[[bgp.neighbors]]
address = "10.0.1.1"
local_address = "10.0.1.2"
remote_as = 65001
families = ["ipv4"]
hold_time = "180s"
connect_retry = "1s"

[advertise]
prefixes = ["172.30.1.1/32"]

[ovn]
nb = "tcp:172.17.0.1:6641"
"""

SPEAKER = """\
[bgp]
asn = 64999
router_id = "10.0.1.2"
listen = []

[[bgp.neighbors]]
address = "{peer}"
local_address = "{local}"
remote_as = 65001
families = ["{family}"]
hold_time = "180s"
connect_retry = "1s"

[advertise]
files = ["/lab/prefixes.txt"]
"""

BIRD = """\
log stderr all;
router id 10.0.1.2;
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol static s {{ {channel}; {routes} }}
protocol bgp leaf {{
  local {local} as 64999;
  neighbor {peer} as 65001;
  connect delay time 1;
  {channel} {{ import none; export where source = RTS_STATIC; next hop self; }};
}}
"""


class Table:
    """Rows of the result, printed as they come and written as Markdown at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.missed: list[str] = []

    def add(self, what: str, measured: str, wanted: str = "", good: bool | None = None) -> None:
        mark = "" if good is None else (" ✔" if good else " ✘")
        if good is False:
            self.missed.append(what)
        self.rows.append((what, measured + mark, wanted))
        print(f"{what:<66} {measured + mark:<34} {wanted}", flush=True)

    def markdown(self) -> str:
        lines = ["| what | measured | wanted |", "|---|---|---|"]
        lines += [f"| {what} | {measured} | {wanted} |" for what, measured, wanted in self.rows]
        return "\n".join(lines) + "\n"


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


class AgentBench:
    """One hypervisor, one listener at the leaf."""

    def __init__(self, lab: Lab, table: Table, rounds: int) -> None:
        self.lab, self.table, self.rounds = lab, table, rounds
        self.node = lab["hv1"]
        self.daemon = OvnBgpd(self.node)
        self.central, hypervisors = ovn.start_cloud(lab, "hv1")
        self.hypervisor = hypervisors["hv1"]
        self.node.run("ip route add default via 10.0.1.1; ip addr add 172.30.1.1/32 dev lo")
        self.receiver = Receiver(lab["leaf1"], "10.0.1.1", 65001)
        self.neutron = neutron.Neutron(self.central)
        self.provider = self.neutron.network("bench", "100.64.0.0/10", physical_network="physnet1")
        self.tenant = self.neutron.network("bench-tenant", "10.128.0.0/9")
        system = self.hypervisor.system_id
        self.router = self.neutron.router("bench", self.provider, "100.64.0.2", chassis=[system])
        self.neutron.router_interface(self.router, self.tenant)
        self.anchor = self.neutron.port(self.provider, "anchor", "100.64.0.10", host="hv1")
        self.hypervisor.boot("anchor", self.anchor)
        self.central.node.kill("northd", signal.SIGSTOP)

    def run(self) -> None:
        self.daemon.configure(AGENT)
        self.daemon.start()
        self._arrived(["100.64.0.10"], 30.0)
        time.sleep(1.0)
        self._memory("idle, one address exposed", 15)
        for exposed in (0, 1000):
            if exposed:
                self.crowd = self._ports("crowd", 1000, "100.65.0.0")
                self._bind(self.crowd, 60.0)
            self._latency(exposed)
        self._memory("1000 addresses exposed", 25)
        self._idle()
        self._restart()
        self.neutron.delete_ports(self.crowd)
        self._left(self.crowd, 60.0)
        for number in (1000, 5000):
            self._batch(number)

    # Helpers ------------------------------------------------------------------------------------------------------

    def _ports(self, name: str, number: int, first: str, network=None) -> list[neutron.Port]:
        base = int(ipaddress.ip_address(first))
        return [
            self.neutron.make_port(network or self.provider, f"{name}-{index}", [str(ipaddress.ip_address(base + index))], "hv1")
            for index in range(number)
        ]

    def _arrived(self, addresses: list[str], timeout: float) -> float:
        keys = [host_prefix(address) for address in addresses]
        table = self.receiver.table
        self.receiver.wait(lambda: all(key in table for key in keys), timeout, f"{len(keys)} announcements")
        return max(table[key] for key in keys)

    def _left(self, ports: list[neutron.Port], timeout: float) -> float:
        keys = [host_prefix(port.addresses[0]) for port in ports]
        gone = self.receiver.withdrawn
        self.receiver.wait(lambda: all(key in gone for key in keys), timeout, f"{len(keys)} withdrawals")
        return max(gone[key] for key in keys)

    def _bind(self, ports: list[neutron.Port], timeout: float) -> float:
        """Ports are written unbound first, then all come up in one transaction; that one is timed."""
        self.neutron.create_ports(ports)
        time.sleep(0.5)
        started = time.time()
        self.neutron.set_up(ports)
        return self._arrived([port.addresses[0] for port in ports], timeout) - started

    # Figures ------------------------------------------------------------------------------------------------------

    def _latency(self, exposed: int) -> None:
        times: dict[str, list[float]] = {"port expose": [], "port withdraw": [], "FIP expose": [], "FIP withdraw": []}
        inside = self._ports(f"inside-{exposed}", 1, "10.128.1.0", self.tenant)
        self.neutron.create_ports(inside)
        self.neutron.set_up(inside)
        before = self.node.cpu_seconds(self.daemon.name)
        for index in range(self.rounds):
            port = self._ports(f"single-{exposed}-{index}", 1, f"100.66.{index // 250}.{index % 250}")
            self.neutron.create_ports(port)
            time.sleep(0.02)
            started = time.time()
            self.neutron.set_up(port)
            times["port expose"].append(self._arrived(port[0].addresses, 10.0) - started)
            deletion = self.neutron.deletion(port)
            time.sleep(0.02)
            started = time.time()
            self.neutron.transact(deletion)
            times["port withdraw"].append(self._left(port, 10.0) - started)
            address = f"100.67.{index // 250}.{index % 250}"
            time.sleep(0.02)
            started = time.time()
            self.neutron.floating_ip(self.router, inside[0], address)
            times["FIP expose"].append(self._arrived([address], 10.0) - started)
            release = self.neutron.release(self.router, address)
            time.sleep(0.02)
            started = time.time()
            self.neutron.transact(release)
            key = host_prefix(address)
            self.receiver.wait(lambda k=key: k in self.receiver.withdrawn, 10.0, f"withdrawal of {address}")
            times["FIP withdraw"].append(self.receiver.withdrawn[key] - started)
        spent = (self.node.cpu_seconds(self.daemon.name) - before) / (4 * self.rounds)
        for kind, values in times.items():
            p50, p99 = statistics.median(values), quantile(values, 0.99)
            self.table.add(
                f"{kind}, {exposed} exposed: NB commit → UPDATE at the leaf",
                f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)}",
                "p50 ≤ 3 ms, p99 ≤ 15 ms",
                p50 <= 0.003 and p99 <= 0.015,
            )
        self.table.add(f"processor time for one of these events, {exposed} exposed", milliseconds(spent))
        self.neutron.delete_ports(inside)

    def _batch(self, number: int) -> None:
        limit = 0.3 if number == 1000 else 2.0
        ports = self._ports(f"batch-{number}", number, "100.70.0.0" if number == 1000 else "100.72.0.0")
        before = self.node.cpu_seconds(self.daemon.name)
        seconds = self._bind(ports, 120.0)
        spent = self.node.cpu_seconds(self.daemon.name) - before
        self.table.add(f"… of which processor time of the daemon, {number} ports", f"{spent:.3f} s")
        self.table.add(f"{number} ports bound in one transaction → last UPDATE", f"{seconds:.3f} s", f"≤ {limit} s", seconds <= limit)
        deletion = self.neutron.deletion(ports)
        started = time.time()
        self.neutron.transact(deletion)
        self.table.add(f"{number} ports deleted in one transaction → last withdrawal", f"{self._left(ports, 120.0) - started:.3f} s")

    def _restart(self) -> None:
        sessions = self.receiver.established
        self.daemon.kill()
        time.sleep(1.0)
        started = time.time()
        self.daemon.start(wait=False)
        deadline = time.monotonic() + 60
        while self.receiver.established == sessions:
            if time.monotonic() > deadline:
                raise LabError("no session within 60 s after the restart")
            time.sleep(0.005)
        seconds = self._arrived([port.addresses[0] for port in self.crowd], 60.0) - started
        self.table.add("restart with 1000 exposed → last UPDATE (process start included)", f"{seconds:.3f} s", "≤ 0.5 s", seconds <= 0.5)

    def _memory(self, when: str, limit: int) -> None:
        mebibytes = self.daemon.resident_kib() / 1024
        heap = int(self.daemon.node.status(self.daemon.name, "RssAnon").split()[0]) / 1024
        self.table.add(f"resident memory, {when}", f"{mebibytes:.1f} MB ({heap:.1f} MB without the mapped program)", f"≤ {limit} MB", mebibytes <= limit)

    def _idle(self, seconds: float = 20.0) -> None:
        time.sleep(2.0)
        before = self.node.cpu_seconds(self.daemon.name)
        time.sleep(seconds)
        share = 100 * (self.node.cpu_seconds(self.daemon.name) - before) / seconds
        self.table.add(f"processor time when nothing happens, 1000 exposed, {seconds:.0f} s", f"{share:.2f} %", "≤ 0.1 %", share <= 0.1)


def many(family: str, number: int) -> list[str]:
    """Host prefixes, in order."""
    if family == "ipv4":
        base = int(ipaddress.ip_address("100.64.0.0"))
        return [f"{ipaddress.IPv4Address(base + index)}/32" for index in range(number)]
    base = int(ipaddress.ip_address("2001:db8:100::"))
    return [f"{ipaddress.IPv6Address(base + index)}/128" for index in range(number)]


ENDS = {"ipv4": ("10.0.1.2", "10.0.1.1"), "ipv6": ("fd00:1::2", "fd00:1::1")}


def bulk(table: Table, family: str, who: str, number: int = 100_000) -> float:
    """A plain speaker is told of `number` prefixes at once; from the command to the last one received."""
    local, peer = ENDS[family]
    prefixes = many(family, number)
    with Lab(topology.pair(), "bench-bulk") as lab:
        host = lab["host"]
        receiver = Receiver(lab["leaf"], peer, 65001)
        if who == "ovn-bgpd":
            speaker = OvnBgpd(host)
            (host.share / "prefixes.txt").write_text("")
            speaker.start(SPEAKER.format(peer=peer, local=local, family=family))
            (host.share / "prefixes.txt").write_text("\n".join(prefixes) + "\n")
            daemon, go = speaker.name, lambda: speaker.command("reload")
        else:
            bird = peers.Bird(host)
            bird.start(BIRD.format(local=local, peer=peer, channel=family, routes=""))
            text = BIRD.format(local=local, peer=peer, channel=family, routes=" ".join(f"route {p} blackhole;" for p in prefixes))
            (host.share / "bird.conf").write_text(text)
            daemon, go = "bird", lambda: bird.birdc("configure")
        receiver.wait(lambda: receiver.established > 0 and receiver.last_arrival > 0, 30.0, "a session")
        time.sleep(2.0)
        receiver.reset_counters()
        started = time.time()
        go()
        receiver.wait_quiet(1.0, 120.0, started)
        seconds = receiver.last_arrival - started
        if len(receiver.table) < number:
            raise LabError(f"{who}: only {len(receiver.table)} of {number} prefixes arrived")
        seconds = max(receiver.table.values()) - started
        resident = int(host.status(daemon, "VmRSS").split()[0]) / 1024
        octets, limit = receiver.update_octets, 510_000 if family == "ipv4" else 1_750_000
        receiver.close()
    text = f"{seconds:.3f} s, {octets:,} octets in {receiver.updates} UPDATEs, {resident:.0f} MB"
    kind = "/32" if family == "ipv4" else "/128"
    if who == "ovn-bgpd":
        table.add(f"{number:,} {kind}: reload → last prefix at the peer", text, f"≤ 0.3 s, ≤ {limit // 1000:,} kB", seconds <= 0.3 and octets <= limit)
    else:
        table.add(f"… {who}: birdc configure → last prefix at the peer", text)
    return seconds


def main(arguments: list[str]) -> int:
    try:
        return measure(arguments)
    except (LabError, KeyboardInterrupt) as failure:
        print(f"interop/run bench: {failure or 'interrupted'}")
        return 1


def measure(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="interop/run bench", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="agent, bulk, crowd (default: these), bfd")
    parser.add_argument("--rounds", type=int, default=100, help="single events for each latency figure")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--keep", action="store_true", help="leave the agent's lab standing")
    parser.add_argument("--trials", type=int, default=100, help="of bfd: how often a leaf falls silent")
    options = parser.parse_args(arguments)
    if options.write and "bfd" in options.what:
        parser.error("--write would put the rows of bfd where those of the others are: they belong below what `make bench-bfd` prints first")
    what = options.what or ["agent", "bulk", "crowd"]
    table = Table()
    with guarded():
        if "agent" in what:
            with Lab(topology.first_light(), "bench", keep=options.keep, say=print) as lab:
                AgentBench(lab, table, options.rounds).run()
        if "bulk" in what or "bird" in what:
            for family in ("ipv4", "ipv6"):
                if "bulk" in what:
                    bulk(table, family, "ovn-bgpd")
                bulk(table, family, "BIRD 2.17")
        if "crowd" in what:
            from .crowd import crowd

            for who in ("ovn-bgpd", "BIRD 2.17"):
                crowd(table, who, many("ipv4", 100_000), many("ipv6", 100_000))
        if "bfd" in what:
            from .detection import detection

            detection(table, options.trials)
            print(table.markdown(), end="")
    if options.write:
        write(table, "interop/run bench " + " ".join(arguments))
    print(f"{len(table.rows) - len(table.missed)} figures, {len(table.missed)} missed" + (f": {'; '.join(table.missed)}" if table.missed else ""))
    return 1 if table.missed else 0


def write(table: Table, command: str) -> None:
    """Replaces the measured block of docs/performance.md."""
    path = ROOT / "docs" / "performance.md"
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    block = (
        f"{begin}\n{date}, `{command.strip()}`, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}:\n\n{table.markdown()}{end}"
    )
    text = path.read_text() if path.exists() else f"# Performance\n\n{begin}\n{end}\n"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: block, text, flags=re.S))
    print(f"written: {Path(path).relative_to(ROOT)}")
