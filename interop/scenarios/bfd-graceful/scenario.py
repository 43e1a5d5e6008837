"""`bfd_graceful` (RFC 5882 §4.3): a leaf whose BFD dies with its daemons keeps its routes as graceful restart lets them; without it, they go.

All of the leaf's daemons stand still, so that its kernel goes on acknowledging and only BFD can notice (BGP's hold time is 90 s).
"""

import json
import signal
import time

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 150


def run(s):
    make = s.parameters["peer"]
    daemons = ["bfdd", "bgpd"] if make == "frr" else ["bird"]
    leaf = s.frr(bfd=True) if make == "frr" else s.bird()
    ours = s.ours(GRACEFUL="true")
    s.step("with bfd_graceful: the leaf stands still, BFD goes down, its route stays in the kernel as stale")
    settled(s, ours)
    still(leaf, daemons)
    wait_for("BFD to be down", lambda: ours.show("bfd")[0]["state"] != "Up", 10.0)
    wait_for("BGP to be down", lambda: not ours.established("10.0.1.1"), 5.0)
    time.sleep(1.0)
    s.expect(ours.wait_learned("0.0.0.0/0")["stale"], "the route is not stale")
    s.expect(default(s), "the default route is gone")
    sent = neighbor(ours)["last_error_sent"]
    s.expect(sent is None, f"we said {sent}, which would end the leaf's patience with our routes")
    s.step("it goes on: the session comes back, the route is fresh")
    on(leaf, daemons)
    wait_for("the session and a fresh route", lambda: ours.established("10.0.1.1") and fresh(ours), 60.0)
    s.step("without bfd_graceful (changed by a reload, no reset): Cease/10, and the default route is gone")
    ours.configure(s.text("host.toml", GRACEFUL="false"))
    out = ours.command("reload", "--json")
    s.expect('"bfd_graceful"' in out and '"reset"' not in out, f"the reload said {out}")
    settled(s, ours)
    still(leaf, daemons)
    wait_for("the default route to go", lambda: not default(s), 10.0)
    s.expect("BFD" in str(neighbor(ours)["last_error_sent"]), f"we said {neighbor(ours)['last_error_sent']}")
    on(leaf, daemons)
    wait_for("the default route", lambda: default(s), 60.0)


def settled(s, ours):
    ours.wait_established("10.0.1.1")
    wait_for("BFD at its interval", lambda: ours.show("bfd")[0]["state"] == "Up" and ours.show("bfd")[0]["transmit_interval_ms"] == 300, 30.0)
    wait_for("the default route", lambda: fresh(ours) and default(s), 30.0)


def fresh(ours):
    return any(route["prefix"] == "0.0.0.0/0" and not route["stale"] for route in ours.show("learned"))


def still(leaf, daemons):
    for daemon in daemons:
        leaf.node.kill(daemon, signal.SIGSTOP)


def on(leaf, daemons):
    for daemon in daemons:
        leaf.node.kill(daemon, signal.SIGCONT)


def neighbor(ours):
    return ours.show("neighbors")[0]


def default(s):
    return [route for route in json.loads(s["host"].run("ip -j route show default") or "[]") if route.get("metric") == 20]
