"""A leaf that falls silent is noticed within the hold time, one that dies at once; both come back by themselves.

FRR's bgpd, or BIRD, is stopped (SIGSTOP: the connection stands, nothing is said), woken up, killed and started again; then our own
daemon is killed, and the leaf must not keep its routes.
"""

import signal
import time

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120


def run(s):
    s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    daemon = "bgpd" if leaf.kind == "FRR" else "bird"
    ours = s.ours()
    up(leaf, ours)
    ours.wait_learned("0.0.0.0/0")
    s.step(f"{daemon} is frozen: the hold timer (9 s) ends the session")
    leaf.node.kill(daemon, signal.SIGSTOP)
    started = time.monotonic()
    wait_for("the session to end", lambda: not ours.established("10.0.1.1"), 14.0)
    took = time.monotonic() - started
    s.expect(5.5 <= took <= 11.0, f"the session ended after {took:.1f} s; the hold time is 9 s, the last message at most 3 s old")
    s.expect("0.0.0.0/0" not in [entry["prefix"] for entry in ours.show("learned")], "the dead leaf's route is still there")
    s.step(f"{daemon} wakes up: the session comes back")
    leaf.node.kill(daemon, signal.SIGCONT)
    up(leaf, ours)
    ours.wait_learned("0.0.0.0/0")
    s.step(f"{daemon} is killed: the connection is reset, the session ends at once")
    leaf.node.stop(daemon, signal.SIGKILL)
    wait_for("the session to end", lambda: not ours.established("10.0.1.1"), 3.0)
    s.step(f"{daemon} starts again: the session comes back, with our routes")
    leaf.start_bgpd() if leaf.kind == "FRR" else leaf.start(s.text("leaf.bird.conf"))
    up(leaf, ours)
    s.step("our daemon is killed: the leaf loses the session and the routes")
    ours.kill()
    leaf.wait_gone("172.30.1.1/32", 3.0)
    s.step("our daemon starts again")
    ours.start()
    up(leaf, ours)


def up(leaf, ours):
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    leaf.wait_route("172.30.1.1/32")
    leaf.wait_route("f00d::1/128")
