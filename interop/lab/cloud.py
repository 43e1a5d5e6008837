"""A cloud below one leaf: OVN, our daemon on every host, FRR or BIRD on the leaf – what the scenarios about objects start
from. What happens is said with its loss in milliseconds."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

from . import ovn
from .daemon import OvnBgpd
from .neutron import Neutron, Port
from .ovn import VirtualMachine
from .peers import Peer, canonical
from .scenario import Stage
from .shell import LabError, wait_for
from .watch import Answers, Connections, Monitor, Ping, reverse_arp, send_frame, unsolicited, wait_steady

LEAF4, LEAF6 = "10.255.255.1", "fd00:ff::1"

OURS = """\
[bgp]
asn = 64999
router_id = "172.30.1.{n}"

[bgp.peer_groups.leaf]
remote_as = 65001
hold_time = "9s"
keepalive = "3s"
connect_retry = "1s"
prefix_list_out = "{out}"

[[bgp.neighbors]]
address = "10.0.{n}.1"
local_address = "10.0.{n}.2"
peer_group = "leaf"
families = ["ipv4"]

[[bgp.neighbors]]
address = "fd00:{n}::1"
local_address = "fd00:{n}::2"
peer_group = "leaf"
families = ["ipv6"]

[prefix_lists]
hosts = ["permit 0.0.0.0/0 ge 32", "permit ::/0 ge 128"]
all = ["permit 0.0.0.0/0 ge 8", "permit ::/0 ge 16"]

[ovn]
nb = "tcp:172.17.0.1:6641"
"""


def frr_below(hosts: int) -> str:
    neighbors = [(f"10.0.{n}.2", f"fd00:{n}::2") for n in range(1, hosts + 1)]
    lines = ["frr defaults datacenter", "hostname leaf", "log stdout informational", "router bgp 65001", " bgp router-id 10.255.255.1",
             " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast", " timers bgp 3 9"]  # fmt: skip
    lines += [f" neighbor {address} remote-as 64999" for pair in neighbors for address in pair]
    for index, family in enumerate(("ipv4", "ipv6")):
        lines += [f" address-family {family} unicast", *(f"  neighbor {pair[index]} activate" for pair in neighbors), " exit-address-family"]
    return "\n".join([*lines, "exit", ""])


def bird_below(hosts: int) -> str:
    lines = ["log stderr all;", "router id 10.255.255.1;", "protocol device { }", "protocol direct { ipv4; ipv6; }"]
    lines += [f"protocol kernel k{v} {{ ipv{v} {{ export where source = RTS_BGP; import none; }}; }}" for v in (4, 6)]
    for n in range(1, hosts + 1):
        for version, address in ((4, f"10.0.{n}.2"), (6, f"fd00:{n}::2")):
            lines.append(
                f"protocol bgp h{n}v{version} {{ local as 65001; neighbor {address} as 64999; hold time 9; "
                f"ipv{version} {{ import all; export none; }}; }}"
            )
    return "\n".join([*lines, ""])


class Cloud:
    """Everything up, sessions established. `options` are more of the `[ovn]` section, `wiring` is that section."""

    def __init__(self, s: Stage, *hosts: str, leaf: str = "frr", gateways: tuple[str, ...] = (), options: str = "",
                 mappings: str = "physnet1:br-ex", everything: bool = False, wiring: str = "") -> None:  # fmt: skip
        self.s = s
        self.numbers = {name: number for number, name in enumerate(hosts, 1)}
        self.central, self.hosts = ovn.start_cloud(s.lab, *hosts, gateways=gateways, mappings=mappings)
        self.neutron = Neutron(self.central)
        self.leaf_node = s["leaf"]
        # What has no route is lost in silence, not refused: ping would make pauses, and losses would look longer than they are.
        sink = ("ip link add sink type veth peer name drain; ip link set drain up; ip link set sink arp off up; "
                "ip route add default dev sink; ip -6 route add default dev sink")  # fmt: skip
        self.leaf_node.run(f"{sink}; ip addr add {LEAF4}/32 dev lo; ip addr add {LEAF6}/128 dev lo nodad; "
                           + "; ".join(f"ethtool -K {name} tx off >/dev/null" for name in hosts))  # fmt: skip
        self.leaf: Peer = s.frr("leaf", text=frr_below(len(hosts))) if leaf == "frr" else s.bird("leaf", text=bird_below(len(hosts)))
        self.routes = Monitor(self.leaf_node, "route")
        self.ours: dict[str, OvnBgpd] = {}
        self._out = "all" if everything else "hosts"
        self._wiring = f"[wiring]\n{wiring}\n" if wiring else ""
        for name, number in self.numbers.items():
            s[name].run(f"ip route add default via 10.0.{number}.1; ip -6 route add default via fd00:{number}::1")
            self.ours[name] = s.ours(name, text=self.config(name, options))
        for number in self.numbers.values():
            for address in (f"10.0.{number}.2", f"fd00:{number}::2"):
                self.leaf.wait_established(address)
        self.losses: list[tuple[str, str, str]] = []

    def config(self, host: str, options: str) -> str:
        """Our configuration on a host; `options` end its `[ovn]` section."""
        return OURS.format(n=self.numbers[host], out=self._out) + options + "\n" + self._wiring

    def reconfigure(self, options: str) -> None:
        """The same on every host, by reload."""
        for name, daemon in self.ours.items():
            daemon.configure(self.config(name, options))
            daemon.command("reload")

    # The leaf's view ---------------------------------------------------------------------------------------------

    def hop(self, host: str, prefix: str) -> str:
        return f"fd00:{self.numbers[host]}::2" if ":" in prefix else f"10.0.{self.numbers[host]}.2"

    def at(self, host: str, *prefixes: str, timeout: float = 20.0) -> None:
        """The leaf has the prefixes from `host`, and from nobody else."""
        for prefix in map(canonical, prefixes):

            def only(prefix=prefix):
                route = self.leaf.routes().get(prefix)
                return route and [hop for hop in route.next_hops if not hop.startswith("fe80")] == [self.hop(host, prefix)]

            try:
                wait_for("", only, timeout)
            except LabError as late:
                raise LabError(f"leaf: {prefix} not via {host} alone within {timeout:g} s; it has {self.leaf.routes().get(prefix)}") from late

    def gone(self, *prefixes: str, timeout: float = 20.0) -> None:
        for prefix in prefixes:
            self.leaf.wait_gone(prefix, timeout)

    def pinged(self, *addresses: str, timeout: float = 15.0) -> None:
        for address in addresses:
            if not self.leaf_node.ping(address, source=source_for(address), timeout=timeout):
                explained = {name: daemon.command("explain", address, check=False) for name, daemon in self.ours.items()}
                raise LabError(f"leaf: no answer from {address}\n" + "\n".join(f"{name}: {text}" for name, text in explained.items()))

    def bound_to(self, port: str, column: str = "chassis") -> str:
        """The system-id of the chassis that OVN has bound a port to (or its `additional_chassis`), or an empty string."""
        out = self.central.node.run(f"ovn-sbctl --bare --columns={column} find port_binding logical_port={port}").strip()
        return self.central.node.run(f"ovn-sbctl --bare --columns=name list chassis {out}").strip() if out else ""

    def claim(self, host: str, machine: str, parent: Port, port: Port) -> None:
        """A machine takes the address of a virtual port and says so; OVN binds the port there, and Neutron follows."""
        address = port.addresses_with_length[0]
        nodad = " nodad" if ":" in address else ""
        self.s[host].run(f"ip addr replace {address} dev eth0{nodad}", namespace=machine)

        def bound() -> bool:
            send_frame(self.s[host], machine, unsolicited(parent.mac, port.addresses[0]))
            return self.bound_to(port.id) == self.hosts[host].system_id

        wait_for(f"OVN to bind {port.addresses[0]} on {host}", bound)
        port.host, port.extra["requested"] = host, ""
        self.neutron.update_ports([port])

    def migrate(self, port: Port, machine: VirtualMachine, to: str) -> VirtualMachine:
        """Live migration: what Nova, Neutron and libvirt do, in their order; the machine on its new host."""
        source, target = machine.hypervisor.node.name, self.hosts[to]
        port.extra["requested"] = f"{source},{to}"
        port.extra["options"] = {"activation-strategy": "rarp"}
        self.neutron.update_ports([port])
        arriving = target.boot(machine.name, port, timeout=0, link_up=False)
        wait_for(f"OVN to bind {port.name} on {to} as well", lambda: self.bound_to(port.id, "additional_chassis") == target.system_id)
        # The machine is paused here, runs there with what it remembers (its neighbours), and says so.
        neighbours = [line.split() for line in machine.run("ip -4 neigh; ip -6 neigh").splitlines() if "lladdr" in line]
        memory = [f"ip neigh replace {words[0]} lladdr {words[words.index('lladdr') + 1]} dev eth0 nud stale" for words in neighbours]
        machine.run("ip link set eth0 down")
        arriving.run(" && ".join(["ip link set eth0 up", *target.ways(port), *memory]))
        send_frame(target.node, arriving.name, reverse_arp(port.mac))
        machine.hypervisor.shut_down(machine)
        port.host = None
        self.neutron.update_ports([port])
        port.host = to
        del port.extra["requested"], port.extra["options"]
        self.neutron.update_ports([port])
        wait_for(f"OVN to bind {port.name} on {to} alone", lambda: self.bound_to(port.id) == target.system_id)
        return arriving

    # Watched changes ---------------------------------------------------------------------------------------------

    def say(self, what: str, change: str, figure: str) -> None:
        self.losses.append((what, change, figure))
        self.s.say(f"    {what:<44} {change:<40} {figure}")

    @contextlib.contextmanager
    def watched(self, change: str, /, untouched: bool = False, **probes: Any) -> Iterator[list[Answers]]:
        """Pings what is named while something happens (`name=address`, or `name=(address, port)` for TCP connections) and
        says the loss of each. The body has to wait until the change is seen; then answers must come steadily again. With
        `untouched` the leaf must not hear anything about these addresses meanwhile."""
        watches: dict[str, Answers] = {}
        for name, target in probes.items():
            if isinstance(target, tuple):
                watches[name] = Connections(self.leaf_node, *target, source_for(target[0]))
            else:
                watches[name] = Ping(self.leaf_node, target, source_for(target))
        try:
            wait_steady(list(watches.values()))
            for watch in watches.values():
                watch.mark()
            begin = time.time()
            yield list(watches.values())
            if untouched:
                ours = "|".join(bare(watch.address.split()[0]) for watch in watches.values())
                heard = [line for at, _, line in self.routes.changes() if at >= begin and re.match(rf"({ours}) ", line)]
                self.s.expect(not heard, f"the leaf heard of addresses that were not concerned ({change}): {heard}")
            wait_steady(list(watches.values()))
            for name, watch in watches.items():
                lost = watch.missing()
                counted = f"({lost} {watch.what}s missing)" if lost else ""
                self.say(f"{name.replace('_', ' ')} {watch.address}", change, f"loss {watch.loss():.0f} ms {counted}".rstrip())
        finally:
            for watch in watches.values():
                watch.stop()

    @contextlib.contextmanager
    def removed(self, change: str, what: str, *prefixes: str) -> Iterator[None]:
        """The body removes something; says how long the leaf's kernel kept each route."""
        begin = time.time()
        yield
        for prefix in prefixes:
            at = self.routes.when(rf"^{bare(prefix)} ", False, begin)
            self.gone(prefix)
            self.say(f"{what} {prefix}", change, f"withdrawn after {1000 * (at - begin):.0f} ms")

    @contextlib.contextmanager
    def added(self, change: str, what: str, host: str, *prefixes: str) -> Iterator[None]:
        """The body creates something; says how long it took to reach the leaf's kernel."""
        begin = time.time()
        yield
        for prefix in prefixes:
            at = self.routes.when(rf"^{bare(prefix)} ", True, begin)
            self.at(host, prefix)
            self.say(f"{what} {prefix}", change, f"there after {1000 * (at - begin):.0f} ms")


def bare(prefix: str) -> str:
    """A prefix as the kernel prints it: hosts without length."""
    return canonical(prefix).removesuffix("/32" if "." in prefix else "/128").replace(".", r"\.")


def source_for(address: str) -> str:
    return LEAF6 if ":" in address else LEAF4
