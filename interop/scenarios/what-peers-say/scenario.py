"""Two scripted peers say what no speaker should (RFC 7606), loops (RFC 4271, 4456) and what only old speakers say (RFC 6793).

Malformed attributes: the prefix is withdrawn or the attribute is discarded, the session goes on, the log has it once with a hexdump,
`show neighbors` and the metrics count it. Loops are refused with their reason, as often as `allowas_in` does not allow. A route with
NO_EXPORT or NO_ADVERTISE is used here and told nobody. A peer without four-octet AS numbers gets AS_TRANS and AS4_PATH, and its
AS4_PATH is understood.
"""

import socket
import struct

from lab import topology
from lab.receiver import Receiver, message
from lab.shell import wait_for

TOPOLOGY = topology.pair()
TIME_LIMIT = 120
US, PEER, LARGE = 64999, 65001, 4200000001

OPTIONAL, TRANSITIVE = 0x80, 0x40


def attribute(flags, kind, value):
    return bytes([flags, kind, len(value)]) + value


def as_path(*asns, size="I", kind=2):
    return attribute(TRANSITIVE, kind, bytes([2, len(asns)]) + struct.pack(f"!{len(asns)}{size}", *asns) if asns else b"")


ORIGIN = attribute(TRANSITIVE, 1, b"\x00")
NEXT_HOP = attribute(TRANSITIVE, 3, socket.inet_aton("10.0.1.1"))
GOOD = ORIGIN + as_path(PEER) + NEXT_HOP


def update(attributes, *prefixes):
    nlri = b"".join(bytes([32]) + socket.inet_aton(prefix) for prefix in prefixes)
    return message(2, struct.pack("!HH", 0, len(attributes)) + attributes + nlri)


WITHDRAWN = [
    ("ORIGIN 3", attribute(TRANSITIVE, 1, b"\x03") + as_path(PEER) + NEXT_HOP),
    ("no ORIGIN", as_path(PEER) + NEXT_HOP),
    ("an AS_PATH that is cut off", ORIGIN + attribute(TRANSITIVE, 2, b"\x02\x02\x00\x00\xfd\xe9") + NEXT_HOP),
    ("AS 0 in the AS_PATH", ORIGIN + as_path(PEER, 0) + NEXT_HOP),
    ("a NEXT_HOP of three octets", ORIGIN + as_path(PEER) + attribute(TRANSITIVE, 3, b"\x0a\x00\x01")),
    ("a MED of three octets", GOOD + attribute(OPTIONAL, 4, b"\x00\x00\x01")),
    ("COMMUNITIES of five octets", GOOD + attribute(OPTIONAL | TRANSITIVE, 8, b"\x00" * 5)),
    ("large communities of eleven octets", GOOD + attribute(OPTIONAL | TRANSITIVE, 32, b"\x00" * 11)),
    ("an attribute that is longer than all of them", GOOD + bytes([OPTIONAL, 4, 200, 0])),
]
DISCARDED = [
    ("an AGGREGATOR of five octets", GOOD + attribute(OPTIONAL | TRANSITIVE, 7, b"\x00" * 5)),
    ("an ATOMIC_AGGREGATE with a value", GOOD + attribute(TRANSITIVE, 6, b"\x00")),
]


def run(s):
    s["leaf"].run("ip addr add 10.0.3.1/30 dev eth1")
    s["host"].run("ip addr add 10.0.3.2/30 dev eth1")
    leaf = Receiver(s["leaf"], "10.0.1.1", PEER)
    inner = Receiver(s["leaf"], "10.0.3.1", US, "10.0.1.9")
    ours = s.ours(ASN=US, ALLOWAS_IN=2)
    for peer in (leaf, inner):
        peer.wait(lambda p=peer: p.established > 0, 30.0, "a session")
    for address in ("10.0.1.1", "10.0.3.1"):
        ours.wait_established(address)

    def neighbor(address="10.0.1.1"):
        return next(n for n in ours.show("neighbors") if n["neighbor"] == address)

    def used(address):
        return next((e for e in ours.show("learned") if e["prefix"] == f"{address}/32" and e["selected"]), None)

    def refused(address, peer="10.0.1.1"):
        found = (e["reason"] for e in ours.show("learned") if e["prefix"] == f"{address}/32" and e["neighbor"] == peer and not e["selected"])
        return next(found, "")

    s.step("malformed attributes: treat-as-withdraw, each counted once; the session goes on")
    for number, (what, attributes) in enumerate(WITHDRAWN, 1):
        leaf.say(update(GOOD, "192.0.2.1", "192.0.2.2"))
        wait_for(f"before {what}: the route", lambda: used("192.0.2.1"), 10.0)
        leaf.say(update(attributes, "192.0.2.1"))
        wait_for(f"{what}: the route to go", lambda: used("192.0.2.1") is None, 10.0)
        s.equal(neighbor()["treated_as_withdraw"], number, f"{what}: UPDATEs treated as withdraw")
        s.expect("malformed" in refused("192.0.2.1"), f"{what}: the reason is {refused('192.0.2.1')!r}")
    s.step("malformed attributes that are discarded: the route stays")
    for number, (what, attributes) in enumerate(DISCARDED, 1):
        leaf.say(update(attributes, "192.0.2.3"))
        wait_for(f"{what}: to be counted", lambda n=number: neighbor()["attributes_discarded"] == n, 10.0)
        s.expect(used("192.0.2.3"), f"{what}: the route is not used")
    s.expect(used("192.0.2.2"), "a route nobody complained about is gone")

    s.step("the same again a hundred times: counted, logged once with a hexdump")
    what, attributes = WITHDRAWN[0]
    bad = update(attributes, "192.0.2.1")
    leaf.say(bad * 100)
    total = len(WITHDRAWN) + 100
    wait_for("all to be counted", lambda: neighbor()["treated_as_withdraw"] == total, 20.0)
    s.equal(ours.node.log(ours.name).count(bad.hex()), 1, f"lines of the log with the hexdump of {what}")
    scrape = r"exec 3<>/dev/tcp/127.0.0.1/9179; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3"
    metrics = ours.node.run(["bash", "-c", scrape])
    wanted = f'ovn_bgpd_neighbor_treated_as_withdraw_total{{neighbor="10.0.1.1"}} {total}'
    s.expect(wanted in metrics, f"the metrics lack {wanted}")
    s.equal((neighbor()["lost_count"], neighbor("10.0.3.1")["lost_count"]), (0, 0), "sessions lost")

    s.step("AS loops: as often as allowas_in allows")
    path = lambda *asns: ORIGIN + as_path(*asns) + NEXT_HOP  # noqa: E731
    leaf.say(update(path(PEER, US, US), "198.51.100.2") + update(path(PEER, US, US, US), "198.51.100.3"))
    wait_for("our AS twice: used", lambda: used("198.51.100.2"), 10.0)
    wait_for("our AS three times: refused", lambda: "own AS" in refused("198.51.100.3"), 10.0)
    ours.configure(s.text("host.toml", ASN=US, ALLOWAS_IN="false"))
    ours.command("reload")
    wait_for("our AS twice, no longer allowed", lambda: "own AS" in refused("198.51.100.2"), 10.0)

    s.step("reflected loops: ORIGINATOR_ID, CLUSTER_LIST")
    local = ORIGIN + as_path() + attribute(TRANSITIVE, 3, socket.inet_aton("10.0.1.1")) + attribute(TRANSITIVE, 5, struct.pack("!I", 100))
    originator = lambda who: attribute(OPTIONAL, 9, socket.inet_aton(who))  # noqa: E731
    clusters = lambda *who: attribute(OPTIONAL, 10, b"".join(map(socket.inet_aton, who)))  # noqa: E731
    inner.say(update(local + originator("10.0.1.8") + clusters("10.0.1.7"), "198.51.100.10"))
    inner.say(update(local + originator("10.0.1.2"), "198.51.100.11"))
    inner.say(update(local + clusters("10.0.1.7", "10.0.1.2"), "198.51.100.12"))
    wait_for("a reflected route: used", lambda: used("198.51.100.10"), 10.0)
    wait_for("our own, reflected", lambda: "ORIGINATOR_ID" in refused("198.51.100.11", "10.0.3.1"), 10.0)
    wait_for("through our cluster", lambda: "CLUSTER_LIST" in refused("198.51.100.12", "10.0.3.1"), 10.0)

    s.step("well-known communities: used here, told nobody")
    marks = {"192.0.2.21": 0xFFFFFF01, "192.0.2.22": 0xFFFFFF02, "192.0.2.23": 0xFFFFFF03}
    for prefix, mark in marks.items():
        leaf.say(update(GOOD + attribute(OPTIONAL | TRANSITIVE, 8, struct.pack("!I", mark)), prefix))
    for prefix, name in zip(marks, ("no-export", "no-advertise", "no-export-subconfed"), strict=True):
        wait_for(f"{prefix} to be used", lambda p=prefix: used(p), 10.0)
        s.equal(used(prefix)["communities"], [name], f"communities of {prefix}")
    own = {(1, 32, socket.inet_aton("172.30.1.1"))}
    for peer in (leaf, inner):
        peer.wait(lambda p=peer: own <= set(p.table), 10.0, "our own route")
        s.equal(set(peer.table), own, "what a peer was told")
    s.equal((neighbor()["lost_count"], neighbor("10.0.3.1")["lost_count"]), (0, 0), "sessions lost")
    leaf.close()

    s.step("a peer without four-octet AS numbers, ours does not fit into two")
    ours.stop()
    capture = s.capture("host", "eth1", "tcp port 179 and ip")
    old = Receiver(s["leaf"], "10.0.1.1", PEER, four_octets=False)
    ours.configure(s.text("host.toml", ASN=LARGE, ALLOWAS_IN="false"))
    ours.start()
    old.wait(lambda: old.established > 0 and own <= set(old.table), 30.0, "our route")
    two = as_path(PEER, 23456, size="H")
    four = as_path(PEER, LARGE + 1, kind=17)
    old.say(update(ORIGIN + two + NEXT_HOP + bytes([OPTIONAL | TRANSITIVE]) + four[1:], "192.0.2.1"))
    wait_for("its route", lambda: used("192.0.2.1"), 10.0)
    s.equal(used("192.0.2.1")["as_path"], f"{PEER} {LARGE + 1}", "AS path merged from AS_PATH and AS4_PATH")
    capture.stop()
    seen = capture.decode("bgp.type == 2 && ip.src == 10.0.1.2 && bgp.nlri_prefix", "bgp.update.path_attribute.as_path_segment.as2", "bgp.update.path_attribute.as_path_segment.as4")
    s.equal({tuple(line) for line in seen}, {("23456", str(LARGE))}, "AS_PATH and AS4_PATH of ours")
