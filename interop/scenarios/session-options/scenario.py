"""GTSM, roles (RFC 9234, strict), a limit of prefixes and a shutdown with a reason, with FRR and BIRD; each by reload.

Every BGP packet of ours has TTL 255 and class CS6. A role that does not fit gives no session and names the reason; too many
prefixes end it with Cease/1; a shutdown carries its text to the leaf.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
PAIRS = (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1"))
GOOD = {"ROLE": "customer", "SHUTDOWN": "false", "MAX": "2"}
REASON = "rack 7 is moved at noon"


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(**GOOD)

    def reload(**values):
        ours.configure(s.text("host.toml", **(GOOD | values)))
        ours.command("reload")

    def down(code):
        """Both sessions are down, for the reason."""
        entries = ours.show("neighbors")
        words = [str(e["last_error_sent"]) + str(e["last_error_received"]) for e in entries]
        return all(e["state"] != "established" for e in entries) and all(code in word for word in words)

    def explain():
        return [(e["state"], e["last_error_sent"], e["last_error_received"]) for e in ours.show("neighbors")]

    s.step("provider and customer, GTSM on both sides: up")
    up(leaf, ours)
    s.step("two providers: no session (2/11)")
    reload(ROLE="provider")
    try:
        wait_for("a role mismatch", lambda: down("(2/11)"), 15.0)
    except Exception as late:
        s.expect(False, f"{late}: {explain()}")
    s.step("a customer again; then one prefix more than allowed: Cease/1")
    reload()
    up(leaf, ours)
    reload(MAX="1")
    try:
        wait_for("the limit to end the sessions", lambda: down("(6/1)"), 15.0)
    except Exception as late:
        s.expect(False, f"{late}: {explain()}")
    s.step("allowed again; then shut down with a reason")
    reload()
    up(leaf, ours)
    reload(SHUTDOWN=f'"{REASON}"')
    wait_for("the leaf to have lost the sessions", lambda: not any(leaf.established(mine) for mine, _ in PAIRS), 5.0)
    log = leaf.node.log("bgpd" if leaf.kind == "FRR" else "bird")
    s.expect(REASON in log, f"the leaf's log does not have the reason:\n{log[-1500:]}")
    reload()
    up(leaf, ours)
    capture.stop()
    s.step("TTL and class of every BGP packet of ours")
    seen4 = {tuple(line) for line in capture.decode("bgp && ip.src == 10.0.1.2", "ip.ttl", "ip.dsfield.dscp")}
    seen6 = {tuple(line) for line in capture.decode("bgp && ipv6.src == fd00:1::2", "ipv6.hlim", "ipv6.tclass.dscp")}
    s.equal((seen4, seen6), ({("255", "48")}, {("255", "48")}), "TTL and DSCP over IPv4 and IPv6")


def up(leaf, ours):
    for mine, theirs in PAIRS:
        ours.wait_established(theirs, 45.0)
        leaf.wait_established(mine)
    for prefix in ("172.30.1.1/32", "f00d::1/128"):
        leaf.wait_route(prefix)
