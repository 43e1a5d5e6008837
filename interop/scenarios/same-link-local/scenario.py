"""Two leaves with the same link-local address on different links, each with its own MD5 key: both come up, ECMP over both.

The second leaf is FRR or BIRD. A wrong key on one link stops that session alone, and is no secret told: the state says that it does not come up.
"""

import json

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {"frr-10": {"peer": "frr"}, "frr-10-bird-2.17": {"peer": "bird"}}
TOPOLOGY = Topology(
    nodes=[Node("host"), Node("leaf1"), Node("leaf2")],
    links=[Link("host:eth1", "leaf1:eth1"), Link("host:eth2", "leaf2:eth1")],
)
TIME_LIMIT = 90


def run(s):
    host = s["host"]
    for name in ("leaf1", "leaf2"):
        # The only link-local address of the port: as switches do that have one address for all of them.
        s[name].run("ip -6 addr flush dev eth1 scope link; ip addr add fe80::1/64 dev eth1 nodad")
    for link in ("eth1", "eth2"):
        s.capture("host", link)
    leaves = [s.peer(kind, f"leaf{n}", file=f"leaf.{kind}.conf", N=n) for n, kind in enumerate(("frr", s.parameters["peer"]), 1)]
    s.step("the key of link 1 on link 2 as well: link 1 comes up, link 2 does not")
    ours = s.ours(SECOND="key-of-link-1")
    ours.wait_established("eth1")
    leaves[0].wait_route("172.30.1.1/32")
    try:
        wait_for("a session", lambda: ours.established("eth2"), 4.0)
    except LabError:
        pass
    else:
        s.expect(False, "a session came up with the key of the other link")
    s.equal(ways(host), {("fe80::1", "eth1")}, "ways of the default")
    s.step("the right key, by reload: both are up, the first was not disturbed")
    first = next(n for n in ours.show("neighbors") if n["interface"] == "eth1")
    ours.configure(s.text("host.toml", SECOND="key-of-link-2"))
    ours.command("reload")
    ours.wait_established("eth2")
    for leaf in leaves:
        leaf.wait_route("172.30.1.1/32")
        leaf.wait_route("f00d::1/128")
    again = next(n for n in ours.show("neighbors") if n["interface"] == "eth1")
    s.equal((again["established_count"], again["lost_count"]), (first["established_count"], first["lost_count"]), "sessions on eth1")
    s.step("one default a family over both links, next hops with the same address")
    for family in (4, 6):
        both = {("fe80::1", "eth1"), ("fe80::1", "eth2")}
        wait_for(f"IPv{family} default over both ({ways(host, family)})", lambda f=family: ways(host, f) == both, 10.0)
    s.step("leaf 2 goes: its way alone leaves")
    s["leaf2"].run("ip link set eth1 down")
    for family in (4, 6):
        wait_for(f"IPv{family} default over eth1", lambda f=family: ways(host, f) == {("fe80::1", "eth1")}, 10.0)
    s.expect(ours.established("eth1"), "the other session suffered")


def ways(host, family=4):
    """Address and device of the next hops."""
    routes = json.loads(host.run(f"ip -j -{family} route show default proto bgp") or "[]")
    hops = [hop for route in routes for hop in route.get("nexthops", [route])]
    return {(hop["via"]["host"] if "via" in hop else hop.get("gateway"), hop["dev"]) for hop in hops}
