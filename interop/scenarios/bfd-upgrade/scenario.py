"""BFD outlives an upgrade: the leaf hears one session, that is up, from one port, at 100 ms × 3 before and after it.

The binary is replaced while the sessions are up, quickly and with a second in between, which is longer than the leaf waits without being
asked for patience; with BIRD also with keys whose sequence numbers go on; with FRR also without numbers, where BGP waits for BFD. What the leaf sends in the gap is answered by ICMP, which moves
neither. Afterwards a path that fails is noticed as before; and who is no longer to be watched by then is told so.
"""

import json
import re
import time

from lab import topology
from lab.capture import Capture
from lab.shell import wait_for

KEYS = {
    "ours": 'authentication = { type = "meticulous-sha1", keys = [{ id = 1, password = "one" }] }',
    "bird": 'authentication meticulous keyed sha1; password "one" { id 1; };',
}
VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-10-unnumbered": {"peer": "frr", "unnumbered": True, "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1-keys": {"peer": "bird", "keys": KEYS, "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120

TIMES = 10
# Another binary for a second, before the real one.
SLOW = '#!/bin/sh\n[ "$1" = run ] && sleep 1\nexec /lab/real "$@"\n'
ICMP = "icmp.type == 3 && icmp.code == 3 || icmpv6.type == 1 && icmpv6.code == 4"


def run(s):
    host, keys = s["host"], s.parameters.get("keys", {"ours": "", "bird": ""})
    unnumbered = s.parameters.get("unnumbered", False)
    ends = [("eth1", "eth1")] if unnumbered else [("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")]
    kind, strict = ("-unnumbered", "bfd_strict = true") if unnumbered else ("", "")
    leaf = s.frr(file=f"leaf{kind}.frr.conf", bfd=True) if s.parameters["peer"] == "frr" else s.bird(AUTH=keys["bird"])
    text = lambda watched: s.text(f"host{kind}.toml", AUTH=keys["ours"], BFD6=f'bfd = "fabric"\n{strict}' if watched else "")
    ours = s.ours(text=text(True))
    host.run("cp /lab/ovn-bgpd /lab/real")
    for mine, theirs in ends:
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    settled(ours, leaf, len(ends))
    time.sleep(2.0)  # FRR makes its session anew when BGP comes up
    settled(ours, leaf, len(ends))
    before = facts(ours)
    by_ipv6 = next(session for session in before[0] if ":" in session[0])

    s.step(f"{TIMES} upgrades, one after the other")
    with Capture(host, "eth1", "udp port 3784 or icmp or icmp6", "quick") as quick:
        gaps = [upgrade(s, ours) for _ in range(TIMES)]
        settled(ours, leaf, len(ends))
        time.sleep(1.0)
    s.say(f"  nobody served the sessions of BGP for {min(gaps):.0f} to {max(gaps):.0f} ms; {unreachable(quick)} answers by ICMP")
    one_session(s, quick, len(ends))
    s.equal(facts(ours), before, "discriminators, changes of state and BGP sessions")

    s.step("an upgrade with a second in which nobody listens")
    host.write("/lab/new", SLOW)
    host.run("chmod 755 /lab/new && mv /lab/new /lab/ovn-bgpd")
    with Capture(host, "eth1", "udp port 3784 or icmp or icmp6", "slow") as slow:
        gap = upgrade(s, ours)
        settled(ours, leaf, len(ends))
        time.sleep(1.0)
    s.say(f"  {gap:.0f} ms; {unreachable(slow)} answers by ICMP")
    s.expect(gap > 1000, f"the gap was {gap:.0f} ms")
    s.expect(unreachable(slow) > 0, "nobody missed us: the gap proves nothing")
    one_session(s, slow, len(ends))
    s.equal(facts(ours), before, "discriminators, changes of state and BGP sessions")

    s.step("a path that fails is noticed as ever")
    rules(host, "rule add pref 10 lookup local", "rule del pref 0", "rule add pref 1 ipproto udp dport 3784 iif eth1 blackhole")
    wait_for("BFD to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 5.0)
    rules(host, "rule del pref 1", "rule add pref 0 lookup local", "rule del pref 10")
    for mine, theirs in ends:
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    settled(ours, leaf, len(ends))

    s.step("who is no longer to be watched after an upgrade is told so")
    time.sleep(2.0)
    settled(ours, leaf, len(ends))
    ours.configure(text(False))
    with Capture(host, "eth1", "udp port 3784", "less") as less:
        upgrade(s, ours)
        wait_for("one session less", lambda: len(ours.show("bfd")) == len(ends) - 1, 10.0)
        time.sleep(1.0)
    said = less.decode("bfd.sta == 0", "ip.src", "ipv6.src", "bfd.my_discriminator")
    s.expect([v6 for _, v6, _ in said if v6], "nothing was said")
    s.equal({int(discriminator, 0) for _, _, discriminator in said}, {by_ipv6[1]}, "whose session ends")


def upgrade(s, ours):
    """The gap in ms, in BGP's count."""
    report = json.loads(ours.node.run(["/lab/real", "--socket", ours.socket, "upgrade", "--json"], timeout=60.0))
    s.expect(report["neighbors"] and all(n["kept"] for n in report["neighbors"]), f"not all sessions were kept: {report}")
    return report["gap_seconds"] * 1000


def one_session(s, capture, count):
    """All that was said, from either side, was said in state Up, under one discriminator and from one port for each address."""
    packets = capture.decode("bfd && !icmp && !icmpv6", "ip.src", "ipv6.src", "bfd.sta", "bfd.my_discriminator", "bfd.your_discriminator", "udp.srcport")
    s.equal({int(packet[2], 0) for packet in packets}, {3}, "states that were said, of which 3 is Up")
    ends = {tuple(packet[:2] + packet[3:]) for packet in packets}
    s.equal(len(ends), 2 * count, f"addresses with their discriminators and ports, {ends}")


def unreachable(capture):
    return len(capture.decode(ICMP, "frame.number"))


def facts(ours):
    bfd = [(b["neighbor"], b["local_discriminator"], b["remote_discriminator"], b["up_count"], b["down_count"]) for b in ours.show("bfd")]
    return bfd, [(n["neighbor"], n["state"], n["established_count"], n["lost_count"]) for n in ours.show("neighbors")]


def settled(ours, leaf, count):
    """Both ends are at 100 ms × 3, in both views."""
    wait_for("the timers", lambda: [timers(b) for b in ours.show("bfd")] == [("Up", 100, 100, 300)] * count, 30.0)
    wait_for("the leaf's timers", lambda: leaf_timers(leaf) == [(100, 300)] * count, 15.0)


def timers(b):
    return b["state"], b["transmit_interval_ms"], b["receive_interval_ms"], b["detection_time_ms"]


def rules(node, *changes):
    for ip in ("ip", "ip -6"):
        node.run("; ".join(f"{ip} {change}" for change in changes))


def leaf_timers(leaf):
    """Interval and Detection Time of its sessions that are up, in the leaf's own words."""
    if leaf.kind == "FRR":
        up = [entry for entry in leaf.json("show bfd peers") if entry.get("status") == "up"]
        return [(entry["remote-transmit-interval"], entry["remote-transmit-interval"] * entry["remote-detect-multiplier"]) for entry in up]
    rows = re.findall(r" Up +\S+ +(\d+\.\d+) +(\d+\.\d+)", leaf.birdc("show bfd sessions"))
    return [(round(float(interval) * 1000), round(float(timeout) * 1000)) for interval, timeout in rows]
