"""Two leaves, one unnumbered and one numbered and strict: a leaf that falls silent leaves the kernel's routes within the Detection Time.

The leaf is cut off by dropping everything it sends and gets (a dead switch in between: no link goes down); BGP's hold time is 90 s.
Then the other one goes as well: with BFD down not even the last default route is kept.
"""

import json
import time
from datetime import datetime

from lab import topology
from lab.shell import wait_for

TOPOLOGY = topology.Topology(
    nodes=[topology.Node("host"), topology.Node("leaf1"), topology.Node("leaf2")],
    links=[topology.Link("host:eth1", "leaf1:eth1"), topology.Link("host:eth2 10.0.2.2/30", "leaf2:eth1 10.0.2.1/30")],
)
TIME_LIMIT = 120


def run(s):
    s.frr("leaf1", "leaf1.frr.conf", bfd=True)
    leaf2 = s.frr("leaf2", "leaf2.frr.conf")
    ours = s.ours()
    s.step("strict: BGP with leaf2 waits, as nobody answers BFD there")
    ours.wait_established("eth1")
    time.sleep(3)
    s.expect(not ours.established("10.0.2.1"), "BGP did not wait for BFD")
    s.expect("BFD" in str(neighbor(ours, "10.0.2.1")["last_reason"]), f"the reason is {neighbor(ours, '10.0.2.1')['last_reason']}")
    s.step("bfdd starts there: BFD is up on both links, then BGP")
    s["leaf2"].start("bfdd", "/usr/lib/frr/bfdd")
    wait_for("bfdd", lambda: s["leaf2"].succeeds("test -S /run/frr/bfdd.vty"))
    leaf2.configure("router bgp 65002", "neighbor 10.0.2.2 bfd")
    ours.wait_established("10.0.2.1")
    wait_for("two sessions", lambda: [b["state"] for b in ours.show("bfd")] == ["Up", "Up"])
    unnumbered = next(b for b in ours.show("bfd") if b["interface"] == "eth1")
    s.expect(unnumbered["neighbor"].startswith("fe80:"), f"the unnumbered session is with {unnumbered['neighbor']}")
    wait_for("both next hops in the kernel", lambda: devices(s) == {"eth1", "eth2"})
    s.step("leaf1 falls silent: its next hop is gone within the Detection Time (900 ms)")
    took = silence(s, "leaf1", {"eth2"})
    s.say(f"  gone after {took:.2f} s")
    s.say(f"  {latency(s) * 1000:.1f} ms from BFD to the kernel's answer, by the daemon's log")
    s.expect(took < 1.5, f"leaf1 was used for {took:.2f} s after it fell silent")
    s.step("it speaks again, and is used again")
    speak(s, "leaf1")
    wait_for("both next hops in the kernel", lambda: devices(s) == {"eth1", "eth2"}, 40.0)
    s.step("both fall silent: BFD knows that the ways are dead, not even the last default is kept")
    silence(s, "leaf1", {"eth2"})
    silence(s, "leaf2", set())
    s.step("leaf2 comes back")
    speak(s, "leaf2")
    wait_for("its next hop in the kernel", lambda: devices(s) == {"eth2"}, 40.0)


def neighbor(ours, name):
    return next(n for n in ours.show("neighbors") if n["neighbor"] == name)


def silence(s, node, left):
    for ip in ("ip", "ip -6"):
        s[node].run(f"{ip} rule add pref 10 lookup local; {ip} rule del pref 0; {ip} rule add pref 1 blackhole")
    started = time.monotonic()
    wait_for(f"{node} to leave the kernel's default route", lambda: devices(s) == left, 5.0)
    return time.monotonic() - started


def latency(s):
    """Seconds from the last "BFD is down" to the first route installed after it."""
    lines = [line.split(maxsplit=2) for line in s["host"].log("ovn-bgpd").splitlines() if line.startswith("20")]
    stamps = [(datetime.fromisoformat(at.replace("Z", "+00:00")), text) for at, _, text in lines]
    down = max(at for at, text in stamps if text.startswith("BFD is down"))
    # The log's thread may be the later one.
    installed = min(at for at, text in stamps if text.startswith("installed") and (at - down).total_seconds() > -0.1)
    return (installed - down).total_seconds()


def speak(s, node):
    for ip in ("ip", "ip -6"):
        s[node].run(f"{ip} rule del pref 1; {ip} rule add pref 0 lookup local; {ip} rule del pref 10")


def devices(s):
    """The devices of the default route of ours."""
    found = json.loads(s["host"].run("ip -j route show default") or "[]")
    routes = [route for route in found if route.get("metric") == 20]
    hops = [hop for route in routes for hop in route.get("nexthops", [route])]
    return {hop["dev"] for hop in hops}
