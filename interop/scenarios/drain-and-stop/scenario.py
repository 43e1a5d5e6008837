"""Drain, then stop: the leaf loses the routes before the session ends, and keeps nothing as stale, graceful restart or not.

The last word is Cease/2, inside a Hard Reset (RFC 8538) where the leaf has agreed to it. `undrain` brings the routes back.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60
OURS = ["172.30.1.1/32", "f00d::1/128"]


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours()
    for prefix in OURS:
        leaf.wait_route(prefix, 20.0)
    s.step("drain: the routes go, the sessions stay; undrain: they are back")
    ours.command("drain")
    for prefix in OURS:
        leaf.wait_gone(prefix, 3.0)
    for mine in ("10.0.1.2", "fd00:1::2"):
        s.expect(leaf.established(mine), f"the session with {mine} ended by a drain")
    ours.command("undrain")
    for prefix in OURS:
        leaf.wait_route(prefix, 3.0)
    s.step("drain, then stop: the leaf has nothing, not even stale")
    ours.command("drain")
    for prefix in OURS:
        leaf.wait_gone(prefix, 3.0)
    ours.stop()
    wait_for("the leaf to notice", lambda: not leaf.established("10.0.1.2") and not leaf.established("fd00:1::2"), 5.0)
    s.equal(sorted(leaf.routes()), [], "routes of the leaf")
    s.step("the last word on the wire")
    capture.stop()
    for mine in ("ip.src == 10.0.1.2", "ipv6.src == fd00:1::2"):
        words = [[int(word, 0) for word in line] for line in capture.decode(f"bgp.type == 3 && {mine}", *NOTIFICATION)]
        hard = leaf.kind == "FRR"
        s.say(f"  {mine.split()[-1]}: NOTIFICATION {words}")
        s.equal(words, [[6, 9 if hard else 2]], "NOTIFICATION code and subcode: Cease, Hard Reset or Administrative Shutdown")


NOTIFICATION = ("bgp.notify.major_error", "bgp.notify.minor_error_cease")
