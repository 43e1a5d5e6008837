"""Authenticated BFD with BIRD: every type of RFC 5880 §6.7, a wrong key stays out, a new key comes in without a flap.

FRR's bfdd knows no authentication: without keys of its own it stays down against ours, and we say why.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 150

# Our name, and BIRD's.
TYPES = {
    "simple": "simple",
    "md5": "keyed md5",
    "meticulous-md5": "meticulous keyed md5",
    "sha1": "keyed sha1",
    "meticulous-sha1": "meticulous keyed sha1",
}
INLINE = '{ id = 1, password = "sesame" }'


def run(s):
    s.capture("host", "eth1", "udp port 3784")
    s["host"].write("/lab/second.key", "open\n", 0o600)
    if s.parameters["peer"] == "frr":
        return stranger(s)
    leaf = s.bird(AUTH=bird("meticulous-sha1", ("sesame", 1)))
    ours = s.ours(TYPE="meticulous-sha1", KEYS=INLINE)
    up(leaf, ours, "meticulous-sha1")
    for kind in list(TYPES)[:-1]:
        s.step(f"{kind}: both ends change to it")
        leaf.configure(s.text("leaf.bird.conf", AUTH=bird(kind, ("sesame", 1))))
        ours.configure(s.text("host.toml", TYPE=kind, KEYS=INLINE))
        ours.command("reload")
        up(leaf, ours, kind)
    s.step("a new key from a file, without a flap: behind the old one, then before it, then alone")
    ours.configure(s.text("host.toml", TYPE="sha1", KEYS=INLINE + ', { id = 2, password_file = "second.key" }'))
    ours.command("reload")
    leaf.configure(s.text("leaf.bird.conf", AUTH=bird("sha1", ("sesame", 1), ("open", 2))))
    up(leaf, ours, "sha1")
    before = moves(ours)
    ours.configure(s.text("host.toml", TYPE="sha1", KEYS='{ id = 2, password_file = "second.key" }, ' + INLINE))
    ours.command("reload")
    sent = session(ours)["packets_sent"]
    wait_for("a dozen packets with the new key", lambda: session(ours)["packets_sent"] > sent + 12)
    s.equal((session(ours)["state"], moves(ours)), ("Up", before), "the session with the new key")
    s.step("another key under the same Key ID is no key")
    ours.configure(s.text("host.toml", TYPE="sha1", KEYS='{ id = 1, password = "wrong" }'))
    ours.command("reload")
    wait_for("the session to go down", lambda: session(ours)["state"] != "Up")
    wait_for("packets refused for their digest", lambda: any("digest" in rule for rule in session(ours)["packets_discarded"]))


def stranger(s):
    s.frr(bfd=True)
    ours = s.ours(TYPE="meticulous-sha1", KEYS=INLINE)
    s.step("FRR's packets carry no authentication: refused, and counted under their rule")
    wait_for("refused packets", lambda: any("A bit clear" in rule for rule in session(ours)["packets_discarded"]))
    s.equal(session(ours)["state"], "Down", "the session")
    shown = ours.command("show", "bfd")
    s.expect("A bit clear" in shown, f"`show bfd` does not say it:\n{shown}")


def bird(kind, *keys):
    passwords = " ".join(f'password "{key}" {{ id {number}; }};' for key, number in keys)
    return f"authentication {TYPES[kind]}; {passwords}"


def session(ours):
    return ours.show("bfd")[0]


def moves(ours):
    return session(ours)["up_count"], session(ours)["down_count"]


def up(leaf, ours, kind):
    def both():
        mine = session(ours)
        return mine["state"] == "Up" and mine["authentication"] == kind and " Up " in leaf.birdc("show bfd sessions")

    wait_for(f"the session with {kind}", both, 40.0)
