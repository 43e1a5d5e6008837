"""What a leaf says is damaged on its way to us, fault by fault: treated as withdrawn, discarded or a reset, as RFC 7606 has it.

An external and an internal leaf, each behind a cable that changes octets of an UPDATE in transit and never its length. Each fault hits two routes
that share an UPDATE: they go with the reason named, or stay without the attribute; all others stay, the session as well, at both ends; counted
per neighbour, logged once with a hexdump. Then the cable is clean, and the leaf's next refresh brings them back. What resets the session
has its code and subcode in the leaf's words, and the session comes back. The kernel's default route goes with a damaged default.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image": "oldstable"}},
    "bird-2.0": {"peer": "bird", "topology": {"image": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
}
TIME_LIMIT = 150


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("host"), Node("leaf", image), Node("inner", image)],
        links=[
            Link("host:eth1 10.0.1.2/30 fd00:1::2/64", "leaf:eth1 10.0.1.1/30 fd00:1::1/64", faulty=True),
            Link("host:eth2 10.0.2.2/30 fd00:2::2/64", "inner:eth1 10.0.2.1/30 fd00:2::1/64", faulty=True),
        ],
    )


# What has to become of the two routes.


@dataclass(frozen=True)
class Withdrawn:
    """They go, and the reason is named."""

    why: str


@dataclass(frozen=True)
class Discarded:
    """They stay, without the attribute."""

    why: str
    seen: tuple = ()


@dataclass(frozen=True)
class Taken:
    """There is nothing wrong with them; this is how they look."""

    seen: tuple = ()


@dataclass(frozen=True)
class Refused:
    """Well-formed, and not for us: not a matter of RFC 7606, not counted."""

    why: str


@dataclass(frozen=True)
class Reset:
    """The session ends with this NOTIFICATION."""

    code: str


@dataclass(frozen=True)
class Fault:
    """What is damaged, by which edits of `lab/mangle.py`, what the text says about it, and what has to become of it."""

    what: str
    rule: str
    edits: list
    external: object
    internal: object = None  # where it is not the same
    family: int = 4


ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, COMMUNITIES, MP_REACH, EXTENDED, LARGE = 1, 2, 3, 4, 5, 8, 14, 16, 32
OPTIONAL, TRANSITIVE = 0x80, 0x40
OWN = "172.30.1.1/32"


def value(code, offset, octets):
    return ("value", code, offset, octets)


def missing(code):
    return ("becomes", code, 98)


def put(*octets):
    """Attributes in the place of the large communities, 51 octets."""
    return ("instead", LARGE, "".join(octets))


def another_mp_reach(next_hop="20010db8000000000000000000000009", prefix="3020010db80099"):
    return "800e1c" + "00020110" + next_hop + "00" + prefix


CONTROL = [
    Fault("another MED", "nothing is wrong with it", [value(MED, 0, "0000004d")], Taken((("med", 77),))),
    Fault("an attribute nobody knows", "RFC 4271 §9", [put("c06404deadbeef")], Taken()),
    Fault("the same, and its flag Partial", "RFC 4271 §5", [put("e06404deadbeef")], Taken()),
]
MANDATORY_ATTRIBUTES = [
    Fault("ORIGIN 9", "RFC 7606 §7.1", [value(ORIGIN, 0, "09")], Withdrawn("ORIGIN 9")),
    Fault("ORIGIN 9 beside MP_REACH_NLRI", "RFC 7606 §7.1", [value(ORIGIN, 0, "09")], Withdrawn("ORIGIN 9"), family=6),
    Fault("ORIGIN of two octets", "RFC 7606 §7.1", [missing(ORIGIN), put("4001020000")], Withdrawn("ORIGIN of 2 octets")),
    Fault("an optional ORIGIN", "RFC 7606 §3(c)", [("flags", ORIGIN, 0xC0)], Withdrawn("ORIGIN with flags 0xc0")),
    Fault("no ORIGIN", "RFC 7606 §3(d)", [missing(ORIGIN)], Withdrawn("ORIGIN is missing")),
    Fault("no ORIGIN beside MP_REACH_NLRI", "RFC 7606 §3(d)", [missing(ORIGIN)], Withdrawn("ORIGIN is missing"), family=6),
    Fault("an AS_PATH segment of type 9", "RFC 7606 §7.2", [value(AS_PATH, 0, "09")], Withdrawn("AS_PATH segment of type 9")),
    Fault("an AS_PATH segment that overruns", "RFC 7606 §7.2", [value(AS_PATH, 1, "0f")], Withdrawn("AS_PATH segment overruns")),
    Fault("an AS_PATH segment that underruns", "RFC 7606 §7.2", [value(AS_PATH, 1, "01")], Withdrawn("AS_PATH segment of type 0")),
    Fault("an AS_PATH segment without a number", "RFC 7606 §7.2", [value(AS_PATH, 1, "00")], Withdrawn("AS_PATH segment without an AS number")),
    Fault("an AS_PATH with AS 0", "RFC 7607 §2", [value(AS_PATH, 6, "00000000")], Withdrawn("AS_PATH with AS 0")),
    Fault("an AS_PATH with an AS_SET", "RFC 9774 §3", [value(AS_PATH, 0, "01")], Withdrawn("AS_PATH with an AS_SET")),
    Fault("the same beside MP_REACH_NLRI", "RFC 9774 §3", [value(AS_PATH, 0, "01")], Withdrawn("AS_PATH with an AS_SET"), family=6),
    Fault("a confederation segment", "RFC 5065 §5", [value(AS_PATH, 0, "03")], Withdrawn("AS_PATH with a confederation segment")),
    Fault("an optional AS_PATH", "RFC 7606 §3(c)", [("flags", AS_PATH, 0xC0)], Withdrawn("AS_PATH with flags 0x")),
    Fault("no AS_PATH", "RFC 7606 §3(d)", [missing(AS_PATH)], Withdrawn("AS_PATH is missing")),
    Fault("another first AS", "RFC 4271 §6.3", [value(AS_PATH, 2, "0000fdf9")], Refused("does not begin with the peer's AS"),
          Taken((("as_path", "65017 65011"),))),  # fmt: skip
    Fault("NEXT_HOP 0.0.0.0", "RFC 4271 §6.3", [value(NEXT_HOP, 0, "00000000")], Withdrawn("NEXT_HOP 0.0.0.0 is not")),
    Fault("a multicast NEXT_HOP", "RFC 4271 §6.3", [value(NEXT_HOP, 0, "e0000005")], Withdrawn("NEXT_HOP 224.0.0.5 is not")),
    Fault("NEXT_HOP of five octets", "RFC 7606 §7.3", [missing(NEXT_HOP), put("4003050a00010100")], Withdrawn("NEXT_HOP of 5 octets")),
    Fault("no NEXT_HOP", "RFC 7606 §3(d)", [missing(NEXT_HOP)], Withdrawn("NEXT_HOP is missing")),
    Fault("NEXT_HOP 0.0.0.0 beside MP_REACH_NLRI", "RFC 4760 §3", [put("40030400000000")], Taken(), family=6),
    Fault("next hop :: in MP_REACH_NLRI", "as NEXT_HOP: RFC 4271 §6.3", [("next_hop", "00" * 16)],
          Withdrawn("MP_REACH_NLRI next hop :: is not"), family=6),  # fmt: skip
    Fault("a multicast next hop in MP_REACH_NLRI", "as NEXT_HOP: RFC 4271 §6.3", [("next_hop", "ff02" + "00" * 13 + "01")],
          Withdrawn("MP_REACH_NLRI next hop ff02::1 is not"), family=6),  # fmt: skip
]
OPTIONAL_ATTRIBUTES = [
    Fault("MED of three octets", "RFC 7606 §7.4", [missing(MED), put("800403000001")], Withdrawn("MULTI_EXIT_DISC of 3 octets")),
    Fault("communities become a MED of eight octets", "RFC 7606 §7.4", [missing(MED), ("becomes", COMMUNITIES, MED, OPTIONAL)],
          Withdrawn("MULTI_EXIT_DISC of 8 octets")),  # fmt: skip
    Fault("a well-known MED", "RFC 7606 §3(c)", [("flags", MED, TRANSITIVE)], Withdrawn("MULTI_EXIT_DISC with flags 0x40")),
    Fault("one more LOCAL_PREF", "RFC 7606 §7.5, §3(g)", [put("4005040000012c")], Discarded("LOCAL_PREF from an external peer"),
          Discarded("LOCAL_PREF appears twice")),  # fmt: skip
    Fault("communities become a LOCAL_PREF of eight octets", "RFC 7606 §7.5", [("becomes", COMMUNITIES, LOCAL_PREF, TRANSITIVE)],
          Discarded("LOCAL_PREF from an external peer", (("communities", ["rt:65001:5", *(f"65001:1:{n}" for n in range(1, 5))]),)),
          Discarded("LOCAL_PREF appears twice", (("communities", ["rt:65001:5", *(f"65001:1:{n}" for n in range(1, 5))]),))),  # fmt: skip
    Fault("LOCAL_PREF of three octets", "RFC 7606 §7.5", [("missing_if_there", LOCAL_PREF), put("400503000001")],
          Discarded("LOCAL_PREF from an external peer"), Withdrawn("LOCAL_PREF of 3 octets")),  # fmt: skip
    Fault("ATOMIC_AGGREGATE of one octet", "RFC 7606 §7.6", [put("40060100")], Discarded("ATOMIC_AGGREGATE of 1 octets")),
    Fault("an optional ATOMIC_AGGREGATE", "RFC 7606 §3(c)", [put("c00600")], Withdrawn("ATOMIC_AGGREGATE with flags 0xc0")),
    Fault("AGGREGATOR of six octets", "RFC 7606 §7.7", [put("c00706fde90a000101")], Discarded("AGGREGATOR of 6 octets")),
    Fault("an AGGREGATOR of AS 0", "RFC 7607 §2", [put("c00708000000000a000101")], Discarded("AGGREGATOR with AS 0")),
    Fault("communities of five octets", "RFC 7606 §7.8", [missing(COMMUNITIES), put("c008050000000000")], Withdrawn("COMMUNITIES of 5 octets")),
    Fault("communities of no octets", "RFC 7606 §7.8", [missing(COMMUNITIES), put("c00800")], Withdrawn("COMMUNITIES of 0 octets")),
    Fault("communities twice", "RFC 7606 §3(g)", [put("c00804fde90009")], Discarded("COMMUNITIES appears twice")),
    Fault("MED twice", "RFC 7606 §3(g)", [put("8004040000004d")], Discarded("MULTI_EXIT_DISC appears twice")),
    Fault("an attribute nobody knows twice", "RFC 7606 §3(g)", [put("c0640100c0640101")], Discarded("attribute 100 appears twice")),
    Fault("extended communities of twelve octets", "RFC 7606 §7.14", [missing(EXTENDED), put("c0100c" + "00" * 12)],
          Withdrawn("EXTENDED_COMMUNITIES of 12 octets")),  # fmt: skip
    Fault("IPv6 extended communities of eight octets", "RFC 7606 §7.15", [("becomes", EXTENDED, 25, 0xC0)],
          Withdrawn("IPV6_EXT_COMMUNITIES of 8 octets"), family=6),  # fmt: skip
    Fault("large communities of eleven octets", "RFC 8092 §6", [put("c0200b" + "00" * 11)], Withdrawn("LARGE_COMMUNITY of 11 octets")),
    Fault("ORIGINATOR_ID", "RFC 7606 §7.9", [put("8009040a000107")], Discarded("ORIGINATOR_ID from an external peer"), Taken()),
    Fault("ORIGINATOR_ID of five octets", "RFC 7606 §7.9", [put("8009050a00010700")], Discarded("ORIGINATOR_ID from an external peer"),
          Withdrawn("ORIGINATOR_ID of 5 octets")),  # fmt: skip
    Fault("CLUSTER_LIST", "RFC 7606 §7.10", [put("800a040a000107")], Discarded("CLUSTER_LIST from an external peer"), Taken()),
    Fault("CLUSTER_LIST of six octets", "RFC 7606 §7.10", [put("800a060a0001070000")], Discarded("CLUSTER_LIST from an external peer"),
          Withdrawn("CLUSTER_LIST of 6 octets")),  # fmt: skip
    Fault("CLUSTER_LIST of no octets", "RFC 7606 §7.10", [put("800a00")], Discarded("CLUSTER_LIST from an external peer"),
          Withdrawn("CLUSTER_LIST of 0 octets")),  # fmt: skip
    Fault("AS4_PATH of a four-octet peer", "RFC 6793 §4.1", [put("c0110602010000fdf9")], Discarded("AS4_PATH on a four-octet session")),
    Fault("AS4_AGGREGATOR of a four-octet peer", "RFC 6793 §4.1", [put("c01208fffffff00a000101")],
          Discarded("AS4_AGGREGATOR on a four-octet session")),  # fmt: skip
    Fault("ONLY_TO_CUSTOMER of eight octets", "RFC 9234 §5", [put("c023080000fde90000fde9")], Withdrawn("ONLY_TO_CUSTOMER of 8 octets")),
    Fault("an attribute that overruns all of them", "RFC 7606 §4", [("claims", LARGE, 200)],
          Withdrawn("LARGE_COMMUNITIES overruns the path attributes")),  # fmt: skip
    Fault("ATOMIC_AGGREGATE of one octet and ORIGIN 9", "RFC 7606 §3(h)", [value(ORIGIN, 0, "09"), put("40060100")], Withdrawn("ORIGIN 9")),
    Fault("communities become large ones, which are there twice then", "RFC 7606 §3(h)", [("becomes", COMMUNITIES, LARGE, 0xC0)],
          Withdrawn("LARGE_COMMUNITY of 8 octets")),  # fmt: skip
    Fault("our own address for NEXT_HOP", "RFC 4271 §5.1.3", [("own_next_hop",)], Refused("is our own address")),
]
RESETS = {
    "leaf": [
        Fault("ORIGIN 9, and a prefix of 33 bits", "RFC 7606 §5.3, §3(h)", [value(ORIGIN, 0, "09"), ("prefix_length", 33)], Reset("3/10")),
        Fault("a next hop of five octets", "RFC 7606 §7.11", [value(MP_REACH, 3, "05")], Reset("3/9"), family=6),
        Fault("MP_REACH_NLRI twice", "RFC 7606 §3(g)", [put(another_mp_reach())], Reset("3/1"), family=6),
    ],
    "inner": [
        Fault("a well-known attribute nobody knows", "RFC 4271 §6.3", [put("40640100")], Reset("3/2")),
        Fault("a prefix of 129 bits", "RFC 7606 §5.3", [("prefix_length", 129)], Reset("3/9"), family=6),
        Fault("path attributes longer than the message", "RFC 7606 §3(b)", [("field_length", 200)], Reset("3/1")),
    ],
}
WORDS = {
    "3/1": ("Malformed Attribute List", "Malformed attribute list"),
    "3/2": ("Unrecognized Well-known Attribute", "Unrecognized well-known attribute"),
    "3/9": ("Optional Attribute Error", "Optional attribute error"),
    "3/10": ("Invalid Network Field", "Invalid network field"),
}


class Side:
    """A leaf, its cable, and what we think of it."""

    def __init__(self, s, ours, name, link, asn):
        kind = s.parameters["peer"]
        self.s, self.ours, self.name, self.link = s, ours, name, link
        self.external = asn != 64999
        self.leaf = s.peer(kind, name, f"leaf.{kind}.conf", ASN=asn, LINK=link)
        self.cable = s.lab.cables[f"eth{link}"]
        self.reload = "reload filters out host" if self.leaf.version().startswith("3.") else "reload out host"  # BIRD 3, BIRD 2
        self.address, self.host = f"10.0.{link}.1", f"10.0.{link}.2"
        self.pair = {
            4: [f"198.18.{link}{n}.0/24" for n in (1, 2)],
            6: [f"2001:db8:{link}{n}::/48" for n in (1, 2)],
        }
        self.clean = {}
        self.since = 0.0

    def learned(self):
        """What we have of this leaf, without our own route, which some send back. Only a refusal's reason does not depend on the other leaf."""
        keys = ("as_path", "origin", "med", "local_pref", "communities", "next_hops", "stale")
        return {
            entry["prefix"]: {**{key: entry[key] for key in keys}, "reason": entry["reason"] if "refused" in entry["reason"] else ""}
            for entry in self.ours.show("learned")
            if entry["neighbor"] == self.address and entry["prefix"] != OWN
        }

    def neighbor(self):
        return next(entry for entry in self.ours.show("neighbors") if entry["neighbor"] == self.address)

    def counts(self):
        return counted(self.neighbor())

    def seen_by_the_leaf(self):
        """The same, in the leaf's words."""
        if self.leaf.kind == "FRR":
            entry = self.leaf.neighbor(self.host)
            return tuple(entry[key] for key in ("bgpState", "connectionsEstablished", "connectionsDropped", "portForeign"))
        # BIRD works the time of day out each time it is asked, and is a thousandth off now and then.
        name, protocol, table, state, since, info = re.search(r"(?m)^host .*$", self.leaf.birdc("show protocols host")).group().split()
        hours, minutes, seconds = since.split(":")
        since = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if abs(since - self.since) > 0.1:
            self.since = since
        return name, protocol, table, state, self.since, info

    def refresh(self, family):
        """The leaf says everything once more."""
        if self.leaf.kind == "FRR":
            self.leaf.node.run(["vtysh", "-d", "bgpd", "-c", f"clear bgp ipv{family} unicast * soft out"])
        else:
            self.leaf.birdc(self.reload)

    def wait(self, what, condition, timeout=10.0):
        try:
            return wait_for(f"{self.name}: {what}", condition, timeout, 0.02)
        except LabError as late:
            raise LabError(f"{late}; what we have of it: {self.learned()}; counted {self.counts()}; {self.cable.complaints()}") from late

    def edits(self, fault):
        """The edits, with what is another for each leaf."""
        done = []
        for edit in fault.edits:
            if edit == ("own_next_hop",):
                edit = value(NEXT_HOP, 0, f"0a000{self.link}02")
            if edit[0] == "missing_if_there":
                if self.external:
                    continue
                edit = missing(edit[1])
            done.append(edit)
        return done

    def damage(self, fault):
        """The cable is told, the leaf is made to say it again; the UPDATE as it arrived."""
        before = len(self.cable.damaged())
        self.cable.damage(self.pair[fault.family][0], self.edits(fault))
        self.refresh(fault.family)
        return self.wait(f"{fault.what}: an UPDATE to be damaged", lambda: self.cable.damaged()[before:])[0]

    def mend(self, what, family):
        """The cable is clean, the leaf says everything again: all is as it was."""
        self.cable.clean()
        self.refresh(family)
        self.wait(f"after {what}: everything as before", lambda: self.learned() == self.clean)

    def try_out(self, fault):
        """One fault that leaves the session alone: the whole story of it."""
        expected = fault.external if self.external or fault.internal is None else fault.internal
        pair, before, log = self.pair[fault.family], self.neighbor(), self.log()
        more = {Withdrawn: (1, 0), Discarded: (0, 1)}.get(type(expected), (0, 0))
        counts = tuple(map(sum, zip(counted(before), more, strict=True)))
        wanted = {prefix: self.wanted(fault, expected, prefix) for prefix in pair}
        why = getattr(expected, "why", "")
        message = self.damage(fault)

        def settled():
            now = self.learned()
            if isinstance(expected, (Withdrawn, Refused)):
                fits = all(why in now[prefix]["reason"] for prefix in pair)
            else:
                fits = all(now[prefix] == wanted[prefix] for prefix in pair)
            return now if fits and self.counts() == counts else None

        now = self.wait(f"{fault.what}: {expected} for {pair}", settled)
        others = lambda routes: {prefix: route for prefix, route in routes.items() if prefix not in pair}  # noqa: E731
        self.s.equal(others(now), others(self.clean), f"{self.name}, {fault.what}: all other routes")
        if sum(more):
            self.logged(fault.what, message, why, log)
        self.mend(fault.what, fault.family)
        after = self.neighbor()
        self.s.equal(counted(after), counts, f"{self.name}, {fault.what}: counted in the end")
        self.s.equal(session(after), session(before), f"{self.name}, {fault.what}: the session")
        self.s.expect(after["uptime_seconds"] > before["uptime_seconds"], f"{self.name}, {fault.what}: the session is younger than before")
        return expected

    def wanted(self, fault, expected, prefix):
        """How a route looks that stays."""
        route = dict(self.clean[prefix])
        if any(edit[0] == "instead" for edit in fault.edits):
            route["communities"] = [text for text in route["communities"] if not text.startswith("65001:1:")]
        return route | dict(getattr(expected, "seen", ()))

    def log(self, words="sent a faulty UPDATE"):
        """What our log says of this leaf's messages since the last start: the fault and the hexdump."""
        text = self.ours.node.log(self.ours.name).rpartition(" started version=")[2]
        return re.findall(rf"neighbor {re.escape(self.address)} {words}: (.*): ([0-9a-f]+)\n", text)

    def logged(self, what, message, why, before):
        """Every fault is said once, with the hexdump of the first UPDATE that had it."""
        fits = lambda: [octets for fault, octets in self.log() if why in fault]  # noqa: E731
        self.wait(f"{what}: '{why}' to be logged", fits)
        new = self.log()[len(before) :]
        right = not new or [octets for _, octets in new] == [message.hex()]
        self.s.expect(right, f"{self.name}, {what}: the log has {new}, the UPDATE was {message.hex()}")
        said = [fault for fault, _ in self.log()]
        self.s.equal(len(said), len(set(said)), f"{self.name}, {what}: different faults in the log: {said}")
        self.s.expect(new or fits()[0] != message.hex(), f"{self.name}, {what}: not logged")

    def end(self, fault):
        """One fault that ends the session: the NOTIFICATION in the leaf's words and in ours."""
        code = fault.external.code
        frr, bird = WORDS[code]
        if self.leaf.kind == "FRR":
            log, words = "bgpd", rf"NOTIFICATION: received from neighbor {re.escape(self.host)} {code} \(UPDATE Message Error/{frr}\)"
        else:
            log, words = "bird", f"host: Received: {bird}"
        heard = lambda: len(re.findall(words, self.leaf.node.log(log)))  # noqa: E731
        lost, before, counts = self.neighbor()["lost_count"], heard(), self.counts()
        message = self.damage(fault)
        self.wait(f"{fault.what}: the session to end", lambda: self.neighbor()["lost_count"] > lost)
        self.cable.clean()
        self.wait(f"{fault.what}: the leaf to log /{words}/", lambda: heard() > before)
        told = self.neighbor()["last_error_sent"]
        self.s.expect(f"({code})" in told, f"{self.name}, {fault.what}: the NOTIFICATION we sent is {told}")
        seen = (self.neighbor()["lost_count"], heard())
        self.s.equal(seen, (lost + 1, before + 1), f"{self.name}, {fault.what}: sessions lost, NOTIFICATIONs at the leaf")
        self.s.equal(self.counts(), counts, f"{self.name}, {fault.what}: counted as withdrawn or discarded")
        said = [octets for _, octets in self.log("sent a message we cannot read")]
        self.s.equal(said.count(message.hex()), 1, f"{self.name}, {fault.what}: lines of the log with its hexdump")

    def back(self, what):
        self.wait(f"after {what}: the session", lambda: self.ours.established(self.address), 40.0)
        self.wait(f"after {what}: everything as before", lambda: self.learned() == self.clean, 20.0)


def run(s):
    ours = s.ours(start=False)
    sides = [Side(s, ours, "leaf", 1, 65001), Side(s, ours, "inner", 2, 64999)]
    start(s, ours, sides)
    s.step("an UPDATE that is another one, and sound: taken as it is")
    try_out(s, sides, CONTROL)
    s.step("faults in what every route has: the session goes on")
    try_out(s, sides, MANDATORY_ATTRIBUTES)
    s.step("the same three times: counted each time, logged once")
    for side in sides:
        again(s, side, MANDATORY_ATTRIBUTES[0], (3, 0))

    # Of one neighbour 32 different faults are logged: then there is nothing left to learn about it.
    s.step("faults in what a route may have, after a new start: the session goes on")
    ours.stop()
    start(s, ours, sides)
    try_out(s, sides, OPTIONAL_ATTRIBUTES)
    s.step("the same three times: counted each time, logged once")
    for side in sides:
        again(s, side, next(fault for fault in OPTIONAL_ATTRIBUTES if fault.what == "ATOMIC_AGGREGATE of one octet"), (0, 3))
    scrape = r"exec 3<>/dev/tcp/127.0.0.1/9179; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3"
    metrics = ours.node.run(["bash", "-c", scrape])
    for side in sides:
        for name, count in zip(("treated_as_withdraw", "attributes_discarded"), side.counts(), strict=True):
            line = f'ovn_bgpd_neighbor_{name}_total{{neighbor="{side.address}"}} {count}'
            s.expect(line in metrics, f"the metrics lack {line}")

    s.step("a damaged default: its leaf is no way out any more, in the kernel neither")
    defaults(s, sides)

    s.step("faults that end the session")
    for round in zip_longest(*(RESETS[side.name] for side in sides)):
        for side, fault in zip(sides, round, strict=True):
            if fault:
                side.end(fault)
        for side, fault in zip(sides, round, strict=True):
            if fault:
                side.back(fault.what)
                tell(s, fault, [fault.external])


def counted(neighbor):
    return neighbor["treated_as_withdraw"], neighbor["attributes_discarded"]


def session(neighbor):
    """What changes if the session is another one."""
    return tuple(neighbor[key] for key in ("state", "established_count", "lost_count", "local_endpoint", "remote_endpoint"))


def start(s, ours, sides):
    ours.start()
    for side in sides:
        ours.wait_established(side.address, 45.0)
        side.wait("all its routes", lambda n=side: len(n.learned()) == 8, 20.0)
        s.equal(side.counts(), (0, 0), f"{side.name}: faults before the first")
        side.clean = side.learned()


def try_out(s, sides, faults):
    before = [side.seen_by_the_leaf() for side in sides]
    with ThreadPoolExecutor(len(sides)) as pool:  # neither leaf's routes depend on the other's
        for fault in faults:
            tell(s, fault, list(pool.map(lambda side, it=fault: side.try_out(it), sides)))
    s.equal([side.seen_by_the_leaf() for side in sides], before, "the sessions in the leaves' view")


def again(s, side, fault, more):
    before = side.counts()
    messages = [side.damage(fault) for _ in range(3)]
    wanted = tuple(map(sum, zip(before, more, strict=True)))
    side.wait(f"{fault.what} three times: to be counted", lambda: side.counts() == wanted)
    s.equal(len(set(messages)), 1, f"{side.name}: different UPDATEs of the same routes")
    s.equal([octets for _, octets in side.log()].count(messages[0].hex()), 1, f"{side.name}, {fault.what} three times more: in the log")
    side.mend(fault.what, fault.family)


def tell(s, fault, expected):
    """One line a fault: what, by which text, what became of it."""
    word = lambda it: f"{type(it).__name__.lower()}{' ' + it.code if isinstance(it, Reset) else ''}"  # noqa: E731
    outcome = " / ".join(dict.fromkeys(map(word, expected)))
    s.say(f"  {fault.what}{' (IPv6)' if fault.family == 6 else ''}: {outcome} ({fault.rule})")


def defaults(s, sides):
    leaf, inner = sides
    ways = lambda family: kernel(s["host"], family)  # noqa: E731
    hops = {4: ("10.0.1.1", "10.0.2.1"), 6: ("fd00:1::1", "fd00:2::1")}
    for family, default in ((4, "0.0.0.0/0"), (6, "::/0")):
        by_leaf, by_inner = hops[family]
        wait_for(f"IPv{family}: the shorter path", lambda f=family, hop=by_inner: ways(f) == {hop}, 10.0)
        for side, left in ((inner, {by_leaf}), (leaf, set())):
            side.cable.damage(default, [value(ORIGIN, 0, "09")])
            side.refresh(family)
            side.wait(f"the kernel's default by {left or 'nobody'}", lambda f=family, hops=left: ways(f) == hops)
        for side, left in ((leaf, {by_leaf}), (inner, {by_inner})):
            side.mend("a damaged default", family)
            side.wait(f"the kernel's default by {left}", lambda f=family, hops=left: ways(f) == hops)


def kernel(host, family):
    """The next hops of the kernel's default routes."""
    routes = json.loads(host.run(f"ip -j -{family} route show default") or "[]")
    return {hop["gateway"] for route in routes for hop in route.get("nexthops", [route])}
