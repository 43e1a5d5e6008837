"""Two route reflectors in clusters of their own: our route comes back, at once and by both, and is refused by ORIGINATOR_ID (RFC 4456).

We announce it to the second with a lower LOCAL_PREF, which therefore prefers what the first has reflected to it, and reflects it to us.
A route of another client arrives by both. Then the first reflector takes our identifier for its cluster: CLUSTER_LIST, refused.
FRR reflects a route even to whom it is from; BIRD only what it has from somebody else.
"""

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "frr-10-frr-8": {"peer": "frr", "topology": {"image": "oldstable"}},
    "frr-10-frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "frr-10-bird-2.0": {"peer": "bird", "topology": {"image": "oldstable"}},
    "frr-10-bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "frr-10-bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
}
TIME_LIMIT = 90
OWN, OTHERS = "172.30.1.1/32", "172.30.1.9/32"
FIRST, SECOND = "10.0.1.1", "10.0.2.1"
LAST = 'export = [{ local_pref = 50 }]'
BGP = "bgp.update.path_attribute."


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("host"), Node("rr1"), Node("rr2", image), Node("other")],
        links=[
            Link("host:eth1 10.0.1.2/30", "rr1:host 10.0.1.1/30"),
            Link("host:eth2 10.0.2.2/30", "rr2:host 10.0.2.1/30"),
            Link("rr1:mesh 10.0.9.1/30", "rr2:mesh 10.0.9.2/30"),
            Link("rr1:other 10.0.3.1/30", "other:eth1 10.0.3.2/30"),
        ],
    )


def run(s):
    s.capture("host", "eth1")
    capture = s.capture("host", "eth2")
    rr1, rr2 = s.peer("frr", "rr1"), s.peer(s.parameters["peer"], "rr2")
    s.peer("bird", "other")
    ours = s.ours(EXPORT=LAST)

    def learned(prefix, neighbor):
        return next((e for e in ours.show("learned") if (e["prefix"], e["neighbor"]) == (prefix, neighbor)), None)

    def wait(what, condition):
        try:
            return wait_for(what, condition, 40.0)
        except LabError as late:
            raise LabError(f"{late}: {[(e['prefix'], e['neighbor'], e['selected'], e['reason']) for e in ours.show('learned')]}") from late

    for neighbor in (FIRST, SECOND):
        ours.wait_established(neighbor, 45.0)

    s.step("our own route, reflected back to us by both: refused, with the reason")
    for neighbor in (FIRST, SECOND):
        back = wait(f"our own route to come back from {neighbor}", lambda n=neighbor: learned(OWN, n))
        s.expect(not back["selected"] and "ORIGINATOR_ID" in back["reason"], f"our own route came back: {back}")

    s.step("another client's route, by both")
    for neighbor in (FIRST, SECOND):
        wait(f"it from {neighbor}", lambda n=neighbor: (learned(OTHERS, n) or {}).get("reason") is not None)
    s.expect(learned(OTHERS, FIRST)["selected"], f"the nearer reflector's: {learned(OTHERS, FIRST)}")
    for neighbor in (FIRST, SECOND):
        s.expect("ORIGINATOR_ID" not in learned(OTHERS, neighbor)["reason"], f"another client's: {learned(OTHERS, neighbor)}")

    s.step("the first reflector has our identifier for its cluster: refused from both")
    rr1.configure("router bgp 64999", "bgp cluster-id 10.0.1.2")
    for neighbor in (FIRST, SECOND):
        looped = lambda n=neighbor: "CLUSTER_LIST" in (learned(OTHERS, n) or {"reason": ""})["reason"]  # noqa: E731
        wait(f"the loop to be refused from {neighbor}", looped)
        s.expect(not learned(OTHERS, neighbor)["selected"], f"a loop is used: {learned(OTHERS, neighbor)}")
    s.step("a cluster of its own again: used again")
    rr1.configure("router bgp 64999", "bgp cluster-id 10.255.0.1")
    wait("the route in use", lambda: (learned(OTHERS, FIRST) or {}).get("selected"))

    if rr2.kind == "BIRD":
        s.step("as good at the second as at the first: it has ours from ourselves, and does not tell us any more")
        wait("our own route to be back before", lambda: learned(OWN, SECOND))
        ours.configure(s.text("host.toml", EXPORT=""))
        ours.command("reload")
        wait("our own route to be withdrawn", lambda: learned(OWN, SECOND) is None)
        s.equal(rr2.wait_route(OWN).local_pref, 100, "LOCAL_PREF at the second")
    capture.stop()
    s.step("on the wire: who originated, through which clusters")
    seen = capture.decode(f"ip.src == {SECOND} && {BGP}originator_id == 10.0.1.2", "bgp.path_attribute.cluster_id")
    s.expect(seen, "our route with our ORIGINATOR_ID is not on the wire")
    s.expect(any("10.255.0.1" in value and "10.255.0.2" in value for line in seen for value in line), f"CLUSTER_LIST of our route: {seen}")
