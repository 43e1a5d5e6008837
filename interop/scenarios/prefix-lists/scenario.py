"""Prefix lists in FRR's words, out and in, by sequence, `ge` and `le`; a changed list takes effect by reload without losing the session.

Those of the group hold for both families; then one neighbour has its own, and the other notices nothing.
"""

import json

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair

HOSTS = ["172.30.1.1/32", "198.51.100.64/32", "f00d::1/128"]
NETS = ["198.51.100.0/24", "2001:db8:7::/64"]


def run(s):
    s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(OUT="only-host-prefixes", IN="only-default", OWN="")
    leaf.wait_established("10.0.1.2")
    leaf.wait_established("fd00:1::2")
    s.step("out: host prefixes only; in: default routes only")
    for prefix in HOSTS:
        leaf.wait_route(prefix)
    s.equal(sorted(leaf.routes()), sorted(HOSTS), "what the leaf has")
    for prefix in ("0.0.0.0/0", "::/0"):
        ours.wait_learned(prefix)
    s.equal(selected(ours), ["0.0.0.0/0", "::/0"], "what we selected")
    s.step("out: everything but the loopback; in: everything, by reload")
    ours.configure(s.text("host.toml", OUT="no-loopback", IN="everything", OWN=""))
    ours.command("reload")
    leaf.wait_gone("172.30.1.1/32")
    for prefix in NETS:
        leaf.wait_route(prefix)
    wanted = ["0.0.0.0/0", "10.9.9.9/32", "192.0.2.0/24", "2001:db8:9::/48", "::/0"]
    wait_for(f"{wanted} selected", lambda: selected(ours) == wanted, 10.0)
    s.expect("198.51.100.64/32" in leaf.routes(), "seq 5 of the list denies one address only")
    s.step("lists of the IPv4 neighbour's own: lengths from 25 to 31 out, 32 in; the IPv6 one keeps the group's")
    ours.configure(s.text("host.toml", OUT="no-loopback", IN="everything", OWN='prefix_list_out = "from-to"\nprefix_list_in = "nines"'))
    actions = {n["neighbor"]: n["action"] for n in json.loads(ours.command("reload", "--json"))["neighbors"]}
    s.equal(actions, {"10.0.1.1": "refresh", "fd00:1::1": "nothing"}, "what the reload does")
    six = ["2001:db8:7::/64", "f00d::1/128"]
    wait_for("the leaf to have the one route", lambda: sorted(leaf.routes()) == ["198.51.100.0/25", *six], 10.0)
    wait_for("ours to use what it is to", lambda: selected(ours) == ["10.9.9.9/32", "2001:db8:9::/48", "::/0"], 10.0)
    s.equal([(n["established_count"], n["lost_count"]) for n in ours.show("neighbors")], [(1, 0), (1, 0)], "sessions established and lost")


def selected(ours):
    return sorted({entry["prefix"] for entry in ours.show("learned") if entry.get("selected")})
