"""A leaf sends 100,000 routes where a default is wanted: we neither stall nor grow; and the other way round, we exceed its limit.

With a prefix list the default is all that is used, and memory stays where it was. With `max_prefixes` the session ends with
Cease/1, is not opened before its time, and the other session never notices; changing the limit opens it at once. A warning comes
first. What the leaf's own limit refuses is said with its reason.
"""

import re

from lab import topology
from lab.shell import LabError, wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 240
MANY = 100_000
PORTION = 10_000
FEW = '"172.30.1.1/32", "f00d::1/128"'
SIX = ", ".join(f'"172.30.1.{n}/32"' for n in range(1, 7)) + ', "f00d::1/128"'
LIST = 'prefix_list_in = "only-default"'


def run(s):
    flood = Flood(s)
    ours = s.ours(LIMIT=LIST, PREFIXES=FEW)
    up(ours, "10.0.1.1", "fd00:1::1")
    ours.wait_learned("0.0.0.0/0")
    ours.wait_learned("::/0")
    quiet = ours.resident_kib()

    def neighbor(address="10.0.1.1"):
        return next(n for n in ours.show("neighbors") if n["neighbor"] == address)

    def lost(address):
        return neighbor(address)["lost_count"]

    s.step(f"{MANY} routes behind a prefix list: only the default is used")
    flood.begin()
    heard = lambda: neighbor()["messages"]["bytes_received"]  # noqa: E731
    wait_for("all of them to arrive", lambda: heard() > 5 * MANY * 9 // 10, 120.0)
    s.equal({r["prefix"] for r in ours.show("learned") if r["selected"]}, {"0.0.0.0/0", "::/0"}, "routes in use")
    grown = ours.resident_kib() - quiet
    s.say(f"  resident memory: {quiet} KiB before, {quiet + grown} KiB after {MANY} refused routes")
    s.expect(grown < 4096, f"{grown} KiB more than before")
    s.equal((lost("10.0.1.1"), lost("fd00:1::1")), (0, 0), "sessions lost")

    s.step("without the list but with a limit: Cease/1, nothing left of it, and it stays away for its time")
    ours.configure(s.text("host.toml", LIMIT='max_prefixes = { limit = 1000, warning = 50, restart = "1h" }', PREFIXES=FEW))
    ours.command("reload")
    wait_for("the session to end", lambda: "(6/1)" in str(neighbor()["last_error_sent"]), 60.0)

    def left():
        have = {r["prefix"] for r in ours.show("learned") if r["selected"]}
        if have != {"::/0"}:
            raise LabError(f"there are {len(have)}: {sorted(have)[:3]}")
        return True

    wait_for("its routes to go", left, 10.0)
    wait = neighbor()["next_attempt_seconds"]
    s.expect(wait and wait > 3000, f"the next attempt should be an hour away: {neighbor()}")
    s.expect("max_prefixes allows 1000" in ours.node.log(ours.name), "there was no warning before")
    wait_for("the leaf's log to say Cease", lambda: "Cease" in flood.log() or "aximum" in flood.log(), 20.0)
    grown = ours.resident_kib() - quiet
    s.say(f"  resident memory: {quiet + grown} KiB after it was sent away")
    s.expect(grown < 6144, f"{grown} KiB more than in the beginning")
    s.equal(lost("fd00:1::1"), 0, "sessions of the other family lost")

    s.step("another limit: opened at once; warning_only: everything is taken")
    ours.configure(s.text("host.toml", LIMIT="max_prefixes = { limit = 1000, warning_only = true }", PREFIXES=FEW))
    ours.command("reload")
    up(ours, "10.0.1.1")
    wait_for("all routes", lambda: neighbor()["families"][0]["accepted"] > MANY, 120.0)
    s.say(f"  resident memory: {ours.resident_kib()} KiB with {MANY} routes in use")
    s.expect("warning_only" in ours.node.log(ours.name), "the log does not say that the limit is exceeded")
    s.equal(lost("fd00:1::1"), 0, "sessions of the other family lost")

    s.step("more of ours than the leaf allows: it says Cease/1, we say why we are not up")
    ours.configure(s.text("host.toml", LIMIT=LIST, PREFIXES=SIX))
    ours.command("reload")
    wait_for("the leaf to refuse us", lambda: "(6/1)" in str(neighbor()["last_error_received"]), 60.0)
    s.say(f"  {neighbor()['last_error_received']}")
    ours.configure(s.text("host.toml", LIMIT=LIST, PREFIXES=FEW))
    ours.command("reload")
    flood.forgive()
    up(ours, "10.0.1.1")
    s.equal(lost("fd00:1::1"), 0, "sessions of the other family lost")


def up(ours, *addresses):
    for address in addresses:
        ours.wait_established(address, 90.0)


class Flood:
    """A leaf that has many routes when told to."""

    def __init__(self, s):
        self.s, self.kind = s, s.parameters["peer"]
        if self.kind == "frr":
            self.leaf = s.frr()
        else:
            s["leaf"].write("/lab/many.conf", "")
            self.leaf = s.bird()

    def begin(self):
        address = lambda n: f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"  # noqa: E731
        if self.kind == "frr":
            # By portions: zebra must have read them all, and its socket holds only so many of the kernel's notices.
            for first in range(0, MANY, PORTION):
                lines = "".join(f"route add blackhole {address(n)}/32\n" for n in range(first, first + PORTION))
                self.s["leaf"].run("ip -batch -", stdin=lines)
                wanted = re.compile(rf"(?m)^kernel +{first + PORTION} ")
                wait_for("zebra to have read them", lambda w=wanted: w.search(self.leaf.vtysh("show ip route summary")), 30.0)
            return
        routes = " ".join(f"route {address(n)}/32 blackhole;" for n in range(MANY))
        self.s["leaf"].write("/lab/many.conf", f"protocol static many {{ ipv4; {routes} }}\n")
        self.leaf.birdc("configure")

    def forgive(self):
        """Lets us in again."""
        if self.kind == "frr":
            self.leaf.vtysh("clear bgp 10.0.1.2")

    def log(self):
        return self.s["leaf"].log("bgpd" if self.kind == "frr" else "bird")
