"""Another AS number towards one neighbour, with FRR and BIRD: the OPEN says it, paths begin with it, our own stands behind it or not.

The leaf only accepts AS 65010 from us. FRR on its side has a `local-as` as well: it says 65020, and its paths have both of its numbers.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90


def run(s):
    frr = s.parameters["peer"] == "frr"
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    s.step("our own AS number is not what the leaf expects: 2/2")
    ours = s.ours(LOCAL_AS="")
    wait_for("the leaf to refuse our AS", lambda: "(2/2)" in str(ours.show("neighbors")[0]["last_error_received"]), 30.0)

    def path_is(local_as, wanted):
        ours.configure(s.text("host.toml", LOCAL_AS=local_as))
        ours.command("reload")
        leaf.wait_established("10.0.1.2", 45.0)
        wait_for(f"the leaf to see the path {wanted}", lambda: leaf.wait_route("172.30.1.1/32").as_path == wanted, 20.0)
        s.equal(ours.show("neighbors")[0]["local_as"], 65010, "our AS on this session")

    s.step("local_as = 65010: a session, and both numbers in the path")
    path_is("local_as = 65010", "65010 64999")
    s.step("replace_as: our own is hidden")
    path_is("local_as = { asn = 65010, replace_as = true }", "65010")
    s.step("the leaf's paths as we see them")
    seen = ours.wait_learned("198.51.100.0/24")
    s.equal(seen["as_path"], "65020 65001" if frr else "65020", "AS path of the leaf's route")
    if frr:
        s.step("a route that has passed our other number is a loop")
        leaf.configure("ip route 198.51.101.0/24 blackhole", "ip route 198.51.102.0/24 blackhole",
                       "route-map loop permit 10", "set as-path prepend 65010", "exit",
                       "router bgp 65001", "address-family ipv4 unicast", "network 198.51.101.0/24 route-map loop")  # fmt: skip
        advertised = "show bgp ipv4 unicast neighbors 10.0.1.2 advertised-routes"
        wait_for("the leaf to announce the loop", lambda: "198.51.101.0/24" in str(leaf.json(advertised)), 10.0)
        leaf.configure("router bgp 65001", "address-family ipv4 unicast", "network 198.51.102.0/24")
        ours.wait_learned("198.51.102.0/24")
        s.expect(not any(r["prefix"] == "198.51.101.0/24" and r["selected"] for r in ours.show("learned")), "the loop is used")
    capture.stop()
