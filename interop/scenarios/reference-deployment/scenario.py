"""The design document's deployment: iBGP without numbers to two FRR route reflectors, MD5, host routes out, ECMP default in.

The host runs configs/openstack-ibgp.toml as it stands, with two differences: no [ovn] section (there is no cloud here), and so
the only routes are those of the host itself. The interfaces are called as in that file. Behind the leaves is a spine, so that
there is something to reach. Then a cable is cut and mended, and our daemon is killed and started again, all under traffic.
"""

import json
import re
import time
from datetime import datetime

from lab.daemon import ROOT
from lab.shell import wait_for
from lab.topology import Link, Node, Topology

TOPOLOGY = Topology(
    nodes=[Node("host"), Node("leaf1"), Node("leaf2"), Node("spine")],
    links=[
        Link("host:enp2s0", "leaf1:eth1"),
        Link("host:enp3s0", "leaf2:eth1"),
        Link("leaf1:spine 10.1.1.1/30 fd00:1:1::1/64", "spine:leaf1 10.1.1.2/30 fd00:1:1::2/64"),
        Link("leaf2:spine 10.1.2.1/30 fd00:1:2::1/64", "spine:leaf2 10.1.2.2/30 fd00:1:2::2/64"),
    ],
)
TIME_LIMIT = 120
UPLINKS = ("enp2s0", "enp3s0")
SOURCE4, SOURCE6 = "172.30.1.1", "f00d:f00d:f00d:f00d:f00d:f00d:f00d:4"
OURS = (f"{SOURCE4}/32", f"{SOURCE6}/128")
BEHIND = [f"198.51.100.{n}" for n in range(1, 17)] + [f"2001:db8:51::{n:x}" for n in range(1, 17)]


def run(s):
    host = s["host"]
    host.run(f"ip addr add {SOURCE4}/32 dev lo; ip addr add {SOURCE6}/128 dev lo nodad")
    s["spine"].run("; ".join(f"ip addr add {a}/{128 if ':' in a else 32} dev lo" for a in [*BEHIND, "198.51.100.200"]))
    for uplink in UPLINKS:
        s.capture("host", uplink)
    spine = s.frr("spine", "spine.frr.conf")
    leaves = [s.frr(f"leaf{n}", "leaf.frr.conf", N=n) for n in (1, 2)]
    ours = s.ours(text=without_ovn((ROOT / "configs/openstack-ibgp.toml").read_text()))

    s.step("both sessions come up; both leaves, and the spine through both, have the host's routes")
    up(s, ours, leaves, spine)
    s.step("the kernel has one default route a family, with two next hops that are IPv6 link-local addresses")
    for family in (4, 6):
        wait_for(f"IPv{family} default", lambda f=family: ways(host, f) == set(UPLINKS), 10.0)
        s.say(f"  {host.run(f'ip -{family} route show default').strip()}")
        check_default(s, host, family, leaves)
    s.step("our AS at the origin of a path is accepted (allowas_in), and a route that is no default stays out of the kernel")
    elsewhere = ours.wait_learned("198.51.100.200/32")
    s.expect(elsewhere["as_path"].split()[-1] == "64999", f"its path should end in 64999: {elsewhere}")
    s.expect(not any(e["installed"] for e in ours.show("learned") if not e["prefix"].endswith("/0")), "more than defaults are installed")
    s.equal(host.run("ip route show 198.51.100.200").strip(), "", "the kernel's route to 198.51.100.200")
    for address in BEHIND:
        s.expect(host.ping(address, source=SOURCE6 if ":" in address else SOURCE4), f"no answer from {address}")

    s.step("the cable to leaf 1 is cut under traffic that goes over it")
    through_first = [first_over(host, "enp2s0", family) for family in (4, 6)]
    host.start("watch", "ip -ts -o monitor link route")
    wait_for("ip monitor", lambda: host.alive("watch"))
    for n, address in enumerate(through_first):
        probe(host, f"cut{n}", address)
    time.sleep(1.0)
    cut = float(s["leaf1"].run("date +%s.%N; ip link set eth1 down"))
    for family in (4, 6):
        wait_for(f"IPv{family} default over leaf 2 alone", lambda f=family: ways(host, f) == {"enp3s0"}, 5.0)
        check_default(s, host, family, leaves[1:])
    reaction = {family: (at - cut) * 1000 for family, at in over_leaf2_alone(host.log("watch"), cut).items()}
    s.say(f"  cable cut → default over leaf 2 alone: IPv4 {reaction[4]:.1f} ms, IPv6 {reaction[6]:.1f} ms")
    s.expect(max(reaction.values()) < 2000, f"too slow: {reaction} ms")
    for n, address in enumerate(through_first):
        loss(s, host, f"cut{n}", address, most=200)

    s.step("the cable is back: ECMP again")
    s["leaf1"].run("ip link set eth1 up")
    up(s, ours, leaves, spine)
    for family in (4, 6):
        wait_for(f"IPv{family} default over both", lambda f=family: ways(host, f) == set(UPLINKS), 15.0)
        check_default(s, host, family, leaves)

    s.step("our daemon is killed (SIGKILL) under traffic: the defaults stay; it starts again: there is never none")
    host.stop("watch")
    host.start("watch-restart", "ip -ts -o monitor route")
    for n, address in enumerate(through_first):
        probe(host, f"kill{n}", address)
    before = {family: host.run(f"ip -{family} route show default") for family in (4, 6)}
    ours.kill()
    time.sleep(1.0)
    for family in (4, 6):
        s.equal(host.run(f"ip -{family} route show default"), before[family], f"IPv{family} default after the kill")
    ours.start()
    up(s, ours, leaves, spine)
    time.sleep(1.0)
    for family in (4, 6):
        s.equal(ways(host, family), set(UPLINKS), f"IPv{family} default after the restart")
    host.stop("watch-restart")
    gone = [line for line in host.log("watch-restart").splitlines() if "Deleted" in line and "default" in line]
    s.equal(gone, [], "default routes removed during the restart")
    for n, address in enumerate(through_first):
        loss(s, host, f"kill{n}", address, most=0)


def without_ovn(text):
    """The file up to its [ovn] section, which is the last one."""
    return re.split(r"(?m)^# The Northbound database|^\[ovn\]", text)[0]


def up(s, ours, leaves, spine):
    for uplink, leaf in zip(UPLINKS, leaves):
        ours.wait_established(uplink)
        leaf.wait_established("eth1")
        for prefix in OURS:
            path = wait_for(f"{leaf.node.name}: {prefix} from the host", lambda p=prefix, leaf=leaf: from_host(leaf, p), 15.0)
            s.expect(path["nexthops"][0]["ip"].startswith("fe80:"), f"{prefix}: next hop at the leaf: {path['nexthops']}")
            s.equal((path["aspath"]["string"], path["locPrf"]), ("Local", 100), f"{prefix}: AS path and local preference at the leaf")
            # The leaf shows a path before it has decided; it has to decide for ours.
            best = lambda p=prefix, leaf=leaf: from_host(leaf, p).get("bestpath", {}).get("overall")
            wait_for(f"{leaf.node.name}: {prefix}: the host's path is the best", best, 5.0)
    for prefix in OURS:
        wait_for(f"{prefix} at the spine over both leaves", lambda p=prefix: len(paths(spine, p)) == 2, 15.0)


def paths(peer, prefix):
    family = "ipv6" if ":" in prefix else "ipv4"
    return peer.json(f"show bgp {family} unicast {prefix}").get("paths", [])


def from_host(leaf, prefix):
    """What the leaf has from the host itself; over the spine it hears of the same prefix from the other leaf."""
    return next((path for path in paths(leaf, prefix) if path["peer"].get("interface") == "eth1"), None)


def default(host, family):
    """The kernel's default route; there must be at most one."""
    found = json.loads(host.run(f"ip -j -{family} route show default") or "[]")
    if len(found) > 1:
        raise AssertionError(f"{len(found)} IPv{family} default routes: {found}")
    return found[0] if found else {}


def hops(route):
    return route.get("nexthops") or ([route] if route else [])


def ways(host, family):
    """The devices of the default route."""
    return {hop["dev"] for hop in hops(default(host, family))}


def check_default(s, host, family, leaves):
    """Protocol, preferred source, and the leaves' own link-local addresses as next hops."""
    route = default(host, family)
    s.equal(route["protocol"], "bgp", f"IPv{family}: protocol")
    s.equal(route["prefsrc"], SOURCE4 if family == 4 else SOURCE6, f"IPv{family}: preferred source")
    if family == 4:
        s.equal([hop["via"]["family"] for hop in hops(route)], ["inet6"] * len(leaves), "family of the IPv4 next hops")
    seen = {hop["via"]["host"] if family == 4 else hop["gateway"] for hop in hops(route)}
    s.equal(seen, {link_local(leaf.node) for leaf in leaves}, f"IPv{family}: next hops")


def link_local(node):
    entries = json.loads(node.run("ip -j -6 addr show dev eth1 scope link"))
    return next(a["local"] for entry in entries for a in entry.get("addr_info", []))


def first_over(host, device, family):
    """An address behind the leaves that the kernel's hash sends over the device."""
    for address in BEHIND:
        if (6 if ":" in address else 4) == family:
            got = json.loads(host.run(f"ip -j -{family} route get {address} from {SOURCE4 if family == 4 else SOURCE6}"))
            if got[0]["dev"] == device:
                return address
    raise AssertionError(f"no address of {BEHIND} goes over {device}")


def probe(host, name, address):
    """100 packets a second for 6 s."""
    host.start(name, f"ping -n -q -i 0.01 -c 600 -W 1 -I {SOURCE6 if ':' in address else SOURCE4} {address}")


def loss(s, host, name, address, most):
    wait_for(f"{name} to finish", lambda: "received" in host.log(name), 15.0)
    sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", host.log(name)).groups()
    lost = int(sent) - int(received)
    s.say(f"  {address}: {lost} of {sent} packets lost (100 a second)")
    s.expect(lost <= most, f"{address}: {lost} packets lost, at most {most} are acceptable")


def over_leaf2_alone(log, since):
    """When the kernel first said that the default goes over enp3s0 alone, per family, in seconds since the epoch."""
    seen = {}
    for line in log.splitlines():
        stamp = re.match(r"\[(\S+?)\] default ", line)
        if stamp and "proto bgp" in line and "enp3s0" in line and "enp2s0" not in line:
            at = datetime.fromisoformat(f"{stamp.group(1)}+00:00").timestamp()
            if at >= since:
                seen.setdefault(6 if SOURCE6 in line else 4, at)
    return seen
