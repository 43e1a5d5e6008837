"""Add-path (RFC 7911) both ways: a leaf tells two paths to the default route, both are used; ours carries identifier 1.

FRR reflects what two exits told it (`addpath-tx-all-paths`), BIRD has two routes of its own (`add paths on`). One exit goes: its
path is withdrawn alone. With `add_path` in the other direction only, the leaf tells us its best path and no identifier.
"""

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
}
TIME_LIMIT = 120
EXITS = {"0.0.0.0/0": ("10.0.9.2", "10.0.9.6"), "::/0": ("fd00:9::2", "fd00:9::6")}


def TOPOLOGY(image):
    return Topology(
        nodes=[Node("host"), Node("leaf", image), Node("spine")],
        links=[
            Link("host:eth1 10.0.1.2/30 fd00:1::2/64", "leaf:eth1 10.0.1.1/30 fd00:1::1/64"),
            Link("leaf:up1 10.0.9.1/30 fd00:9::1/126", "spine:up1 10.0.9.2/30 fd00:9::2/126"),
            Link("leaf:up2 10.0.9.5/30 fd00:9::5/126", "spine:up2 10.0.9.6/30 fd00:9::6/126"),
        ],
    )


def run(s):
    capture = s.capture("host", "eth1")
    frr = s.parameters["peer"] == "frr"
    if frr:
        spine = s.bird("spine", "spine.bird.conf")
    leaf = s.peer(s.parameters["peer"])
    # The kernel takes a next hop it has a way to.
    s["host"].run("ip route add 10.0.9.0/24 via 10.0.1.1; ip route add fd00:9::/64 via fd00:1::1")
    values = {"LEAF_AS": 64999 if frr else 65001}
    ours = s.ours(MODE="both", **values)

    def learned(prefix):
        return [entry for entry in ours.show("learned") if entry["prefix"] == prefix]

    def hops(prefix):
        return tuple(sorted(entry["next_hops"][0] for entry in learned(prefix)))

    s.step("both paths arrive, each with its identifier, and are used together")
    for prefix, exits in EXITS.items():
        try:
            wait_for(f"both paths to {prefix}", lambda p=prefix, e=exits: hops(p) == e, 40.0)
        except Exception as late:
            s.expect(False, f"{late}: {learned(prefix)}; {[n['capabilities'] for n in ours.show('neighbors')]}")
        paths = learned(prefix)
        s.equal(len({entry["path_id"] for entry in paths} - {None}), 2, f"identifiers of {paths}")
        s.expect(all(entry["selected"] for entry in paths), f"both should be used: {paths}")
    s.step("ours arrives at the leaf with identifier 1")
    for prefix in ("172.30.1.1/32", "f00d::1/128"):
        leaf.wait_route(prefix)
        if leaf.kind == "FRR":
            s.equal(leaf.detail(prefix).get("addpathRxId", leaf.detail(prefix).get("pathId")), 1, f"identifier of {prefix} at the leaf")

    s.step("one exit goes: its path is withdrawn alone")
    if frr:
        for protocol in ("b4", "b6"):
            spine.birdc(f"disable {protocol}")
    else:
        for protocol in ("two4", "two6"):
            leaf.birdc(f"disable {protocol}")
    for prefix, exits in EXITS.items():
        wait_for(f"the second path to {prefix} to go", lambda p=prefix, e=exits: hops(p) == e[:1], 20.0)
        s.expect(learned(prefix)[0]["selected"], f"the other one stays in use: {learned(prefix)}")

    s.step("by reload to send only: the leaf may tell us one path, and gives it no identifier")
    if frr:
        for protocol in ("b4", "b6"):
            spine.birdc(f"enable {protocol}")
    else:
        for protocol in ("two4", "two6"):
            leaf.birdc(f"enable {protocol}")
    ours.configure(s.text("host.toml", MODE="send", **values))
    report = ours.command("reload")
    s.expect("reset" in report and "add_path" in report, f"what the reload says: {report}")
    for prefix in EXITS:
        wait_for(f"one path to {prefix}", lambda p=prefix: [e["path_id"] for e in learned(p)] == [None], 40.0)
    for prefix in ("172.30.1.1/32", "f00d::1/128"):
        leaf.wait_route(prefix, 20.0)
    capture.stop()
    for ours_first in ("ip.src == 10.0.1.2", "ipv6.src == fd00:1::2"):
        lines = capture.decode(f"bgp.nlri_path_id && {ours_first}", "bgp.nlri_path_id")
        identifiers = {word for line in lines for field in line for word in field.split(",")}
        s.equal(identifiers, {"1"}, f"identifiers on the wire, {ours_first}")
