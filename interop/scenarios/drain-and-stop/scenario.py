"""Drain, then stop: the leaf is asked to look elsewhere, then loses the routes before the session ends, and keeps nothing as stale.

First the routes carry GRACEFUL_SHUTDOWN (RFC 8326; an internal leaf also sees LOCAL_PREF 0), and only after `--wait` or `drain_wait`
they are withdrawn; an `undrain` in time withdraws nothing. Graceful restart keeps nothing of a host that was drained. The last word is Cease/2, inside a Hard Reset (RFC 8538) where the leaf has agreed to it. `undrain` brings the routes back.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "as": 65001, "topology": {"image_b": "cloud"}},
    "frr-10-ibgp": {"peer": "frr", "as": 64999, "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "as": 65001, "topology": {"image_b": "cloud"}},
    "bird-2.17-ibgp": {"peer": "bird", "as": 64999, "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60
OURS = ["172.30.1.1/32", "f00d::1/128"]


def run(s):
    capture = s.capture("host", "eth1")
    internal = s.parameters["as"] == 64999
    leaf = s.peer(s.parameters["peer"], LEAF_AS=s.parameters["as"])
    ours = s.ours(LEAF_AS=s.parameters["as"])
    for prefix in OURS:
        leaf.wait_route(prefix, 20.0)

    def marked(prefix):
        """Whether the route is there with GRACEFUL_SHUTDOWN; `None`: it is gone."""
        route = leaf.routes().get(prefix)
        if route is None:
            return None
        if leaf.kind == "FRR":
            detail = leaf.detail(prefix)
            words, route.local_pref = detail.get("community", {}).get("string", ""), detail.get("locPrf")
        else:
            words = " ".join(route.communities)
        if not ("graceful-shutdown" in words or "65535:0" in words):
            return False
        s.expect(not internal or route.local_pref == 0, f"LOCAL_PREF of {prefix} is {route.local_pref}, not 0")
        return True

    s.step("drain: for a long while the routes are only marked; undrain: nothing was lost")
    said = ours.command("drain", "--wait", "1h")
    s.expect("everything is withdrawn in" in said, f"what drain says: {said}")
    for prefix in OURS:
        wait_for(f"{prefix} to be marked", lambda p=prefix: marked(p), 10.0)
    ours.command("undrain")
    for prefix in OURS:
        wait_for(f"{prefix} to be unmarked", lambda p=prefix: marked(p) is False, 10.0)
    s.step("drain: marked, then withdrawn, the sessions stay; undrain: they are back")
    ours.command("drain", "--wait", "8s")
    for prefix in OURS:
        wait_for(f"{prefix} to be marked", lambda p=prefix: marked(p), 10.0, 0.02)
    for prefix in OURS:
        leaf.wait_gone(prefix, 25.0)
    for mine in ("10.0.1.2", "fd00:1::2"):
        s.expect(leaf.established(mine), f"the session with {mine} ended by a drain")
    ours.command("undrain")
    for prefix in OURS:
        leaf.wait_route(prefix, 5.0)
    s.step("drain, then stop: the leaf has nothing, not even stale")
    ours.command("drain")
    for prefix in OURS:
        leaf.wait_gone(prefix, 10.0)
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
