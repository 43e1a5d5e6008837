"""Long-lived graceful restart (RFC 9494), we are the helper: a leaf stays away longer than its restart time.

Its routes are kept as stale (RFC 4724), then as a last resort: marked LLGR_STALE, less preferred than any other path, those with
NO_LLGR gone. It comes back and everything is as before. It stays away, and when its long-lived time is over nothing is left.
"""

import signal

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
}
TIME_LIMIT = 150
NEAR, FAR = "10.0.1.1", "10.0.2.1"
ALONE, SHORT = "192.0.2.1/32", "192.0.2.2/32"


def TOPOLOGY(image):
    return Topology(
        nodes=[Node("host"), Node("leaf", image), Node("far")],
        links=[
            Link("host:eth1 10.0.1.2/30", "leaf:eth1 10.0.1.1/30"),
            Link("host:eth2 10.0.2.2/30", "far:eth1 10.0.2.1/30"),
        ],
    )


def run(s):
    s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    s.bird("far", "far.bird.conf")
    ours = s.ours()

    def paths():
        """(prefix, from) → (selected, stale, marked)"""
        return {(e["prefix"], e["neighbor"]): (e["selected"], e["stale"], "llgr-stale" in e["communities"]) for e in ours.show("learned")}

    fresh, kept, last, gone = (True, False, False), (True, True, False), (True, True, True), None

    def wait(what, wanted, timeout):
        seen = lambda: {key: paths().get(key) for key in wanted}  # noqa: E731
        try:
            wait_for(what, lambda: seen() == wanted, timeout)
        except Exception as late:
            s.expect(False, f"{late}; expected {wanted}, seen {seen()}")

    everything = {("0.0.0.0/0", NEAR): fresh, (ALONE, NEAR): fresh, (SHORT, NEAR): fresh, ("0.0.0.0/0", FAR): (False, False, False)}
    wait("all routes, the near leaf preferred", everything, 40.0)
    daemon = "bgpd" if leaf.kind == "FRR" else "bird"

    s.step("the leaf is killed: its routes are stale and in use, for its restart time")
    leaf.node.stop(daemon, signal.SIGKILL)
    wait("stale routes", {("0.0.0.0/0", NEAR): kept, (ALONE, NEAR): kept, (SHORT, NEAR): kept}, 15.0)
    s.step("it stays away: the last resort is marked, loses against any other path, and what must not be kept goes")
    resort = {("0.0.0.0/0", NEAR): (False, True, True), ("0.0.0.0/0", FAR): fresh, (ALONE, NEAR): last, (SHORT, NEAR): gone}
    wait("the last resort", resort, 15.0)
    reason = next(e["reason"] for e in ours.show("learned") if (e["prefix"], e["neighbor"]) == ("0.0.0.0/0", NEAR))
    s.expect("LLGR_STALE" in reason, f"why the near default is not used: {reason}")
    words = next(n["graceful_restart"] for n in ours.show("neighbors") if n["neighbor"] == NEAR)
    s.expect("last resort" in words, f"what show neighbors says: {words}")

    s.step("it comes back: everything as before")
    if leaf.kind == "FRR":
        leaf.start_bgpd()
    else:
        leaf.node.start("bird", "bird -R -f -c /lab/bird.conf -s /run/bird/bird.ctl")
    wait("fresh routes", everything, 40.0)

    s.step("it is killed again and stays away for good: when its long-lived time is over nothing is left of it")
    leaf.node.stop(daemon, signal.SIGKILL)
    wait("the last resort", resort, 20.0)
    wait("nothing left", {("0.0.0.0/0", NEAR): gone, ("0.0.0.0/0", FAR): fresh, (ALONE, NEAR): gone}, 30.0)
