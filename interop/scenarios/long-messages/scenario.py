"""Messages above 4096 octets (RFC 8654), both ways: thousands of routes with the same attributes share few UPDATEs, all arrive.

BIRD sends portions of 256 routes, so it has a route with 1100 communities besides. Then BIRD takes its word back: the same routes go in
messages of at most 4096 octets, both ways, but for that one, which fits into none.
"""

from lab import topology
from lab.capture import Capture
from lab.shell import LabError, wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.0": {"peer": "bird", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
MANY = 2500
ENDS = {4: ("10.0.1.2", "10.0.1.1"), 6: ("fd00:1::2", "fd00:1::1")}
UPDATE = 2
LONG = {4: "10.66.0.1/32", 6: "2001:db8:3::1/128"}
COMMUNITIES = 1100


def many(first4, first6):
    return [f"{first4}.{n >> 8}.{n & 255}/32" for n in range(MANY)] + [f"{first6}::{n + 1:x}/128" for n in range(MANY)]


OURS, THEIRS = many("10.64", "2001:db8:1"), many("10.65", "2001:db8:2")


def run(s):
    s["host"].write("/lab/many.txt", "\n".join(OURS) + "\n")
    bird = s.parameters["peer"] == "bird"
    if bird:
        lines = []
        statics = {4: [p for p in THEIRS if "." in p] + [LONG[4]], 6: [p for p in THEIRS if ":" in p] + [LONG[6]]}
        for family, routes in statics.items():
            lines.append(f"protocol static s{family} {{ ipv{family}; " + " ".join(f"route {p} blackhole;" for p in routes) + " }")
            add = " ".join(f"bgp_community.add((65001, {n}));" for n in range(COMMUNITIES))
            lines.append(f"filter out{family} {{ if source != RTS_STATIC then reject; if net = {LONG[family]} then {{ {add} }} accept; }}")
        s["leaf"].write("/lab/many.conf", "\n".join(lines) + "\n")
    else:
        # Through the kernel: FRR takes thousands of lines of configuration one by one.
        s["leaf"].run("ip -batch -", stdin="".join(f"route add blackhole {p} proto static\n" for p in THEIRS), timeout=60.0)
    leaf = s.peer(s.parameters["peer"], **({"EXTENDED": "on"} if bird else {}))
    with Capture(s["host"], "eth1") as capture:  # tshark would call what is longer than 4096 octets malformed
        ours = s.ours()
        for mine, theirs in ENDS.values():
            ours.wait_established(theirs, 45.0)
            leaf.wait_established(mine)
        s.step(f"{len(OURS)} routes of ours and as many of the leaf's: all arrive")
        complete(s, ours, leaf)
        for prefix in LONG.values() if bird else ():
            s.equal(len(ours.wait_learned(prefix)["communities"]), COMMUNITIES, f"communities of {prefix}")
    for neighbor in ours.show("neighbors"):
        for side in ("sent", "received"):
            s.expect("extended message" in neighbor["capabilities"][side], f"{side}: {neighbor['capabilities']}")
    s.step("UPDATEs above 4096 octets, both ways")
    for family, (mine, theirs) in ENDS.items():
        for source in (mine, theirs):
            lengths = updates(capture, source)
            s.say(f"  IPv{family} from {source}: {len(lengths)} UPDATEs, the longest {lengths[-1]} octets")
            s.expect(lengths[-1] > 4096, f"from {source} the longest UPDATE has {lengths[-1]} octets")
    s.equal([n["lost_count"] for n in ours.show("neighbors")], [0, 0], "sessions lost")
    if bird:
        s.step("the leaf no longer has the capability: 4096 octets are not exceeded, and all arrive")
        with Capture(s["host"], "eth1", name="capture-short") as capture:
            leaf.configure(s.text("leaf.bird.conf", EXTENDED="off"))
            wait_for("the sessions to be reset", lambda: all(n["established_count"] == 2 for n in ours.show("neighbors")), 45.0)
            complete(s, ours, leaf)
        for mine, theirs in ENDS.values():
            for source, least in ((mine, 2048), (theirs, 0)):
                lengths = updates(capture, source)
                s.expect(least < lengths[-1] <= 4096, f"from {source} the longest UPDATE has {lengths[-1]} octets")
        have = {entry["prefix"] for entry in ours.show("learned")}
        s.equal([prefix for prefix in LONG.values() if prefix in have], [], "routes that fit into no message")


def updates(capture, source):
    """The lengths of a side's UPDATEs."""
    ip = "ipv6" if ":" in source else "ip"
    return sorted(len(message) for message in capture.messages(f"{ip}.src == {source} && tcp.port == 179") if message[18] == UPDATE)


def complete(s, ours, leaf):
    def all_there():
        have, learned = leaf.routes(), {entry["prefix"] for entry in ours.show("learned") if entry["selected"]}
        missing = [p for p in OURS if p not in have], [p for p in THEIRS if p not in learned]
        if missing[0] or missing[1]:
            raise LabError(f"the leaf lacks {len(missing[0])} {missing[0][:2]}, we lack {len(missing[1])} {missing[1][:2]}")
        return True

    wait_for("all routes on both ends", all_there, 40.0, 0.5)
