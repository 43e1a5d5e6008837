"""Attributes set per prefix list, as the leaf sees them: communities of all kinds, MED, LOCAL_PREF, prepend; then GRACEFUL_SHUTDOWN.

Each attribute stands on the prefixes of its list and on no others. `graceful_shutdown` is switched on by reload: both families
are marked, internal peers get preference 0, the session stays.
"""

import re

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    f"{kind}-{name}": {"kind": kind, "peer": peer, "topology": {"image_b": image}}
    for kind in ("ebgp", "ibgp")
    for name, peer, image in (("frr-10", "frr", "cloud"), ("bird-2.17", "bird", "cloud"))
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60

PLAIN = ["172.30.1.1/32", "f00d::1/128"]
API = ["198.51.100.5/32", "2001:db8:51::5/128"]


def run(s):
    external = s.parameters["kind"] == "ebgp"
    leaf_as = 65001 if external else 64999
    s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"], LEAF_AS=leaf_as)
    ours = s.ours(REMOTE=leaf_as, GSHUT="false")
    for prefix in PLAIN + API:
        leaf.wait_route(prefix, 30.0)

    def view(prefix):
        return frr(leaf, prefix) if leaf.kind == "FRR" else bird(leaf, prefix)

    s.step("each attribute on its prefixes, and on no others")
    for prefix in PLAIN:
        s.equal(view(prefix), expected(external, path=1), f"{prefix} at the leaf")
    tagged = expected(external, communities={"64999:100", "64999:777"}, large={"64999:1:2"}, extended={"64999:5"}, med=50, pref=300, path=3)
    for prefix in API:
        s.equal(view(prefix), tagged, f"{prefix} at the leaf")

    s.step("graceful_shutdown by reload: marked, preference 0, the session stays")
    before = [(n["established_count"], n["lost_count"]) for n in ours.show("neighbors")]
    ours.configure(s.text("host.toml", REMOTE=leaf_as, GSHUT="true"))
    ours.command("reload")
    # Where the leaf honours the mark itself (RFC 8326, FRR by default on external sessions) it shows its own preference.
    for prefix in PLAIN + API:
        wait_for(f"{prefix} to be marked: {view(prefix)}", lambda p=prefix: "65535:0" in view(p)["communities"], 10.0)
        if not external:
            s.equal(view(prefix)["pref"], 0, f"{prefix}: preference")
    s.equal([(n["established_count"], n["lost_count"]) for n in ours.show("neighbors")], before, "sessions so far")


def expected(external, communities=frozenset({"64999:100"}), large=frozenset(), extended=frozenset(), med=None, pref=100, path=1):
    return {
        "communities": set(communities), "large": set(large), "extended": set(extended), "med": med,
        "pref": None if external else pref, "path": ["64999"] * path if external else [],
    }  # fmt: skip


def frr(leaf, prefix):
    path = leaf.detail(prefix)
    external = path["peer"].get("type") == "external"
    words = lambda key: set(path.get(key, {}).get("string", "").replace("graceful-shutdown", "65535:0").split())  # noqa: E731
    return {
        "communities": words("community"), "large": words("largeCommunity"),
        "extended": {word.removeprefix("RT:") for word in words("extendedCommunity")},
        "med": path.get("metric") or None, "pref": None if external else path.get("locPrf"),
        "path": [] if path["aspath"]["string"] == "Local" else path["aspath"]["string"].split(),
    }  # fmt: skip


def bird(leaf, prefix):
    out = leaf.birdc(f"show route all {prefix}")

    def find(key):
        found = re.search(rf"(?m)^\s+(?:BGP\.|bgp_){key}: *(.*)$", out)
        return found.group(1) if found else ""

    pairs = lambda text: {":".join(re.split(r",\s*", inner)) for inner in re.findall(r"\(([^)]*)\)", text)}  # noqa: E731
    path = find("as_path").split()
    external = bool(path)
    return {
        "communities": pairs(find("community")), "large": pairs(find("large_community")),
        "extended": {word.removeprefix("rt:") for word in pairs(find("ext_community"))},
        "med": int(find("med")) if find("med") else None,
        "pref": None if external else int(find("local_pref")), "path": path,
    }  # fmt: skip
