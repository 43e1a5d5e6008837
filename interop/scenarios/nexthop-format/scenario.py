"""A link-local session without global addresses: every `nexthop_format` (RFC 2545 leaves it open) is taken by FRR and BIRD, by reload.

What is on the wire has the length and the addresses meant. And the other way round: each form BIRD can write is taken by us. FRR from
10.4 on knows capability 77: where both announce it, both write 16 octets; where one of them does not, both write 32.
"""

import ipaddress

from lab.capture import Capture
from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image": "oldstable"}},
    "frr-next": {"peer": "frr", "capability": True, "topology": {"image": "next"}},
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
}
TIME_LIMIT = 120
OURS, DEFAULTS = ("172.30.1.1/32", "f00d::1/128"), ("0.0.0.0/0", "::/0")
OPEN, UPDATE = 1, 2
MP_REACH, EXTENDED_LENGTH = 14, 0x10


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(nodes=[Node("host"), Node("leaf", image)], links=[Link("host:eth1", "leaf:eth1")])


def run(s):
    own = link_local(s["host"])
    forms = {"double": [own, own], "single": [own], "native": ["::", own], "auto": [own, own]}
    bird = s.parameters["peer"] == "bird"
    leaf = s.peer(s.parameters["peer"], **({"THEIRS": "native"} if bird else {}))
    ours = None
    for format, hops in forms.items():
        s.step(f"{format}: {' and '.join(hops)}")
        with Capture(s["host"], "eth1", name=f"capture-{format}") as capture:
            if ours is None:
                ours = s.ours(FORMAT=format)
                ours.wait_established("eth1", 45.0)
                if "link-local next hop" in ours.show("neighbors")[0]["capabilities"]["received"]:
                    forms["auto"] = [own]
            else:
                ours.configure(s.text("host.toml", FORMAT=format))
                report = ours.command("reload")
                s.expect("nexthop_format" in report and "reset" in report, f"what the reload says: {report}")
                ours.wait_established("eth1", 45.0)
            try:
                wait_for("both families on the wire", lambda c=capture: {afi for afi, _ in written(c, own)} == {1, 2}, 20.0, 0.5)
            except LabError as late:
                raise LabError(f"{late}: {written(capture, own)}") from late
        s.equal({hop for _, hop in written(capture, own)}, {tuple(hops)}, f"next hops of ours on the wire, {format}")
        for prefix in OURS:
            wait_for(f"{prefix} at the leaf by {own} ({format})", lambda p=prefix: by(leaf.routes().get(p), own), 20.0)
    if bird:
        for format in ("single", "double", "native"):
            s.step(f"the leaf writes {format}")
            s["leaf"].stop("bird")
            wait_for("the session to end", lambda: not ours.established("eth1"), 30.0)
            leaf.start(s.text("leaf.bird.conf", THEIRS=format))
            ours.wait_established("eth1", 45.0)
            for prefix in DEFAULTS:
                learned = ours.wait_learned(prefix, 20.0)
                s.expect(learned["selected"], f"{prefix}, written as {format}: {learned}")
    else:
        for prefix in DEFAULTS:
            s.expect(ours.wait_learned(prefix, 20.0)["selected"], f"the leaf's {prefix}: {ours.wait_learned(prefix)}")
    if s.parameters.get("capability"):
        negotiated(s, leaf, ours)


def negotiated(s, leaf, ours):
    """Capability 77, announced and kept back by either side."""
    own, theirs = link_local(s["host"]), link_local(s["leaf"])
    # A default that FRR originates for a neighbour is written with 32 octets all the same; one of its table is not.
    leaf.configure("ip route 0.0.0.0/0 blackhole", "ipv6 route ::/0 blackhole")
    for afi, default in zip(("ipv4", "ipv6"), DEFAULTS, strict=True):
        family = ("router bgp 65001", f"address-family {afi} unicast")
        leaf.configure(*family, "no neighbor eth1 default-originate", f"network {default}")
    rows = (
        # ours, the leaf announces it, octets of an IPv6 next hop
        ("auto", True, 16),
        ("auto", False, 32),
        ("single", True, 16),
        ("double", True, 32),
    )
    for format, announces, octets in rows:
        s.step(f"capability 77: {format} here, {'on' if announces else 'off'} at the leaf: next hops of {octets} octets both ways")
        with Capture(s["host"], "eth1", name=f"capture-77-{format}-{announces}") as capture:
            leaf.configure("router bgp 65001", f"{'' if announces else 'no '}neighbor eth1 capability link-local")
            ours.configure(s.text("host.toml", FORMAT=format))
            ours.command("reload")
            leaf.vtysh("clear bgp eth1")  # it waits for the next session
            both = {1, 2}
            wait_for(
                "both families on the wire, both ways",
                lambda c=capture: {afi for afi, _ in written(c, own)} == {afi for afi, _ in written(c, theirs)} == both, 60.0, 0.5,
            )  # fmt: skip
            ours.wait_established("eth1", 45.0)
        for source in (own, theirs):
            seen = {hops for _, hops in written(capture, source)}
            s.expect(all(16 * len(hops) == octets and hops[-1] == source for hops in seen), f"{source} wrote {seen}")
        said = ours.show("neighbors")[0]["capabilities"]
        words = "link-local next hop"
        s.equal((words in said["sent"], words in said["received"]), (format != "double", announces), "capability 77 sent, received")
        seen = leaf.neighbor("eth1")["neighborCapabilities"]["linkLocalNextHop"]
        s.equal(seen, {"advertised": announces, "received": format != "double"}, "capability 77 in the leaf's view")
        for prefix in OURS:
            wait_for(f"{prefix} at the leaf by {own}", lambda p=prefix: by(leaf.routes().get(p), own), 20.0)
        for prefix in DEFAULTS:
            s.expect(ours.wait_learned(prefix, 20.0)["selected"], f"the leaf's {prefix}")


def link_local(node):
    return node.run("ip -o -6 addr show dev eth1 scope link").split()[3].split("/")[0]


def by(route, own):
    """Whether a peer's route goes by that address and no other but it."""
    return route is not None and own in route.next_hops and all(hop in (own, "::") for hop in route.next_hops)


def written(capture, source):
    """Address family and next hop of every announcement of a side, without those of a session that was there before."""
    messages = capture.messages(f"ipv6.src == {source} && tcp.port == 179")
    opened = next((at for at, message in enumerate(messages) if message[18] == OPEN), 0)
    found = set()
    for message in messages[opened:]:
        if message[18] != UPDATE:
            continue
        place = 21 + int.from_bytes(message[19:21], "big")
        end = place + 2 + int.from_bytes(message[place : place + 2], "big")
        place += 2
        while place < end:
            flags, kind = message[place], message[place + 1]
            size = 2 if flags & EXTENDED_LENGTH else 1
            length = int.from_bytes(message[place + 2 : place + 2 + size], "big")
            value = message[place + 2 + size : place + 2 + size + length]
            place += 2 + size + length
            if kind == MP_REACH:
                octets = value[4 : 4 + value[3]]
                hops = tuple(str(ipaddress.IPv6Address(octets[at : at + 16])) for at in range(0, len(octets), 16))
                found.add((int.from_bytes(value[:2], "big"), hops))
    return found
