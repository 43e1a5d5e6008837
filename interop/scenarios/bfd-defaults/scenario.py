"""BFD with everybody's default timers, over IPv4 and over link-local addresses: 900 and 1500 ms between us and BIRD.

Ours are 300 ms × 3, as FRR's; BIRD's are 100 ms to send, 10 ms to receive, × 5. So BIRD notices us after 3 × max(300, 10) = 900 ms and
we notice BIRD after 5 × max(300, 100) = 1500 ms (RFC 5880 §6.8.4). Both are measured: the leaf goes silent, is killed and starts anew with
other discriminators; then we are killed.
"""

import re
import signal
import time

from lab import topology
from lab.shell import wait_for

PEERS = {"frr-10": ("frr", "cloud"), "frr-8": ("frr", "oldstable"), "bird-2.17": ("bird", "cloud"), "bird-3.1": ("bird", "peers")}
VARIANTS = {name: {"peer": peer, "topology": {"image_b": image}} for name, (peer, image) in PEERS.items()}
TOPOLOGY = topology.pair
TIME_LIMIT = 120

NEIGHBORS = ["10.0.1.1", "fe80::1%eth1"]


def run(s):
    make = s.parameters["peer"]
    for node, host in [("host", 2), ("leaf", 1)]:
        s[node].run(f"ip -6 addr flush dev eth1 scope link; ip addr add fe80::{host}/64 dev eth1 nodad")
    s.capture("host", "eth1", "udp port 3784")
    leaf = s.frr(bfd=True) if make == "frr" else s.bird()
    ours = s.ours()
    multiplier, ours_notices = (3, 900) if make == "frr" else (5, 1500)
    s.step(f"IPv4 and link-local: up, at 300 ms both ways, {ours_notices} ms until we notice, 900 until the leaf does")
    wait_for("two sessions at their intervals", lambda: timers(ours) == [(300, 300, ours_notices)] * 2, 30.0)
    for neighbor in NEIGHBORS:
        ours.wait_established(neighbor)
    wait_for("the leaf's timers", lambda: leaf_timers(leaf) == [(300, 900)] * 2, 15.0)
    s.step("the leaf falls silent")
    silence(s, "leaf", "host")
    took = noticed(ours)
    s.say(f"  noticed after {took:.2f} s")
    # From its last packet it is exactly the Detection Time; that went out up to an interval earlier.
    s.expect(ours_notices / 1000 - 0.45 <= took <= ours_notices / 1000 + 0.6, f"noticed after {took:.2f} s")
    speak(s, "leaf", "host")
    again(ours, leaf, ours_notices)
    s.step("the leaf's daemons are killed, and start anew")
    before = discriminators(ours)
    kill(leaf)
    took = noticed(ours)
    s.say(f"  noticed after {took:.2f} s")
    s.expect(ours_notices / 1000 - 0.45 <= took <= ours_notices / 1000 + 0.6, f"noticed after {took:.2f} s")
    s.equal({b["diagnostic"] for b in ours.show("bfd")}, {"control detection time expired"}, "why BFD is down")
    resurrect(s, leaf)
    again(ours, leaf, ours_notices)
    s.expect(not before & discriminators(ours), "the leaf has its old discriminators")
    s.step("we are killed: the leaf notices after its 900 ms")
    ours.kill()
    started = time.monotonic()
    wait_for("the leaf to notice", lambda: not leaf_timers(leaf), 10.0)
    took = time.monotonic() - started
    s.say(f"  noticed after {took:.2f} s")
    s.expect(took <= 2.5, f"the leaf noticed after {took:.2f} s")


def again(ours, leaf, ours_notices):
    wait_for("both sessions again", lambda: timers(ours) == [(300, 300, ours_notices)] * 2, 30.0)
    wait_for("the leaf's timers", lambda: leaf_timers(leaf) == [(300, 900)] * 2, 15.0)


def kill(leaf):
    for daemon in ("bfdd", "bgpd") if leaf.kind == "FRR" else ("bird",):
        leaf.node.kill(daemon, signal.SIGKILL)


def resurrect(s, leaf):
    if leaf.kind == "FRR":
        leaf.node.start("bfdd", "/usr/lib/frr/bfdd")
        leaf.start_bgpd()
    else:
        leaf.start(s.text("leaf.bird.conf"))


def discriminators(ours):
    return {b["remote_discriminator"] for b in ours.show("bfd")}


def noticed(ours):
    started = time.monotonic()
    wait_for("both sessions to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 10.0)
    return time.monotonic() - started


def silence(s, node, other):
    """What the node sends goes to an Ethernet address nobody has; no carrier is lost."""
    for address in neighbors(other):
        s[node].run(f"ip neigh replace {address} lladdr 02:00:00:00:00:01 dev eth1 nud permanent")


def speak(s, node, other):
    for address in neighbors(other):
        s[node].run(f"ip neigh del {address} dev eth1")


def neighbors(other):
    host = 2 if other == "host" else 1
    return [f"10.0.1.{host}", f"fe80::{host}"]


def timers(ours):
    sessions = ours.show("bfd")
    return [(b["transmit_interval_ms"], b["receive_interval_ms"], b["detection_time_ms"]) for b in sessions if b["state"] == "Up"]


def leaf_timers(leaf):
    """Interval and Detection Time of its sessions that are up, in the leaf's own words."""
    if leaf.kind == "FRR":
        up = [entry for entry in leaf.json("show bfd peers") if entry.get("status") == "up"]
        return [(entry["remote-transmit-interval"], entry["remote-transmit-interval"] * entry["remote-detect-multiplier"]) for entry in up]
    rows = re.findall(r" Up +\S+ +(\d+\.\d+) +(\d+\.\d+)", leaf.birdc("show bfd sessions"))
    return [(round(float(interval) * 1000), round(float(timeout) * 1000)) for interval, timeout in rows]
