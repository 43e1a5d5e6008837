"""Each peer, eBGP or as its reflector's client, numbered or not, with and without MD5 and BFD, v4, v6 and v4 over v6.

By default few rows that contain every pair of values (pairwise.py); all rows with `--full`. The leaf's configuration and
ours are written from the row, see `frr`, `bird` and `host` below; others.py has GoBGP, OpenBGPD and ExaBGP, as far as they go.
On the wire, at the end: what wire.py says about our OPEN and UPDATE messages, signed or not.
"""

import sys
from pathlib import Path

from lab import topology
from lab.shell import wait_for

sys.path.insert(0, str(Path(__file__).parent))
import others  # noqa: E402
import wire  # noqa: E402
from pairwise import pairwise, rows  # noqa: E402

PEERS = {
    "frr10": ("frr", "cloud"),
    "frr8": ("frr", "oldstable"),
    "bird2.17": ("bird", "cloud"),
    "bird2.0": ("bird", "oldstable"),
    "bird3.1": ("bird", "peers"),
}
DIMENSIONS = {
    "peer": list(PEERS),
    "kind": ["ebgp", "rr"],
    "link": ["numbered", "unnumbered"],
    "auth": ["open", "md5"],
    "families": ["v4", "v6", "v4over6"],
    "bfd": ["nobfd", "bfd"],
}
OTHERS = {
    "gobgp": ("gobgp", "peers"),
    "openbgpd": ("openbgpd", "peers"),
    "exabgp": ("exabgp", "peers"),
}
# None of them has BFD; sessions without numbers need a router's advertisements, which none of them sends.
OTHER_DIMENSIONS = DIMENSIONS | {"peer": list(OTHERS), "link": ["numbered"], "bfd": ["nobfd"]}
# What the daemon cannot do yet; a row that needs it is skipped and says so.
NOT_YET: dict[str, str] = {}
PASSWORD = "between-us"


def possible(row):
    # A link-local session carries IPv4 only with an IPv6 next hop.
    return not (row["link"] == "unnumbered" and row["families"] == "v4")


def named(chosen):
    return {
        "-".join(row.values()): {
            "row": row,
            "topology": {"image_b": (PEERS | OTHERS)[row["peer"]][1]},
            "skip": next((NOT_YET[value] for value in row.values() if value in NOT_YET), ""),
        }
        for row in chosen
    }


def columns(parameters):
    """The row, for the table in docs/interop.md."""
    return parameters["row"]


# Pairs without BFD are covered by rows of their own, so that a daemon or a peer that lacks it hides nothing else.
VARIANTS = (
    named(pairwise(DIMENSIONS | {"bfd": ["nobfd"]}, possible))
    | named(pairwise(DIMENSIONS, possible))
    | named(pairwise(OTHER_DIMENSIONS, possible))
)
FULL = named(rows(DIMENSIONS, possible)) | named(rows(OTHER_DIMENSIONS, possible))
TOPOLOGY = topology.pair
TIME_LIMIT = 60


def run(s):
    row = s.parameters["row"]
    capture = s.capture("host", "eth1")
    make = (PEERS | OTHERS)[row["peer"]][0]
    if make == "frr":
        leaf = s.frr("leaf", text=frr(row), bfd=row["bfd"] == "bfd")
    elif make == "bird":
        leaf = s.bird("leaf", text=bird(row))
    else:
        leaf = s.peer(make, text=getattr(others, make)(row))
    ours = s.ours("host", text=host(row))
    mine, theirs = ends(row)
    s.step(" · ".join(row.values()))
    if mine:
        leaf.wait_established(mine)
    ours.wait_established(theirs)
    for prefix in (["172.30.1.1/32"] if "v4" in row["families"] else []) + (["f00d::1/128"] if "6" in row["families"] else []):
        route = leaf.wait_route(prefix)
        check_hop(s, row, prefix, route)
        s.equal(route.as_path.strip("[] "), "64999" if row["kind"] == "ebgp" else "", f"{prefix}: AS path in the leaf's view")
        if make == "gobgp":
            leaf.originate("0.0.0.0/0" if "." in prefix else "::/0")
        ours.wait_learned("0.0.0.0/0" if "." in prefix else "::/0")
    if row["bfd"] == "bfd":
        s.step("BFD is up in the leaf's view")
        wait_for(f"leaf ({leaf.kind}): BFD up", lambda: bfd_up(leaf), 20.0)
    s.step("`show neighbors` says what the session is")
    look = lambda: next(n for n in ours.show("neighbors") if theirs in (n["neighbor"], n["interface"]))  # noqa: E731
    if row["bfd"] == "bfd":
        wait_for("BFD to be up in it", lambda: look()["bfd"] == {"profile": "fabric", "state": "Up"}, 10.0)
    entry = look()
    said = (entry["kind"], entry["security"]["md5"], entry["bfd"] is not None)
    s.equal(said, ("ibgp" if row["kind"] == "rr" else "ebgp", row["auth"] == "md5", row["bfd"] == "bfd"), "kind, MD5, BFD")
    s.step("the wire has what it should have")
    capture.stop()
    wire.check(s, row, capture)


def ends(row):
    """Our address and the leaf's, or the interface."""
    if row["link"] == "unnumbered":
        return None, "eth1"
    return ("10.0.1.2", "10.0.1.1") if row["families"] == "v4" else ("fd00:1::2", "fd00:1::1")


def check_hop(s, row, prefix, route):
    if row["link"] == "unnumbered":
        good = any(hop.startswith("fe80:") for hop in route.next_hops)
    elif "." in prefix and row["families"] == "v4":
        good = route.next_hops == ["10.0.1.2"]
    else:
        good = "fd00:1::2" in route.next_hops
    # Of a global and a link-local next hop in one attribute, ExaBGP shows the link-local one only.
    good = good or (row["peer"] == "exabgp" and row["families"] != "v4" and route.next_hops[0].startswith("fe80:"))
    s.expect(good, f"{prefix}: next hop in the leaf's view is {route.next_hops}")


def bfd_up(leaf):
    if leaf.kind == "FRR":
        return any(entry.get("status") == "up" for entry in leaf.json("show bfd peers"))
    return " Up " in leaf.birdc("show bfd sessions")


def host(row):
    _, theirs = ends(row)
    families = {"v4": '"ipv4"', "v6": '"ipv6"', "v4over6": '"ipv4", "ipv6"'}[row["families"]]
    lines = [
        "[bgp]", "asn = 64999", 'router_id = "10.0.1.2"', "[[bgp.neighbors]]",
        f'interface = "{theirs}"' if row["link"] == "unnumbered" else f'address = "{theirs}"',
        "remote_as = " + ('"internal"' if row["kind"] == "rr" else "65001"),
        f"families = [{families}]", 'hold_time = "9s"', 'keepalive = "3s"', 'connect_retry = "1s"',
    ]  # fmt: skip
    if row["auth"] == "md5":
        lines.append(f'password = "{PASSWORD}"')
    if row["bfd"] == "bfd":
        lines += ['bfd = "fabric"', "[bfd.profiles.fabric]", 'transmit_interval = "300ms"', 'receive_interval = "300ms"', "detect_multiplier = 3"]
    return "\n".join([*lines, "[advertise]", 'prefixes = ["172.30.1.1/32", "f00d::1/128"]']) + "\n"


def frr(row):
    neighbor = "eth1" if row["link"] == "unnumbered" else ends(row)[0]
    remote = "64999"
    own = "64999" if row["kind"] == "rr" else "65001"
    extra = []
    if row["auth"] == "md5":
        extra.append(f" neighbor {neighbor} password {PASSWORD}")
    if row["bfd"] == "bfd":
        extra.append(f" neighbor {neighbor} bfd")
    if row["families"] == "v4over6":
        extra.append(f" neighbor {neighbor} capability extended-nexthop")
    declare = f" neighbor {neighbor} {'interface v6only ' if row['link'] == 'unnumbered' else ''}remote-as {remote}"
    lines = [
        "frr defaults datacenter", "hostname leaf", "log stdout informational", f"router bgp {own}", " bgp router-id 10.0.1.1",
        " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast", " timers bgp 3 9", declare, *extra,
    ]  # fmt: skip
    for family, word in (("ipv4", "v4"), ("ipv6", "6")):
        if word in row["families"]:
            lines += [f" address-family {family} unicast", f"  neighbor {neighbor} activate", f"  neighbor {neighbor} default-originate"]
            if row["kind"] == "rr":
                lines += [f"  neighbor {neighbor} route-reflector-client", f"  neighbor {neighbor} next-hop-self"]
            lines.append(" exit-address-family")
    return "\n".join([*lines, "exit"]) + "\n"


def bird(row):
    own = "64999" if row["kind"] == "rr" else "65001"
    options = ["hold time 9;", "direct;"]
    if row["link"] == "unnumbered":
        options += [f"local as {own};", "neighbor range fe80::/10 as 64999;", 'interface "eth1";']
    else:
        mine, theirs = ends(row)
        options += [f"local {theirs} as {own};", f"neighbor {mine} as 64999;"]
    if row["kind"] == "rr":
        options.append("rr client;")
    if row["auth"] == "md5":
        options.append(f'password "{PASSWORD}";')
    if row["bfd"] == "bfd":
        options.append("bfd on;")
    for family, word in (("ipv4", "v4"), ("ipv6", "6")):
        if word in row["families"]:
            extended = "extended next hop on; " if family == "ipv4" and row["families"] == "v4over6" else ""
            options.append(f"{family} {{ import all; export where source = RTS_STATIC; next hop self; {extended}}};")
    radv = 'protocol radv { interface "eth1" { max ra interval 4; min ra interval 3; }; }\n' if row["link"] == "unnumbered" else ""
    return (
        "log stderr all;\nrouter id 10.0.1.1;\nprotocol device { }\nprotocol direct { ipv4; ipv6; }\n"
        'protocol bfd { interface "eth1" { interval 300 ms; multiplier 3; }; }\n' + radv +
        "protocol static s4 { ipv4; route 0.0.0.0/0 blackhole; }\nprotocol static s6 { ipv6; route ::/0 blackhole; }\n"
        "protocol bgp host {\n  " + "\n  ".join(options) + "\n}\n"
    )  # fmt: skip
