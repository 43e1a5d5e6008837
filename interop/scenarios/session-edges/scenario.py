"""Sessions at the edge, with FRR: no hold time (2/6 unless allowed), and two hops between loopbacks (multihop, update-source).

Without `ebgp_multihop` our packets to a loopback behind the next router end there; with it the TTL is what was asked for, the class is
CS6, and the session runs between the addresses that were asked for.
"""

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

TOPOLOGY = Topology(
    nodes=[Node("host"), Node("leaf"), Node("far")],
    links=[Link("host:eth1 10.0.1.2/30", "leaf:eth1 10.0.1.1/30"), Link("leaf:eth2 10.0.2.1/30", "far:eth1 10.0.2.2/30")],
)
TIME_LIMIT = 120
LOOPBACKS = ("10.255.0.2", "10.255.0.1")


def run(s):
    capture = s.capture("host", "eth1")
    s["host"].run("ip addr add 10.255.0.2/32 dev lo && ip route add 10.255.0.1/32 via 10.0.1.1")
    s["leaf"].run("sysctl -qw net.ipv4.ip_forward=1 && ip route add 10.255.0.1/32 via 10.0.2.2 && ip route add 10.255.0.2/32 via 10.0.1.2")
    s["far"].run("ip addr add 10.255.0.1/32 dev lo && ip route add 10.255.0.2/32 via 10.0.2.1")
    leaf, far = s.frr("leaf"), s.frr("far", "far.frr.conf")
    ours = s.ours(ALLOW="false", MULTIHOP="false")

    def neighbor(name):
        return next(entry for entry in ours.show("neighbors") if entry["neighbor"] == name)

    def reload(**values):
        ours.configure(s.text("host.toml", **({"ALLOW": "false", "MULTIHOP": "false"} | values)))
        ours.command("reload")

    s.step("the leaf wants no hold time: refused with 2/6")
    wait_for("the refusal", lambda: "(2/6)" in str(neighbor("10.0.1.1")["last_error_sent"]), 30.0)
    s.step("a loopback two hops away: nothing gets there without ebgp_multihop")
    wait_for("an attempt to have come to nothing", lambda: neighbor("10.255.0.1")["last_reason"], 30.0)
    s.equal(neighbor("10.255.0.1")["established_count"], 0, "sessions without ebgp_multihop")
    s.step("both allowed: the one comes up without timers, the other between the loopbacks")
    reload(ALLOW="true", MULTIHOP="3")
    for peer, mine, theirs in ((leaf, "10.0.1.2", "10.0.1.1"), (far, *LOOPBACKS)):
        ours.wait_established(theirs, 45.0)
        peer.wait_established(mine)
    timers = neighbor("10.0.1.1")["timers"]
    s.equal((timers["hold_time_seconds"], timers["running"]), (0, {}), "timers of the session without a hold time")
    ends = [neighbor("10.255.0.1")[end].rsplit(":", 1)[0] for end in ("local_endpoint", "remote_endpoint")]
    s.equal(tuple(ends), LOOPBACKS, "the ends of the session between loopbacks")
    s.equal(far.wait_route("172.30.1.1/32").as_path, "64999", "AS path")
    s.step("not allowed any more: from the next OPEN on it is refused again")
    reload(MULTIHOP="3")
    s.expect(ours.established("10.0.1.1"), "a session that is up was disturbed by what holds for OPENs")
    leaf.vtysh("clear bgp 10.0.1.2")
    wait_for("the refusal", lambda: neighbor("10.0.1.1")["state"] != "Established", 30.0)
    s.expect(ours.established("10.255.0.1"), "the other session was disturbed")
    capture.stop()
    s.step("TTL and class of what we sent between the loopbacks")
    seen = {tuple(line) for line in capture.decode("bgp && ip.src == 10.255.0.2", "ip.ttl", "ip.dsfield.dscp")}
    s.equal(seen, {("3", "48")}, "TTL and DSCP")
    first = capture.decode("tcp.flags.syn == 1 && ip.src == 10.255.0.2 && ip.ttl == 1", "frame.number")
    s.expect(first, "no SYN with TTL 1 was seen before")
