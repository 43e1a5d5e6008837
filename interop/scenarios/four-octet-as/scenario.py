"""Our AS number has four octets, the leaf knows two (RFC 6793): AS_TRANS in OPEN and path, AS4_PATH says what is meant, both ways.

BIRD with `enable as4 off`, FRR without any capability. Behind the leaf is a spine with a four-octet number of its own: its paths arrive
in AS4_PATH and are put together, one with our number in it is a loop though AS_PATH does not say so. BIRD puts ours together, too; FRR
discards AS4_PATH on a session without capabilities, and sees AS_TRANS.
"""

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}, "first_as": " no neighbor 10.0.1.2 enforce-first-as"},
    "frr-8": {"peer": "frr", "topology": {"image": "oldstable"}},
}
TIME_LIMIT = 90
US, LEAF, SPINE, AS_TRANS = 4200000001, 65001, 4200000009, 23456
PATH = "bgp.update.path_attribute.as_path_segment."


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("host"), Node("leaf", image), Node("spine")],
        links=[Link("host:eth1 10.0.1.2/30", "leaf:eth1 10.0.1.1/30"), Link("leaf:eth2 10.0.9.1/30", "spine:eth1 10.0.9.2/30")],
    )


def run(s):
    capture = s.capture("host", "eth1")
    spine = s.frr("spine", "spine.frr.conf")
    # FRR compares the first AS with what AS_PATH says, before AS4_PATH is put in: it would refuse everything from an AS_TRANS.
    leaf = s.peer(s.parameters["peer"], FIRST_AS=s.parameters.get("first_as", ""))
    ours = s.ours(ALLOWAS_IN="false")
    leaf.wait_established("10.0.1.2", 45.0)
    ours.wait_established("10.0.1.1")
    neighbor = ours.show("neighbors")[0]
    s.expect(not any("four-octet" in word for word in neighbor["capabilities"]["received"]), f"the leaf is no old speaker: {neighbor['capabilities']}")
    s.equal(neighbor["remote_as"], LEAF, "the leaf's AS number")

    s.step("ours, in the view of the leaf and of the spine behind it")
    seen = US if leaf.kind == "BIRD" else AS_TRANS
    s.equal(path(leaf, "172.30.1.1/32"), f"{seen}", "AS path at the leaf")
    s.equal(path(leaf, "172.30.1.2/32"), f"{seen} {seen} {seen}", "AS path at the leaf, prepended")
    s.equal(path(spine, "172.30.1.1/32"), f"{LEAF} {seen}", "AS path at the spine")

    s.step("theirs: put together from AS_PATH and AS4_PATH")
    s.equal(ours.wait_learned("198.51.100.0/24", 20.0)["as_path"], f"{LEAF} {SPINE} 4200000010 65010", "AS path")
    aggregate = ours.wait_learned("198.51.102.0/24", 20.0)
    s.equal((aggregate["as_path"], aggregate["selected"]), (f"{LEAF} {SPINE}", True), "the spine's aggregate, with AS4_AGGREGATOR")
    loop = ours.wait_learned("198.51.101.0/24", 20.0)
    s.expect(not loop["selected"] and "own AS" in loop["reason"], f"a loop that only AS4_PATH shows: {loop}")
    if leaf.kind == "BIRD":  # a leaf without capabilities cannot be asked for its routes once more
        s.step("the loop is allowed by reload")
        ours.configure(s.text("host.toml", ALLOWAS_IN='"origin"'))
        ours.command("reload")
        wait_for("the route in use", lambda: ours.wait_learned("198.51.101.0/24")["selected"], 20.0)
        s.equal(ours.wait_learned("198.51.101.0/24")["as_path"], f"{LEAF} {SPINE} {US}", "AS path with ours in it")
    s.equal(ours.show("neighbors")[0]["lost_count"], 0, "sessions lost")

    capture.stop()
    s.step("on the wire: AS_TRANS for every number of four octets")
    opened = capture.decode("bgp.type == 1 && ip.src == 10.0.1.2", "bgp.open.myas", "bgp.cap.4as")
    s.equal({tuple(line) for line in opened}, {("23456", str(US))}, "AS number and capability of our OPEN")
    both = lambda source: {tuple(line) for line in capture.decode(f"bgp.type == 2 && ip.src == {source} && {PATH}as2", PATH + "as2", PATH + "as4")}  # noqa: E731
    s.expect(both("10.0.1.2"), "no AS_PATH of ours")
    for two, four in both("10.0.1.2"):
        s.equal((set(two.split(",")), set(four.split(","))), ({"23456"}, {str(US)}), "AS numbers in our AS_PATH and AS4_PATH")
        s.equal(len(two.split(",")), len(four.split(",")), "length of both paths")
    theirs = "".join(",".join(line) for line in both("10.0.1.1"))
    s.expect("23456" in theirs and str(SPINE) in theirs, f"the leaf's AS_PATH and AS4_PATH: {both('10.0.1.1')}")


def path(peer, prefix):
    return peer.wait_route(prefix, 20.0).as_path.strip()
