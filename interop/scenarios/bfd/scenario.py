"""BFD with each peer, IPv4 and IPv6: asymmetric timers, timers changed while up, AdminDown from either side, loss one way.

The leaf's defaults differ from ours on purpose (§6.8.4 of RFC 5880: each side's Detection Time goes by the other's interval and
multiplier). Whatever ends on purpose leaves BGP alone (RFC 5882 §3.2); a path that loses packets one way only does not. BIRD says nothing
when it ends BFD, and never AdminDown: the machine of its proto/bfd/bfd.c (2.17.5, 3.1.7, 3.3.2) has no way into that state. To us that is
silence, and a failure.
"""

import time

from lab import topology
from lab.shell import wait_for

PEERS = {"frr-10": ("frr", "cloud"), "frr-8": ("frr", "oldstable"), "bird-2.17": ("bird", "cloud"), "bird-3.1": ("bird", "peers")}
VARIANTS = {name: {"peer": peer, "topology": {"image_b": image}} for name, (peer, image) in PEERS.items()}
TOPOLOGY = topology.pair
TIME_LIMIT = 120

ENDS = [("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")]
# FRR's profile and BIRD's interface say 200 ms × 4; ours 100 ms to send, 300 ms to receive, × 5.
PROFILE = {"SEND": "100ms", "RECEIVE": "300ms", "MULTIPLIER": 5, "BFD": 'bfd = "fabric"'}


def run(s):
    make = s.parameters["peer"]
    capture = s.capture("host", "eth1", "udp port 3784")
    leaf = s.frr(bfd=True) if make == "frr" else s.bird()
    ours = s.ours(**PROFILE)
    s.step("BFD and BGP come up, IPv4 and IPv6")
    wait_sessions(ours, "Up")
    for mine, theirs in ENDS:
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    wait_for("the leaf's view of BFD", lambda: leaf_up(leaf) == 2)
    s.step("asymmetric timers: each Detection Time goes by the other's interval and multiplier")
    # We send every max(100, 200) ms, the leaf every max(200, 300) ms; detection 300 ms × 4 here, 200 ms × 5 there.
    wait_for("the negotiated timers", lambda: all(timers(b) == (200, 300, 1200) for b in ours.show("bfd")), 5.0)
    # FRR makes its session anew when BGP comes up.
    before = moves(ours)
    s.step("our timers change while up, by a poll sequence: no flap on either side")
    ours.configure(s.text("host.toml", **{**PROFILE, "SEND": "400ms", "RECEIVE": "500ms"}))
    ours.command("reload")
    wait_for("our new timers", lambda: all(timers(b) == (400, 500, 2000) for b in ours.show("bfd")), 8.0)
    ours.configure(s.text("host.toml", **PROFILE))
    ours.command("reload")
    wait_for("our old timers", lambda: all(timers(b) == (200, 300, 1200) for b in ours.show("bfd")), 8.0)
    s.step("the leaf's timers change while up")
    if make == "frr":
        leaf.configure("bfd", "profile fabric", "transmit-interval 600", "receive-interval 600")
    else:
        leaf.configure(s.text("leaf.bird.conf").replace("200 ms", "600 ms"))
    wait_for("the leaf's new timers", lambda: all(timers(b)[:2] == (600, 600) for b in ours.show("bfd")), 12.0)
    s.equal(moves(ours), before, "times BFD came up and went down")
    admin_down(s, make, leaf, ours)
    one_way_loss(s, leaf, ours)
    restart(s, leaf, ours)
    s.step("who has said AdminDown all this time")
    capture.stop()
    admin = {host: len(capture.decode(f"bfd.sta == 0 && (ip.src == 10.0.1.{host} || ipv6.src == fd00:1::{host})", "frame.number")) for host in (1, 2)}
    s.say(f"  packets with AdminDown: {admin[2]} of ours, {admin[1]} of the leaf's")
    s.expect(admin[2] > 0, "we never said AdminDown")
    s.equal(admin[1] > 0, make == "frr", "the leaf has said AdminDown")


def restart(s, leaf, ours):
    s.step("we stop in order to restart: the leaf keeps our routes although BFD ends, too")
    leaf.wait_route("172.30.1.1/32")
    ours.stop()
    time.sleep(2)
    s.expect("172.30.1.1/32" in leaf.routes(), "the leaf dropped our routes")


def admin_down(s, make, leaf, ours):
    if make == "frr":
        before = established_counts(ours)
        s.step("AdminDown by the leaf: BFD is down, BGP stays")
        leaf.configure("bfd", "profile fabric", "shutdown")
        wait_for("BFD to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 8.0)
        time.sleep(3)
        s.equal(established_counts(ours), before, "BGP sessions while the leaf's BFD is AdminDown")
        leaf.configure("bfd", "profile fabric", "no shutdown")
        wait_sessions(ours, "Up")
    else:
        s.step("BIRD ends BFD without a word: a failure, Cease/10; BGP comes back without it, as we do not insist on it")
        leaf.birdc("disable watch")
        wait_for("BFD to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 8.0)
        s.equal({b["diagnostic"] for b in ours.show("bfd")}, {"control detection time expired"}, "why BFD is down")
        for entry in ours.show("neighbors"):
            s.expect("BFD" in str(entry["last_error_sent"]), f"the NOTIFICATION was {entry['last_error_sent']}")
        for mine, theirs in ENDS:
            leaf.wait_established(mine)
            ours.wait_established(theirs)
        s.expect(all(b["state"] != "Up" for b in ours.show("bfd")), "BFD is up again")
        leaf.birdc("enable watch")
        wait_sessions(ours, "Up")
    before = established_counts(ours)
    s.step("AdminDown by us: BIRD keeps BGP; FRR does not (RFC 5882 §3.2 notwithstanding), but comes back")
    ours.configure(s.text("host.toml", **{**PROFILE, "BFD": ""}))
    ours.command("reload")
    wait_for("our sessions to be gone", lambda: ours.show("bfd") == [], 10.0)
    if make == "bird":
        time.sleep(1)
        s.equal(established_counts(ours), before, "BGP sessions after our AdminDown")
    ours.configure(s.text("host.toml", **PROFILE))
    ours.command("reload")
    back(leaf, ours)


def one_way_loss(s, leaf, ours):
    s.step("what the leaf sends by BFD is lost, one way only: both sides are told, BGP ends with Cease/10")
    settled(leaf, ours)
    deaf(s, "host")
    started = time.monotonic()
    wait_for("BFD to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 5.0)
    took = time.monotonic() - started
    s.expect(took < 3.5, f"noticed after {took:.1f} s; the Detection Time is 2.4 s")
    for entry in ours.show("neighbors"):
        s.expect("BFD" in str(entry["last_error_sent"]), f"the NOTIFICATION was {entry['last_error_sent']}")
    hearing(s, "host")
    back(leaf, ours)
    s.step("what we send by BFD is lost: the leaf says that it is down")
    settled(leaf, ours)
    deaf(s, "leaf")
    wait_for("BFD to be down", lambda: all(b["state"] != "Up" for b in ours.show("bfd")), 5.0)
    said = {b["remote_diagnostic"] for b in ours.show("bfd")} | {b["diagnostic"] for b in ours.show("bfd")}
    s.expect(any("expired" in d or "neighbour" in d for d in said), f"diagnostics: {said}")
    hearing(s, "leaf")
    back(leaf, ours)


def settled(leaf, ours):
    """Up in both views, and no longer at the slow rate of the start."""
    wait_for("BFD in the leaf's view", lambda: leaf_up(leaf) == 2)
    wait_for("the timers", lambda: all(timers(b) == (600, 600, 2400) for b in ours.show("bfd")), 10.0)


def back(leaf, ours):
    wait_sessions(ours, "Up")
    for mine, theirs in ENDS:
        leaf.wait_established(mine)
        ours.wait_established(theirs)


def deaf(s, node):
    """The node drops what arrives for BFD: its rule stands before the one for local addresses."""
    for ip in ("ip", "ip -6"):
        s[node].run(f"{ip} rule add pref 10 lookup local; {ip} rule del pref 0; {ip} rule add pref 1 ipproto udp dport 3784 iif eth1 blackhole")


def hearing(s, node):
    for ip in ("ip", "ip -6"):
        s[node].run(f"{ip} rule del pref 1; {ip} rule add pref 0 lookup local; {ip} rule del pref 10")


def wait_sessions(ours, state):
    def all_of_them():
        sessions = ours.show("bfd")
        return len(sessions) == 2 and all(b["state"] == state for b in sessions)

    wait_for(f"two BFD sessions that are {state}", all_of_them, 20.0)


def timers(b):
    return b["transmit_interval_ms"], b["receive_interval_ms"], b["detection_time_ms"]


def moves(ours):
    return [(b["up_count"], b["down_count"]) for b in ours.show("bfd")]


def established_counts(ours):
    return [(n["state"], n["established_count"]) for n in ours.show("neighbors")]


def leaf_up(leaf):
    if leaf.kind == "FRR":
        return sum(entry.get("status") == "up" for entry in leaf.json("show bfd peers"))
    return leaf.birdc("show bfd sessions").count(" Up ")
