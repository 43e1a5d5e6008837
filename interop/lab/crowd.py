"""`interop/run bench crowd`: four peers are told of 100,000 prefixes of each family at once, two of them read slowly.

Ours and BIRD, one after the other on the same machine. What counts is when the last prefix arrived at the fast peers and at the slow
ones, and whether KEEPALIVEs came in time meanwhile: to a slow peer they wait in the same socket as everything else.
"""

from __future__ import annotations

import time

from . import peers, topology
from .daemon import OvnBgpd
from .laboratory import Lab, Node
from .receiver import Receiver

OURS = """\
[bgp]
asn = 64999
router_id = "10.0.9.100"
listen = []

[bgp.peer_groups.leaf]
remote_as = 65001
local_address = "10.0.9.100"
hold_time = "9s"
keepalive = "3s"
connect_retry = "1s"

{neighbors}
[advertise]
files = ["/lab/prefixes.txt"]
"""

BIRD = """\
log stderr all;
router id 10.0.9.100;
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol static s4 {{ ipv4; {routes4} }}
protocol static s6 {{ ipv6; {routes6} }}
template bgp leaf {{
  local 10.0.9.100 as 64999;
  hold time 9; keepalive time 3; connect delay time 1;
  ipv4 {{ import none; export where source = RTS_STATIC; next hop self; }};
  ipv6 {{ import none; export where source = RTS_STATIC; next hop address fd00:1::2; }};
}}
{neighbors}
"""

PEERS = [f"10.0.9.{index}" for index in range(1, 5)]
SLOW = 200_000  # octets a second: eleven seconds for all of it, longer than the hold time


def crowd(table, who: str, four: list[str], six: list[str]) -> None:
    """One speaker; `table` takes the rows."""
    with Lab(topology.pair(), "bench-crowd") as lab:
        host = lab["host"]
        host.run("ip addr add 10.0.9.100/24 dev eth1")
        lab["leaf"].run("; ".join(f"ip addr add {address}/24 dev eth1" for address in PEERS))
        receivers = [
            Receiver(lab["leaf"], address, 65001, address, hold_time=9, pace=SLOW if index > 1 else 0)
            for index, address in enumerate(PEERS)
        ]
        daemon, go = start(host, who, four, six)
        for receiver in receivers:
            receiver.wait(lambda r=receiver: r.established > 0 and r.last_arrival > 0, 60.0, "a session")
        time.sleep(2.0)
        before = host.cpu_seconds(daemon)
        for receiver in receivers:
            receiver.reset_counters()
        started = time.time()
        go()
        for receiver in receivers:
            receiver.wait_quiet(1.5, 180.0, started)
        spent = host.cpu_seconds(daemon) - before
        resident = int(host.status(daemon, "VmRSS").split()[0]) / 1024
        done = []
        for receiver in receivers:
            receiver.wait(lambda r=receiver: len(r.table) >= len(four) + len(six), 60.0, f"{who}: all prefixes")
            done.append(max(receiver.table.values()) - started)
        # A slow peer hears KEEPALIVEs behind what its own socket holds, but it hears something all the time.
        gap = max(longest([started, *receiver.keepalives]) for receiver in receivers[:2])
        silence = max(longest(sorted({started, *receiver.keepalives, *receiver.table.values()})) for receiver in receivers[2:])
        lost = sum(receiver.established - 1 for receiver in receivers)
        for receiver in receivers:
            receiver.close()
    ours = who == "ovn-bgpd"
    what = f"{len(four):,} /32 and {len(six):,} /128 to 4 peers at once, 2 of them take {SLOW // 1000} kB/s"
    text = f"fast {max(done[:2]):.3f} s, slow {max(done[2:]):.1f} s, {spent:.2f} s of processor, {resident:.0f} MB"
    table.add(f"{what} → last prefix" if ours else f"… {who}", text)
    text = f"{gap:.1f} s at the fast ones, slow ones hear nothing for {silence:.1f} s, {lost} sessions lost"
    good = max(gap, silence) < 9.0 and lost == 0
    table.add("… longest time between KEEPALIVEs, of 3 s" if ours else f"… {who}", text, "< 9 s, 0" if ours else "", good if ours else None)


def longest(times: list[float]) -> float:
    """The longest pause."""
    return max((later - earlier for earlier, later in zip(times, times[1:], strict=False)), default=0.0)


def start(host: Node, who: str, four: list[str], six: list[str]):
    """Starts a speaker without routes; its name, and what gives it all of them."""
    if who == "ovn-bgpd":
        speaker = OvnBgpd(host)
        neighbors = "".join(f'[[bgp.neighbors]]\naddress = "{address}"\npeer_group = "leaf"\n\n' for address in PEERS)
        (host.share / "prefixes.txt").write_text("")
        speaker.start(OURS.format(neighbors=neighbors))
        (host.share / "prefixes.txt").write_text("\n".join(four + six) + "\n")
        return speaker.name, lambda: speaker.command("reload")
    neighbors = "".join(f"protocol bgp from leaf {{ neighbor {address} as 65001; }}\n" for address in PEERS)
    bird = peers.Bird(host)
    bird.start(BIRD.format(routes4="", routes6="", neighbors=neighbors))
    routes = lambda prefixes: " ".join(f"route {prefix} blackhole;" for prefix in prefixes)  # noqa: E731
    (host.share / "bird.conf").write_text(BIRD.format(routes4=routes(four), routes6=routes(six), neighbors=neighbors))
    return "bird", lambda: bird.birdc("configure")
