"""`interop/run bench bfd`: how soon a leaf that falls silent is noticed, and how soon the kernel sends nothing there any more.

Ten links to one FRR. A link falls silent at a random moment: what the leaf sends there goes to an Ethernet address nobody has, what
it gets there it drops; no carrier is lost. (A blackhole rule would not keep a socket bound to the device from sending.) Then

    its last packet on our wire ──▶ our first packet that says Down ──▶ the kernel's notice of a default route without it

are timed by the kernel's own stamps of the packets, and by when the notice is read, which is the later of two wakings.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from . import peers, topology
from .daemon import OvnBgpd
from .figures import Table, quantile
from .laboratory import Lab
from .receiver import socket_within
from .shell import wait_for

LINKS = range(1, 11)

OURS = """\
[bgp]
asn = 64999
router_id = "10.1.1.2"
listen = []

[bgp.peer_groups.leaf]
remote_as = 65001
families = ["ipv4"]
connect_retry = "500ms"
bfd = "fabric"

{neighbors}
[bfd.profiles.fabric]
damping = false

[prefix_lists]
defaults = ["permit 0.0.0.0/0"]

[fib]
install = "defaults"
"""

NEIGHBOR = """\
[[bgp.neighbors]]
address = "10.1.{link}.1"
local_address = "10.1.{link}.2"
peer_group = "leaf"
"""

FRR = """\
frr defaults datacenter
hostname leaf
log stdout informational
router bgp 65001
 bgp router-id 10.1.1.1
 no bgp ebgp-requires-policy
{neighbors} address-family ipv4 unicast
{families} exit-address-family
exit
"""

ETH_P_ALL, ETH_P_IP, TO_US, OUTGOING = 0x0003, 0x0800, 0, 4
SO_TIMESTAMPNS = 35
RTM_NEWROUTE, RTM_DELROUTE, RTMGRP_IPV4_ROUTE = 24, 25, 0x40
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_MULTIPATH = 1, 4, 6, 9
METRIC = 20
UP = 3


@dataclass
class Link:
    """What was seen of one link since it was cut."""

    heard: float = 0.0  # the leaf's last packet
    down: float = 0.0  # ours that first said that the session is not up
    gone: float = 0.0  # the default route had lost it


@dataclass
class Watch:
    """Looks at the host's BFD packets and at its routes."""

    host: object
    links: dict[str, Link] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def start(self) -> None:
        self.names = {entry["ifindex"]: entry["ifname"] for entry in json.loads(self.host.run("ip -j link"))}
        self.links = {f"eth{link}": Link() for link in LINKS}

        def packets() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            return made

        def routes() -> socket.socket:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            made.bind((0, RTMGRP_IPV4_ROUTE))
            return made

        for make, read in [(packets, self._packet), (routes, self._route)]:
            made = socket_within(self.host, make)
            threading.Thread(target=self._forever, args=(made, read), daemon=True).start()

    @staticmethod
    def _forever(source: socket.socket, read) -> None:
        while True:
            data, control, _, sender = source.recvmsg(65536, 64)
            read(data, control, sender, time.time())

    def _packet(self, data: bytes, control, sender, _now: float) -> None:
        name, protocol, kind = sender[0], sender[1], sender[2]
        if protocol != ETH_P_IP or data[9] != socket.IPPROTO_UDP or name not in self.links:
            return
        payload = data[(data[0] & 15) * 4 :]
        if payload[2:4] != struct.pack("!H", 3784):
            return
        seconds, nanoseconds = struct.unpack("qq", control[0][2][:16])
        at, link = seconds + nanoseconds / 1e9, self.links[name]
        if kind == TO_US:
            link.heard = at
        elif kind == OUTGOING and payload[9] >> 6 != UP and not link.down:
            link.down = at

    def _route(self, data: bytes, _control, _sender, now: float) -> None:
        while len(data) >= 16:
            length, kind = struct.unpack("=IH", data[:6])
            if kind in (RTM_NEWROUTE, RTM_DELROUTE) and data[16] == socket.AF_INET and data[17] == 0:
                found = attributes(data[28:length])
                if found.get(RTA_PRIORITY) == struct.pack("=I", METRIC):
                    used = self._devices(found) if kind == RTM_NEWROUTE else set()
                    for name, link in self.links.items():
                        if name not in used and not link.gone:
                            link.gone = now
            data = data[(length + 3) & ~3 :]

    def _devices(self, found: dict[int, bytes]) -> set[str]:
        hops = [found[RTA_OIF]] if RTA_OIF in found else []
        several = found.get(RTA_MULTIPATH, b"")
        while len(several) >= 8:
            length = struct.unpack("=H", several[:2])[0]
            hops.append(several[4:8])
            several = several[(length + 3) & ~3 :]
        return {self.names.get(struct.unpack("=i", hop)[0], "") for hop in hops}


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack("=HH", data[:4])
        if length < 4:
            break
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def devices(host) -> set[str]:
    found = [route for route in json.loads(host.run("ip -j route show default") or "[]") if route.get("metric") == METRIC]
    return {hop["dev"] for route in found for hop in route.get("nexthops", [route])}


def detection(table: Table, trials: int) -> None:
    links = [topology.Link(f"host:eth{n} 10.1.{n}.2/30", f"leaf:eth{n} 10.1.{n}.1/30") for n in LINKS]
    plan = topology.Topology(nodes=[topology.Node("host"), topology.Node("leaf")], links=links)
    with Lab(plan, "bench-bfd") as lab:
        host, leaf = lab["host"], lab["leaf"]
        # What a link drops stands before what is local.
        leaf.run("ip rule add pref 10 lookup local; ip rule del pref 0")
        neighbors = "".join(f" neighbor 10.1.{n}.2 remote-as 64999\n neighbor 10.1.{n}.2 bfd\n" for n in LINKS)
        families = "".join(f"  neighbor 10.1.{n}.2 activate\n  neighbor 10.1.{n}.2 default-originate\n" for n in LINKS)
        peers.Frr(leaf).start(FRR.format(neighbors=neighbors, families=families), bfd=True)
        ours = OvnBgpd(host)
        ours.start(OURS.format(neighbors="".join(NEIGHBOR.format(link=n) for n in LINKS)))
        watch = Watch(host)
        watch.start()
        noticed, left = [], []
        while len(noticed) < trials:
            whole(ours, host)
            for cut in silence(leaf, watch):
                noticed.append(cut.down - cut.heard)
                left.append(cut.gone - cut.down)
            print(f"  {len(noticed)} trials", flush=True)
        report(table, noticed[:trials], left[:trials])


def whole(ours: OvnBgpd, host) -> None:
    """All sessions up at their intervals, all links in the default route."""
    wanted = {f"eth{n}" for n in LINKS}

    def settled() -> bool:
        timers = [(b["state"], b["detection_time_ms"]) for b in ours.show("bfd")]
        return timers == [("Up", 900.0)] * len(LINKS) and devices(host) == wanted

    wait_for("all sessions and all routes", settled, 120.0)


def silence(leaf, watch: Watch) -> list[Link]:
    """Cuts every link, in a random order and at random moments; answers what was seen, and mends them."""
    for link in watch.links.values():
        link.down = link.gone = 0.0
    order = random.sample(list(LINKS), len(LINKS))
    for n in order:
        time.sleep(random.random() * 0.5)
        leaf.run(f"ip neigh replace 10.1.{n}.2 lladdr 02:00:00:00:00:01 dev eth{n} nud permanent && ip rule add pref 1 iif eth{n} blackhole")
    wait_for("all links to be left", lambda: all(link.down and link.gone for link in watch.links.values()), 30.0)
    seen = [Link(link.heard, link.down, link.gone) for link in watch.links.values()]
    leaf.run("; ".join(["while ip rule del pref 1; do :; done 2>/dev/null", *(f"ip neigh del 10.1.{n}.2 dev eth{n}" for n in LINKS)]))
    return seen


def report(table: Table, noticed: list[float], left: list[float]) -> None:
    p99 = quantile(noticed, 0.99)
    text = f"p50 {quantile(noticed, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {max(noticed) * 1000:.0f} ms"
    what = f"a leaf falls silent, 300 ms × 3, {len(noticed)} trials: its last packet → our session is down"
    table.add(what, text, "≤ 990 ms (1.1 × 900 ms, p99)", p99 <= 0.990 and min(noticed) >= 0.899)
    text = f"p50 {quantile(left, 0.5) * 1000:.1f} ms, p99 {quantile(left, 0.99) * 1000:.1f} ms, longest {max(left) * 1000:.1f} ms"
    table.add("… → the kernel's default route no longer uses it", text, "≤ 5 ms (p99)", quantile(left, 0.99) <= 0.005)
