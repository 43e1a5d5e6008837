"""A leaf restarts (RFC 4724, we are the helper): its routes are kept as stale, our kernel's default routes never go away.

Then it stays away: what it told is forgotten when its restart time is over, but the last default stays in the kernel as long as
its link is up. On the wire: we send End-of-RIB for every family that was negotiated, and for no other. The other role, our own
restart, is shown by `graceful-restart`.
"""

import signal
import time

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120
DEFAULTS = ("0.0.0.0/0", "::/0")


def run(s):
    host = s["host"]
    host.run("ip addr add 172.30.1.1/32 dev lo; ip addr add f00d::1/128 dev lo nodad")
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours()
    up(leaf, ours)
    for prefix in DEFAULTS:
        ours.wait_learned(prefix)
    for family in (4, 6):
        wait_for(f"IPv{family} default", lambda f=family: default(host, f), 10.0)
    installed = {family: default(host, family) for family in (4, 6)}
    host.start("watch", "ip -ts -o monitor route")
    time.sleep(1.0)  # both sides have sent End-of-RIB

    s.step("the leaf's daemon is killed: what it told is kept, marked as stale")
    daemon = "bgpd" if leaf.kind == "FRR" else "bird"
    leaf.node.stop(daemon, signal.SIGKILL)
    wait_for("the session to end", lambda: not ours.established("fd00:1::1"), 5.0)
    time.sleep(1.0)
    learned = {entry["prefix"]: entry for entry in ours.show("learned")}
    for prefix in DEFAULTS:
        s.expect(prefix in learned and learned[prefix]["stale"], f"{prefix} should be there, stale: {learned}")
    s.equal({family: default(host, family) for family in (4, 6)}, installed, "defaults while the leaf is away")

    s.step("it starts again: the routes are fresh again")
    again(leaf)
    up(leaf, ours)
    for prefix in DEFAULTS:
        wait_for(f"{prefix} fresh", lambda p=prefix: not ours.wait_learned(p)["stale"], 15.0)
    s.equal({family: default(host, family) for family in (4, 6)}, installed, "defaults after its restart")

    s.step("it stays away: its routes are forgotten in time, the last default stays as long as the link is up")
    leaf.node.stop(daemon, signal.SIGKILL)
    started = time.monotonic()
    wait_for("its routes to be forgotten", lambda: not ours.show("learned"), 30.0)
    took = time.monotonic() - started
    s.say(f"  forgotten after {took:.1f} s; the leaf's restart time is 8 s")
    s.expect(6.0 <= took <= 12.0, f"forgotten after {took:.1f} s; the leaf's restart time is 8 s")
    s.equal({family: default(host, family) for family in (4, 6)}, installed, "defaults when nobody offers one")
    counts = [f["advertised"] for n in ours.show("neighbors") for f in n["families"]]
    s.expect(counts and not any(counts), f"routes said to be advertised while no session is up: {counts}")
    host.stop("watch")
    gone = [line for line in host.log("watch").splitlines() if "Deleted" in line and "default" in line]
    s.equal(gone, [], "default routes that were removed")

    s.step("End-of-RIB of ours: both families over IPv6, IPv4 alone over IPv4, in each session")
    capture.stop()
    s.equal(ends_of_rib(capture, "ipv6.src == fd00:1::2"), {"ipv4": 2, "ipv6": 2}, "our End-of-RIB markers over IPv6")
    restarted = [line[0] for line in capture.decode("bgp.type == 1 && ip.src == 10.0.1.2", "bgp.cap.gr.timers.restart_flag")]
    s.equal((restarted[0], restarted[-1]), ("1", "0"), "R bit in our first OPEN, and in that after the leaf's restart")
    s.equal(ends_of_rib(capture, "ip.src == 10.0.1.2"), {"ipv4": 2, "ipv6": 0}, "our End-of-RIB markers over IPv4")


def up(leaf, ours):
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        leaf.wait_established(mine)
        ours.wait_established(theirs)


def again(leaf):
    if leaf.kind == "FRR":
        leaf.start_bgpd()
    else:
        # -R: this start is a graceful restart.
        leaf.node.start("bird", "bird -R -f -c /lab/bird.conf -s /run/bird/bird.ctl")


def default(host, family):
    return host.run(f"ip -{family} route show default proto bgp").strip()


def ends_of_rib(capture, sender):
    """How many End-of-RIB markers a sender sent, per family, found in the bytes."""
    count = {"ipv4": 0, "ipv6": 0}
    for (payload,) in capture.decode(f"bgp && {sender}", "tcp.payload"):
        data = bytes.fromhex(payload.replace(":", "").replace(",", ""))
        while data[:16] == b"\xff" * 16 and len(data) >= 19:
            length = int.from_bytes(data[16:18], "big")
            message, data = data[:length], data[length:]
            body = message[19:]
            if message[18] != 2:
                continue
            if body == b"\0\0\0\0":
                count["ipv4"] += 1
            # MP_UNREACH_NLRI of IPv6 unicast without a prefix, with the length in one octet or in two.
            elif body[:2] == b"\0\0" and body[4:] in (b"\x80\x0f\x03\0\x02\x01", b"\x90\x0f\0\x03\0\x02\x01"):
                count["ipv6"] += 1
    return count
