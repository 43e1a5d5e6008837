"""The host's link-local address changes under a session: the leaf ends with the new next hop alone, within the hold time or so."""

import time

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

TOPOLOGY = Topology(nodes=[Node("host"), Node("leaf")], links=[Link("host:eth1", "leaf:eth1")])
TIME_LIMIT = 60
OURS = ("172.30.1.1/32", "f00d::1/128")


def run(s):
    s.capture("host", "eth1")
    leaf = s.frr()
    ours = s.ours()
    ours.wait_established("eth1")
    for prefix in OURS:
        hops = leaf.wait_route(prefix).next_hops
        s.expect(all(hop.startswith("fe80:") and hop != "fe80::99" for hop in hops), f"{prefix}: next hops {hops}")
    s.step("another link-local address takes the place of the first")
    s["host"].run("ip -6 addr flush dev eth1 scope link; ip addr add fe80::99/64 dev eth1 nodad")
    started = time.monotonic()

    def followed():
        routes = leaf.routes()
        return all(prefix in routes and routes[prefix].next_hops == ["fe80::99"] for prefix in OURS)

    wait_for("the leaf to have fe80::99 as next hop", followed, 30.0)
    took = time.monotonic() - started
    s.say(f"  after {took:.1f} s; the hold time is 9 s")
    s.expect(ours.established("eth1"), "no session")
