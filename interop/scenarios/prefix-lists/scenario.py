"""Prefix lists in FRR's words, out and in; a changed list takes effect by reload without losing the session."""

from lab import topology
from lab.shell import wait_for

TOPOLOGY = topology.pair()

HOSTS = ["172.30.1.1/32", "f00d::1/128"]
NETS = ["198.51.100.0/24", "2001:db8:7::/64"]


def run(s):
    s.capture("host", "eth1")
    leaf = s.frr()
    ours = s.ours(OUT="only-host-prefixes", IN="only-default")
    leaf.wait_established("10.0.1.2")
    leaf.wait_established("fd00:1::2")
    s.step("out: host prefixes only; in: default routes only")
    for prefix in HOSTS:
        leaf.wait_route(prefix)
    s.equal(sorted(leaf.routes()), sorted(HOSTS), "what the leaf has")
    for prefix in ("0.0.0.0/0", "::/0"):
        ours.wait_learned(prefix)
    s.equal(selected(ours), ["0.0.0.0/0", "::/0"], "what we selected")
    sessions = leaf.neighbor("10.0.1.2").get("connectionsEstablished")
    s.step("out: everything but the loopback; in: everything, by reload")
    ours.configure(s.text("host.toml", OUT="no-loopback", IN="everything"))
    ours.command("reload")
    leaf.wait_gone("172.30.1.1/32")
    for prefix in NETS:
        leaf.wait_route(prefix)
    wanted = ["0.0.0.0/0", "10.9.9.9/32", "192.0.2.0/24", "2001:db8:9::/48", "::/0"]
    wait_for(f"{wanted} selected", lambda: selected(ours) == wanted, 10.0)
    s.equal(leaf.neighbor("10.0.1.2").get("connectionsEstablished"), sessions, "sessions so far, in the leaf's view")


def selected(ours):
    return sorted({entry["prefix"] for entry in ours.show("learned") if entry.get("selected")})
