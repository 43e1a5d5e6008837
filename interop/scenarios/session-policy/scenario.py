"""No policy, no routes (RFC 8212); ONLY_TO_CUSTOMER (RFC 9234); enhanced refresh (RFC 7313); extended messages (RFC 8654).

Without prefix lists nothing is exchanged with an external leaf, and everybody is told why; lists arrive by reload and the session
stays. As a provider we mark what we announce, as a customer we do not. The leaf asks for everything once more and gets
it between BoRR and EoRR. Both capabilities are agreed.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
OURS = ("172.30.1.1/32", "f00d::1/128")
DEFAULTS = ("0.0.0.0/0", "::/0")
LISTS = 'prefix_list_in = "only-default"\nprefix_list_out = "hosts"'


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"], ROLE="customer")
    ours = s.ours(ROLE="provider", POLICY="")
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        ours.wait_established(theirs, 40.0)
        leaf.wait_established(mine)

    s.step("no lists: nothing is exchanged, and everybody is told why")
    wait_for("the leaf to have told everything", lambda: all(f["end_of_rib_received"] for n in ours.show("neighbors") for f in n["families"] if f["negotiated"]), 20.0)
    learned = {e["prefix"]: (e["selected"], e["reason"]) for e in ours.show("learned")}
    for prefix in DEFAULTS:
        s.expect(prefix in learned and not learned[prefix][0] and "ebgp_requires_policy" in learned[prefix][1], f"{prefix}: {learned}")
    for route in ours.show("routes"):
        s.expect(all("ebgp_requires_policy" in (n["refused"] or "") or "not negotiated" in (n["refused"] or "") for n in route["neighbors"]), f"{route}")
    s.equal([p for p in OURS if p in leaf.routes()], [], "our routes at the leaf")

    s.step("lists, by reload: exchanged, the session stays; what the list denies says so")
    ours.configure(s.text("host.toml", ROLE="provider", POLICY=LISTS))
    ours.command("reload")
    for prefix in OURS:
        leaf.wait_route(prefix)
    for prefix in DEFAULTS:
        wait_for(f"{prefix} in use", lambda p=prefix: ours.wait_learned(p)["selected"], 15.0)
    denied = ours.wait_learned("192.0.2.77/32")
    s.expect(not denied["selected"] and "only-default" in denied["reason"], f"what the list denies: {denied}")
    s.equal([n["lost_count"] for n in ours.show("neighbors")], [0, 0], "sessions lost")

    s.step("as a provider we mark what we announce: only to customers")
    for prefix in OURS:
        s.equal(otc(leaf, prefix), 64999, f"ONLY_TO_CUSTOMER of {prefix} at the leaf")

    s.step("both sides take refreshes with marks and, where the leaf offers it, long messages")
    for neighbor in ours.show("neighbors"):
        for side in ("sent", "received"):
            words = neighbor["capabilities"][side]
            s.expect("enhanced route refresh" in words and "extended message" in words, f"{side} by/of {neighbor['neighbor']}: {words}")
    words = next(n for n in ours.show("neighbors") if n["neighbor"] == "10.0.1.1")["capabilities"]["received"]
    s.expect("host name leaf" in words, f"the leaf's name is not among its capabilities: {words}")
    if leaf.kind == "FRR":
        leaf.vtysh("clear bgp ipv4 unicast 10.0.1.2 soft in")
        leaf.vtysh("clear bgp ipv6 unicast fd00:1::2 soft in")
    else:
        leaf.birdc("reload in host4")
        leaf.birdc("reload in host6")

    def marks():
        lines = capture.decode("bgp.type == 5 && (ip.src == 10.0.1.2 || ipv6.src == fd00:1::2)", "bgp.route_refresh.subtype")
        return sorted(int(word, 0) for line in lines for word in line[0].split(",") if word)

    try:
        wait_for("BoRR and EoRR of both sessions", lambda: [m for m in marks() if m] == [1, 1, 2, 2], 20.0, 0.5)
    except Exception as late:
        s.expect(False, f"{late}: subtypes of our ROUTE-REFRESH messages: {marks()}")
    for prefix in OURS:
        s.expect(prefix in leaf.routes(), f"{prefix} was lost in the refresh")

    s.step("the roles the other way round: towards a provider nothing is marked")
    if leaf.kind == "FRR":
        for mine in ("10.0.1.2", "fd00:1::2"):
            leaf.configure("router bgp 65001", f"neighbor {mine} local-role provider")
    else:
        leaf.configure(s.text("leaf.bird.conf", ROLE="provider"))
    ours.configure(s.text("host.toml", ROLE="customer", POLICY=LISTS))
    ours.command("reload")
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        ours.wait_established(theirs, 60.0)
    for prefix in OURS:
        leaf.wait_route(prefix, 20.0)
        s.expect(otc(leaf, prefix) is None, f"{prefix} carries ONLY_TO_CUSTOMER {otc(leaf, prefix)} at a provider")
    for prefix in DEFAULTS:
        wait_for(f"{prefix} in use", lambda p=prefix: ours.wait_learned(p)["selected"], 20.0)


def otc(leaf, prefix):
    """The AS in ONLY_TO_CUSTOMER, in the peer's own words."""
    if leaf.kind == "FRR":
        return leaf.detail(prefix).get("otc")
    for line in leaf.birdc(f"show route all {prefix}").splitlines():
        key, _, value = line.strip().partition(":")
        if key in ("BGP.otc", "bgp_otc"):
            return int(value)
    return None
