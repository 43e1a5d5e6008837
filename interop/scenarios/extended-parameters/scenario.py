"""FRR and BIRD, with more to say in their OPEN than 255 octets, write it in the extended form (RFC 9072): we understand every capability.

One session needs it, the other does not. FRR counts one octet too many for ORF and writes the role as if it were the old form: such
an OPEN is refused with 2/0, and without them the session comes back.
"""

import time

from lab import topology
from lab.capture import Capture
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120
PAIRS = (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1"))
OURS, DEFAULTS = ("172.30.1.1/32", "f00d::1/128"), ("0.0.0.0/0", "::/0")
# The last capability FRR and BIRD write, one in the middle, and the first.
FRR = ("multiprotocol ipv4", "multiprotocol 25/70", "add-path ipv4 receive, 1/2 receive", "host name leaf",
       "graceful restart 120 s", "long-lived graceful restart")  # fmt: skip
BIRD = ("multiprotocol ipv6", "add-path ipv6 both", "long-lived graceful restart", "host name a-leaf-with-a-name-nobody-would-type-twice")
EXTENDED = 255


def run(s):
    capture = Capture(s["host"], "eth1")  # not every tshark knows the extended form: nobody asks it what is malformed
    capture.start()
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours()
    s.step("both sessions come up, with every capability")
    up(leaf, ours)
    received = ", ".join(session(ours)["capabilities"]["received"])
    for capability in FRR if leaf.kind == "FRR" else BIRD:
        s.expect(capability in received, f"'{capability}' is not among: {received}")
    capture.stop()
    s.step("on the wire: the leaf's OPEN has the extended form where it is needed")
    plain, extended = opens(capture, "ip.src == 10.0.1.1"), opens(capture, "ipv6.src == fd00:1::1")
    s.expect(plain and all(len(message) <= 29 + EXTENDED and message[28] == len(message) - 29 for message in plain), f"plain: {plain}")
    s.expect(extended and all(is_extended(message) for message in extended), f"extended: {extended}")
    s.say(f"  {len(plain[0])} and {len(extended[0])} octets; ours: {[len(message) for message in opens(capture, 'ipv6.src == fd00:1::2')]}")
    if leaf.kind == "FRR":
        family = ("router bgp 65001", "address-family ipv4 unicast")
        orf = "neighbor fd00:1::2 capability orf prefix-list both"
        refused(s, leaf, ours, "ORF", (*family, orf), (*family, f"no {orf}"))
        role = "neighbor fd00:1::2 local-role provider"
        refused(s, leaf, ours, "a role", ("router bgp 65001", role), ("router bgp 65001", f"no {role}"))


def refused(s, leaf, ours, what, on, off):
    s.step(f"{what} in FRR's extended form: refused with 2/0, until it is gone")
    started = time.monotonic()
    leaf.configure(*on)
    leaf.vtysh("clear bgp fd00:1::2")
    wait_for(f"{what} to be refused", lambda: said(ours, "(2/0)", time.monotonic() - started), 20.0)
    s.say(f"  we say: {session(ours)['last_error_sent']}")
    s.expect(session(ours)["state"] != "Established" and ours.established("10.0.1.1"), "only the session in question is down")
    leaf.configure(*off)
    up(leaf, ours)


def said(ours, code, seconds):
    """That was the last error we sent, and we sent it within so many seconds."""
    entry = session(ours)
    return code in str(entry["last_error_sent"]) and entry["last_error_sent_seconds"] < seconds


def session(ours):
    return next(entry for entry in ours.show("neighbors") if entry["neighbor"] == "fd00:1::1")


def up(leaf, ours):
    for mine, theirs in PAIRS:
        ours.wait_established(theirs, 45.0)
        leaf.wait_established(mine)
    for prefix in OURS:
        leaf.wait_route(prefix)
    for prefix in DEFAULTS:
        ours.wait_learned(prefix)


def opens(capture, display_filter):
    return [message for message in capture.messages(display_filter) if message[18] == 1]


def is_extended(message):
    """Both octets that say so, and the length in the two after them (RFC 9072, section 2)."""
    return message[28] == message[29] == EXTENDED and int.from_bytes(message[30:32], "big") == len(message) - 32 > EXTENDED
