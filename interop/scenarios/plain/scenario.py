"""Two sessions (IPv4 and IPv6) with each peer: routes both ways with the right attributes, reload, orderly end.

Every peer is asked for its own view: the session, the prefixes, next hop, AS path, origin, local preference. The capture
must hold no message that tshark calls malformed, and no MED.
"""

from lab import topology

OURS = ["172.30.1.1/32", "203.0.113.7/32", "f00d::1/128"]
LATER = ["172.30.1.1/32", "203.0.113.8/32", "f00d::1/128", "f00d::2/128"]

PEERS = {
    "frr-10": ("frr", "cloud"),
    "frr-8": ("frr", "oldstable"),
    "bird-2.17": ("bird", "cloud"),
    "bird-2.0": ("bird", "oldstable"),
    "bird-3.1": ("bird", "peers"),
    "gobgp": ("gobgp", "peers"),
    "openbgpd": ("openbgpd", "peers"),
    "exabgp": ("exabgp", "peers"),
}
VARIANTS = {
    f"{kind}-{name}": {"peer": peer, "kind": kind, "topology": {"image_b": image}}
    for name, (peer, image) in PEERS.items()
    for kind in ("ebgp", "ibgp")
}
TOPOLOGY = topology.pair


def quoted(prefixes):
    return ", ".join(f'"{prefix}"' for prefix in prefixes)


def run(s):
    ibgp = s.parameters["kind"] == "ibgp"
    leaf_as = 64999 if ibgp else 65001
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"], LEAF_AS=leaf_as)
    ours = s.ours(PREFIXES=quoted(OURS), LEAF_AS=leaf_as)
    s.step("both sessions come up, in both views")
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    s.step("the leaf has our prefixes, as we mean them")
    for prefix in OURS:
        attributes(s, leaf, leaf.wait_route(prefix), ibgp)
    s.step("we have the leaf's default routes")
    if s.parameters["peer"] == "gobgp":
        leaf.originate("0.0.0.0/0")
        leaf.originate("::/0")
    for prefix in ("0.0.0.0/0", "::/0"):
        ours.wait_learned(prefix)
    s.step("reload: one prefix goes, two come, the sessions stay")
    ours.configure(s.text("host.toml", PREFIXES=quoted(LATER), LEAF_AS=leaf_as))
    ours.command("reload")
    leaf.wait_route("203.0.113.8/32")
    leaf.wait_route("f00d::2/128")
    leaf.wait_gone("203.0.113.7/32")
    s.expect(leaf.established("10.0.1.2"), "the session did not survive a reload that changes only prefixes")
    s.step("an orderly end withdraws everything")
    ours.stop()
    for prefix in LATER:
        leaf.wait_gone(prefix, 12.0)
    capture.stop()
    hops = capture.decode("ipv6.src == fd00:1::2 && bgp.update.path_attribute.mp_reach_nlri", "bgp.update.path_attribute.mp_reach_nlri.next_hop.ipv6")
    s.expect(all("fd00:1::2" in ",".join(hop) for hop in hops), f"next hops on the wire: {hops}")
    meds = capture.decode("bgp.update.path_attribute.multi_exit_disc && (ip.src == 10.0.1.2 || ipv6.src == fd00:1::2)", "frame.number")
    s.equal(meds, [], "packets of ours with a MED")


def attributes(s, leaf, route, ibgp):
    hop = "fd00:1::2" if ":" in route.prefix else "10.0.1.2"
    # Of a global and a link-local next hop in one attribute, ExaBGP shows the link-local one only.
    good = hop in route.next_hops or (leaf.kind == "ExaBGP" and route.next_hops[0].startswith("fe80"))
    s.expect(good, f"{route.prefix}: the leaf's next hop is {route.next_hops}, it should be {hop}")
    s.equal(route.as_path.strip("[] "), "" if ibgp else "64999", f"{route.prefix}: AS path in the leaf's view")
    s.expect(route.origin.upper().startswith("I"), f"{route.prefix}: origin in the leaf's view is {route.origin}")
    if ibgp:
        s.equal(route.local_pref, 100, f"{route.prefix}: local preference in the leaf's view")
