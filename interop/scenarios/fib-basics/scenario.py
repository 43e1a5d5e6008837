"""Two leaves, FRR and BIRD, numbered, eBGP or iBGP: ECMP default; the system's own default is never touched; other routes stay out.

A leaf that withdraws its default leaves the ECMP set; when both have, ours goes and the system's own default is what is left. So does
one that marks it with GRACEFUL_SHUTDOWN (RFC 8326), one whose path is worse by LOCAL_PREF or MED, one whose cable is cut, one that dies.
What one leaf tells is never told the other.
"""

import json
import signal

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {"ebgp": {"as": 65001}, "ibgp": {"as": 64999}}
TOPOLOGY = Topology(
    nodes=[Node("host"), Node("leaf1"), Node("leaf2")],
    links=[
        Link("host:eth1 10.0.1.2/30 fd00:1::2/64", "leaf1:eth1 10.0.1.1/30 fd00:1::1/64"),
        Link("host:eth2 10.0.2.2/30 fd00:2::2/64", "leaf2:eth1 10.0.2.1/30 fd00:2::1/64"),
    ],
)
TIME_LIMIT = 90
BOTH = {"eth1", "eth2"}
OURS = ("172.30.1.1/32", "f00d::1/128")
MOVING = "filter moving { if source != RTS_STATIC then reject; bgp_community.add((65535, 0)); accept; }\n"
SOURCE = {4: "172.30.1.1", 6: "f00d::1"}


def run(s):
    host = s["host"]
    host.run("ip addr add 172.30.1.1/32 dev lo; ip addr add f00d::1/128 dev lo nodad")
    host.run("ip route add default via 10.0.1.1 metric 500 proto static; ip -6 route add default via fd00:1::1 metric 500 proto static")
    own = {family: of(host, family, "static") for family in (4, 6)}
    s.capture("host", "eth1")
    s.capture("host", "eth2")
    asn = s.parameters["as"]
    frr, bird = s.frr("leaf1", "leaf1.frr.conf", AS=asn), s.bird("leaf2", "leaf2.bird.conf", AS=asn)
    ours = s.ours(AS=asn)
    for neighbor in ("10.0.1.1", "10.0.2.1", "fd00:1::1", "fd00:2::1"):
        ours.wait_established(neighbor)

    s.step("one default a family with both leaves as next hops, beside the system's own")
    for family in (4, 6):
        settled(s, host, family, BOTH, own)
        route = of(host, family, "bgp")[0]
        s.equal((route["metric"], route["prefsrc"]), (20, SOURCE[family]), f"IPv{family}: metric and source")
        used = json.loads(host.run(f"ip -j -{family} route get {'192.0.2.1' if family == 4 else '2001:db8::1'}"))[0]
        s.equal(used["prefsrc"], SOURCE[family], f"IPv{family}: source the kernel chooses: the learned default is not in use")

    s.step("what is no default is learned, but [fib] install refuses it")
    for prefix in ("198.51.100.0/24", "2001:db8:51::/48"):
        entry = ours.wait_learned(prefix)
        s.expect(entry["selected"] and not entry["installed"] and "[fib] install" in entry["reason"], f"{entry}")
        s.equal(host.run(f"ip -{6 if ':' in prefix else 4} route show {prefix}").strip(), "", f"kernel route to {prefix}")

    s.step("NO_EXPORT and NO_ADVERTISE of the leaves': used here, and seen")
    for prefix, mark in (("198.51.100.0/24", "no-export"), ("203.0.113.0/24", "no-advertise")):
        entry = ours.wait_learned(prefix)
        s.equal((entry["selected"], entry["communities"]), (True, [mark]), f"{prefix}: used, communities")

    s.step("the system has a better default: said in the log, both stay; it goes: the learned one is in use again")
    host.run("ip route add default via 10.0.1.1 metric 5 proto dhcp")
    wait_for("a warning", lambda: "another default route is preferred to the learned one" in host.log(ours.name), 15.0)
    s.equal((metrics(host, 4), [r["metric"] for r in of(host, 4, "dhcp")]), ([20], [5]), "metrics of the learned default and of the system's")
    host.run("ip route del default metric 5 proto dhcp")
    settled(s, host, 4, BOTH, own)

    s.step("leaf 1 withdraws its default: leaf 2 is left")
    with_default(frr, asn, "no ")
    for family in (4, 6):
        settled(s, host, family, {"eth2"}, own)
    s.step("leaf 2 does as well: the system's own is left")
    bird.birdc("disable s4")
    bird.birdc("disable s6")
    for family in (4, 6):
        settled(s, host, family, set(), own)
    s.step("both offer one again")
    with_default(frr, asn, "")
    bird.birdc("enable s4")
    bird.birdc("enable s6")
    for family in (4, 6):
        settled(s, host, family, BOTH, own)
    s.step("GRACEFUL_SHUTDOWN from leaf 1, then from leaf 2: traffic moves to the other one, the routes stay")
    frr.configure("route-map moving permit 10", "set community graceful-shutdown")
    with_default(frr, asn, "no ")
    with_default(frr, asn, "", " route-map moving")
    moved(s, ours, host, own, {"eth2"}, ("10.0.1.1", "fd00:1::1"))
    with_default(frr, asn, "no ")
    with_default(frr, asn, "")
    for family in (4, 6):
        settled(s, host, family, BOTH, own)
    leaf2 = s.text("leaf2.bird.conf", AS=asn)
    bird.configure(leaf2.replace("export where source = RTS_STATIC", "export filter moving").replace("protocol bgp", MOVING + "protocol bgp", 1))
    moved(s, ours, host, own, {"eth1"}, ("10.0.2.1", "fd00:2::1"))
    bird.configure(leaf2)
    for family in (4, 6):
        settled(s, host, family, BOTH, own)

    internal = asn == 64999
    s.step(f"{'LOCAL_PREF' if internal else 'MULTI_EXIT_DISC'} from leaf 1, then more of it from leaf 2: the better one is used alone")
    frr.configure("route-map rated permit 10", "set local-preference 200" if internal else "set metric 50")
    with_default(frr, asn, "no ")
    with_default(frr, asn, "", " route-map rated")
    for family in (4, 6):
        settled(s, host, family, {"eth1" if internal else "eth2"}, own)
    rated = f"filter rated {{ if source != RTS_STATIC then reject; {'bgp_local_pref = 300' if internal else 'bgp_med = 60'}; accept; }}\n"
    bird.configure(leaf2.replace("export where source = RTS_STATIC", "export filter rated").replace("protocol bgp", rated + "protocol bgp", 1))
    for family in (4, 6):
        settled(s, host, family, {"eth2" if internal else "eth1"}, own)
    with_default(frr, asn, "no ")
    with_default(frr, asn, "")
    bird.configure(leaf2)
    for family in (4, 6):
        settled(s, host, family, BOTH, own)

    s.step("leaf 2's cable is cut, then mended; then leaf 2 dies, and lives: its next hops go at once, and come back")
    for cut, mend in (
        (lambda: s["leaf2"].run("ip link set eth1 down"), lambda: s["leaf2"].run("ip link set eth1 up && ip addr replace fd00:2::1/64 dev eth1 nodad")),
        (lambda: s["leaf2"].stop("bird", signal.SIGKILL), lambda: bird.start(leaf2)),
    ):
        cut()
        for family in (4, 6):
            settled(s, host, family, {"eth1"}, own, 3.0)
        mend()
        for family in (4, 6):
            settled(s, host, family, BOTH, own, 30.0)
    s.step("what one leaf told us, the other never heard from us")
    for leaf in (frr, bird):
        s.equal(sorted(leaf.routes()), sorted(OURS), f"what {leaf.kind} has from us")

    s.step("the metric is changed while the daemon is away: the old routes stay until the new ones stand, then go")
    ours.stop()
    ours.configure(s.text("host.toml", AS=asn).replace('install = "only-default"', 'install = "only-default"\nmetric = 33'))
    ours.start()
    for family in (4, 6):
        wait_for(f"IPv{family} default with the new metric alone", lambda f=family: metrics(host, f) == [33], 30.0)
        s.equal(of(host, family, "static"), own[family], f"IPv{family}: the system's own default")


def metrics(host, family):
    return [route.get("metric") for route in of(host, family, "bgp")]


def with_default(frr, asn, no, how=""):
    for family, neighbor in (("ipv4", "10.0.1.2"), ("ipv6", "fd00:1::2")):
        frr.configure(f"router bgp {asn}", f"address-family {family} unicast", f"{no}neighbor {neighbor} default-originate{how}")


def moved(s, ours, host, own, devices, marked):
    """The defaults of the marked neighbours are known, and used no longer."""
    for family in (4, 6):
        settled(s, host, family, devices, own)
    defaults = {entry["neighbor"]: entry for entry in ours.show("learned") if entry["prefix"] in ("0.0.0.0/0", "::/0")}
    s.equal(len(defaults), 4, "defaults we know")
    for neighbor, entry in defaults.items():
        s.equal("graceful-shutdown" in entry["communities"], neighbor in marked, f"GRACEFUL_SHUTDOWN on {entry}")
        s.equal(entry["selected"], neighbor not in marked, f"whether it is used: {entry}")
        s.expect(neighbor not in marked or "LOCAL_PREF" in entry["reason"], f"why it is not used: {entry}")
    s.equal({n["lost_count"] for n in ours.show("neighbors")}, {0}, "sessions lost")


def of(host, family, protocol):
    return json.loads(host.run(f"ip -j -{family} route show default proto {protocol}") or "[]")


def settled(s, host, family, devices, own, timeout=15.0):
    def now():
        routes = of(host, family, "bgp")
        return len(routes) <= 1 and {hop["dev"] for route in routes for hop in route.get("nexthops", [route])} == devices

    wait_for(f"IPv{family} default over {sorted(devices)} (it is {of(host, family, 'bgp')})", now, timeout)
    s.equal(of(host, family, "static"), own[family], f"IPv{family}: the system's own default")
