"""The host's address changes under a session: the leaf ends with the new next hop alone, within the hold time or so.

Without numbers it is the link-local address. With numbers the leaf takes whoever dials from its network: first the IPv4 address changes
that the session runs from – to the leaf we are somebody else then, and who we were may be restarting, so it takes our restart time on top
– then the IPv6 address, which is only a next hop.
"""

import time

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "unnumbered": {"topology": {"addresses": ("", "")}},
    "numbered": {"topology": {"addresses": (" 10.0.1.2/24 fd00:1::2/64", " 10.0.1.1/24 fd00:1::1/64")}},
}
TIME_LIMIT = 90
OURS = ("172.30.1.1/32", "f00d::1/128")


def TOPOLOGY(addresses):  # noqa: N802 - the runner's name for it
    host, leaf = addresses
    return Topology(nodes=[Node("host"), Node("leaf")], links=[Link(f"host:eth1{host}", f"leaf:eth1{leaf}")])


def run(s):
    s.capture("host", "eth1")
    if s.lab.topology.links[0].ends[0].addresses:
        numbered(s)
    else:
        unnumbered(s)


def unnumbered(s):
    leaf = s.frr()
    ours = s.ours()
    ours.wait_established("eth1")
    for prefix in OURS:
        hops = leaf.wait_route(prefix).next_hops
        s.expect(all(hop.startswith("fe80:") and hop != "fe80::99" for hop in hops), f"{prefix}: next hops {hops}")
    s.step("another link-local address takes the place of the first")
    s["host"].run("ip -6 addr flush dev eth1 scope link; ip addr add fe80::99/64 dev eth1 nodad")
    followed(s, leaf, {prefix: "fe80::99" for prefix in OURS})
    s.expect(ours.established("eth1"), "no session")


def numbered(s):
    leaf = s.frr(file="leaf-numbered.frr.conf")
    ours = s.ours(file="host-numbered.toml")
    ours.wait_established("10.0.1.1", 45.0)
    before = dict(zip(OURS, ("10.0.1.2", "fd00:1::2"), strict=True))
    followed(s, leaf, before)
    s.step("another IPv4 address takes the place of the one the session runs from")
    # The second address of a network goes with the first.
    s["host"].run("ip addr del 10.0.1.2/24 dev eth1; ip addr add 10.0.1.9/24 dev eth1")
    followed(s, leaf, before | {OURS[0]: "10.0.1.9"})
    ours.wait_established("10.0.1.1", 45.0)
    s.step("another IPv6 address: the session itself does not need it, so it is told with the next session")
    s["host"].run("ip addr add fd00:1::9/64 dev eth1 nodad; ip addr del fd00:1::2/64 dev eth1")
    leaf.vtysh("clear bgp *")
    followed(s, leaf, {OURS[0]: "10.0.1.9", OURS[1]: "fd00:1::9"})


def followed(s, leaf, hops):
    """The leaf has these next hops for our routes and no others; link-local ones beside a global one do not count."""
    started = time.monotonic()

    def look():
        routes = leaf.routes()
        seen = {prefix: [hop for hop in routes[prefix].next_hops if hop == wanted or not hop.startswith("fe80:")]
                for prefix, wanted in hops.items() if prefix in routes}  # fmt: skip
        if seen != {prefix: [wanted] for prefix, wanted in hops.items()}:
            raise LabError(f"the leaf has {seen}")
        return True

    wait_for(f"the leaf to have {hops}", look, 40.0)
    s.say(f"  after {time.monotonic() - started:.1f} s; the hold time is 9 s, the restart time of numbered sessions 5 s")
