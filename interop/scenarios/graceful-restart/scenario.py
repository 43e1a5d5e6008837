"""Graceful restart (RFC 4724): the leaf keeps our routes while we restart, drops what did not come back, gives up in time.

The leaf's view is watched all the while: a route that is announced before and after must never be absent in between, after
kill -9 as after an orderly stop. A daemon that stays away loses its routes when the restart time is over.
"""

import time

from lab import topology
from lab.shell import wait_for
from lab.watch import Missing

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-2.0": {"peer": "bird", "topology": {"image_b": "oldstable"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
    "gobgp": {"peer": "gobgp", "topology": {"image_b": "peers"}},
    "openbgpd": {"peer": "openbgpd", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120

STAYS = ["172.30.1.1/32", "f00d::1/128"]
GOES = ["203.0.113.7/32", "f00d::7/128"]


def quoted(prefixes):
    return ", ".join(f'"{prefix}"' for prefix in prefixes)


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(PREFIXES=quoted(STAYS + GOES), RESTART="12s")
    for prefix in STAYS + GOES:
        leaf.wait_route(prefix, 20.0)
    time.sleep(1.0)  # both sides have sent End-of-RIB
    for how, end in (("kill -9", ours.kill), ("an orderly stop", ours.stop)):
        s.step(f"{how}, and back within the restart time: the leaf keeps what stays")
        with Missing(leaf, STAYS) as watch:
            end()
            time.sleep(2.0)
            ours.start()
            leaf.wait_established("10.0.1.2")
            leaf.wait_established("fd00:1::2")
            time.sleep(2.0)
            wait_for("the leaf to be looked at", lambda w=watch: w.looks > 10)
        s.equal(sorted(watch.missed), [], f"prefixes the leaf missed during {how}")
    s.step("what is not announced any more goes after the restart")
    ours.kill()
    ours.configure(s.text("host.toml", PREFIXES=quoted(STAYS), RESTART="12s"))
    ours.start()
    for prefix in GOES:
        leaf.wait_gone(prefix, 20.0)
    for prefix in STAYS:
        leaf.wait_route(prefix)
    s.step("away for good: the leaf gives up when the restart time is over")
    ours.kill()
    started = time.monotonic()
    for prefix in STAYS:
        leaf.wait_gone(prefix, 30.0)
    took = time.monotonic() - started
    s.expect(took > 5.0, f"the leaf gave up after {took:.1f} s already; the restart time is 12 s")
    capture.stop()
    s.step("on the wire: the time we ask for, forwarding preserved in every family, and restarted, at each start")
    for source, family in (("ip.src == 10.0.1.2", "1"), ("ipv6.src == fd00:1::2", "2")):
        opens = capture.decode(f"bgp.type == 1 && {source}", *(f"bgp.cap.gr.{field}" for field in ("timers.restart_time", "afi", "flag.pfs", "timers.restart_flag")))
        s.equal({tuple(line) for line in opens}, {("12", family, "1", "1")}, f"time, family, F and R bits in our OPENs, {source}")
