"""Sessions at the edge, with FRR and BIRD: no hold time (2/6 unless allowed), back-off, two hops between loopbacks (multihop, GTSM).

A neighbour that fails again and again is tried less and less often. Without `ebgp_multihop` our packets to a loopback behind the next
router end there; with it the TTL is what was asked for, the class is CS6, and the session runs between the addresses that were asked for.
With `ttl_security` it comes up if the hops are those allowed, and does not if there is one too many.
"""

import time

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {"frr-10": {"peer": "frr"}, "bird-2.17": {"peer": "bird"}}
TOPOLOGY = Topology(
    nodes=[Node("host"), Node("leaf"), Node("far")],
    links=[Link("host:eth1 10.0.1.2/30", "leaf:eth1 10.0.1.1/30"), Link("leaf:eth2 10.0.2.1/30", "far:eth1 10.0.2.2/30")],
)
TIME_LIMIT = 120
LOOPBACKS = ("10.255.0.2", "10.255.0.1")
FIRST = {"ALLOW": "false", "HOPS": ""}
MULTIHOP = {"HOPS": "3", "GTSM": ""}


def run(s):
    capture = s.capture("host", "eth1")
    s["host"].run("ip addr add 10.255.0.2/32 dev lo && ip route add 10.255.0.1/32 via 10.0.1.1")
    s["leaf"].run("sysctl -qw net.ipv4.ip_forward=1 && ip route add 10.255.0.1/32 via 10.0.2.2 && ip route add 10.255.0.2/32 via 10.0.1.2")
    s["far"].run("ip addr add 10.255.0.1/32 dev lo && ip route add 10.255.0.2/32 via 10.0.2.1")
    kind = s.parameters["peer"]
    leaf, far = s.peer(kind), s.peer(kind, "far", **({} if kind == "frr" else MULTIHOP))
    ours = s.ours(**FIRST)

    def neighbor(name):
        return next(entry for entry in ours.show("neighbors") if entry["neighbor"] == name)

    def reload(**values):
        ours.configure(s.text("host.toml", **(FIRST | values)))
        ours.command("reload")

    def refusals():
        return [float(at) for (at,) in capture.decode("bgp.type == 3 && ip.src == 10.0.1.2 && bgp.notify.minor_error_open == 6", "frame.time_epoch")]

    s.step("the leaf wants no hold time: refused with 2/6, again and again, less and less often")
    wait_for("the refusal", lambda: "(2/6)" in str(neighbor("10.0.1.1")["last_error_sent"]), 30.0)
    wait_for("it to be refused four times", lambda: len(refusals()) >= 4, 40.0, 0.5)
    gaps = [b - a for a, b in zip(refusals(), refusals()[1:4])]
    s.say(f"  seconds between refusals: {[round(gap, 1) for gap in gaps]}")
    s.expect(gaps[1] > 1.4 and gaps[2] > 2.9 and gaps[2] > gaps[0] + 1.0, f"seconds between refusals: {gaps}")
    s.step("a loopback two hops away: nothing gets there without ebgp_multihop")
    wait_for("an attempt to have come to nothing", lambda: neighbor("10.255.0.1")["last_reason"], 30.0)
    s.equal(neighbor("10.255.0.1")["established_count"], 0, "sessions without ebgp_multihop")
    s.step("both allowed: the one comes up without timers, the other between the loopbacks")
    reload(ALLOW="true", HOPS="ebgp_multihop = 3")
    allowed = time.time()
    for peer, mine, theirs in ((leaf, "10.0.1.2", "10.0.1.1"), (far, *LOOPBACKS)):
        ours.wait_established(theirs, 45.0)
        peer.wait_established(mine)
    timers = neighbor("10.0.1.1")["timers"]
    s.equal((timers["hold_time_seconds"], timers["running"]), (0, {}), "timers of the session without a hold time")
    ends = [neighbor("10.255.0.1")[end].rsplit(":", 1)[0] for end in ("local_endpoint", "remote_endpoint")]
    s.equal(tuple(ends), LOOPBACKS, "the ends of the session between loopbacks")
    s.equal(far.wait_route("172.30.1.1/32").as_path, "64999", "AS path")
    s.step("not allowed any more: from the next OPEN on it is refused again")
    reload(HOPS="ebgp_multihop = 3")
    s.expect(ours.established("10.0.1.1"), "a session that is up was disturbed by what holds for OPENs")
    leaf.vtysh("clear bgp 10.0.1.2") if kind == "frr" else leaf.birdc("restart host")
    wait_for("the refusal", lambda: neighbor("10.0.1.1")["state"] != "Established", 30.0)
    s.expect(ours.established("10.255.0.1"), "the other session was disturbed")

    s.step("GTSM (RFC 5082) over two hops: nothing with one hop allowed, a session with two")
    if kind == "frr":
        far.configure("router bgp 65002", "no neighbor 10.255.0.2 ebgp-multihop", "neighbor 10.255.0.2 ttl-security hops 2")
    else:
        far.configure(s.text("far.bird.conf", HOPS="2", GTSM="ttl security on;"))
    reload(HOPS="ttl_security = 1")
    wait_for("the session to end", lambda: not ours.established("10.255.0.1"), 30.0)
    up = neighbor("10.255.0.1")["established_count"]
    mark = time.time()
    try:
        wait_for("a session", lambda: neighbor("10.255.0.1")["established_count"] > up, 5.0)
    except LabError:
        pass
    else:
        s.expect(False, "a session came up with a neighbour that is one hop too far away")
    refused = time.time()
    reload(HOPS="ttl_security = 2")
    ours.wait_established("10.255.0.1", 45.0)
    far.wait_established("10.255.0.2")
    security = neighbor("10.255.0.1")["security"]
    s.equal(security["ttl_security"], 2, "hops in `show neighbors`")
    capture.stop()
    s.step("TTL and class of what we sent between the loopbacks")
    seen = {tuple(line) for line in capture.decode(f"bgp && ip.src == 10.255.0.2 && frame.time_epoch > {allowed}", "ip.ttl", "ip.dsfield.dscp")}
    s.equal(seen, {("3", "48"), ("255", "48")}, "TTL and DSCP")
    first = capture.decode("tcp.flags.syn == 1 && ip.src == 10.255.0.2 && ip.ttl == 1", "frame.number")
    s.expect(first, "no SYN with TTL 1 was seen before")
    theirs = capture.decode(f"tcp && ip.src == 10.255.0.1 && frame.time_epoch > {mark} && frame.time_epoch < {refused}", "ip.ttl")
    s.expect(["254"] in theirs, f"nothing came that had passed one router: TTL {theirs}")
