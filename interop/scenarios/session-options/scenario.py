"""GTSM, roles (RFC 9234, strict), a limit of prefixes and shutdowns with a reason, with FRR and BIRD; what `show neighbors` says of it.

Every BGP packet of ours has TTL 255 and class CS6; a leaf that does not do GTSM is not heard. A role that does not fit gives no session
and names the reason; too many prefixes end it with Cease/1, until its time is over; a shutdown carries its text to the other side, ours
to the leaf and the leaf's to us. `show neighbors` and the metrics agree with what the leaf can tell.
"""

import re
import time

from lab import topology
from lab.shell import LabError, wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
PAIRS = (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1"))
GOOD = {"ROLE": "customer", "SHUTDOWN": "false", "MAX": "2"}
REASON, THEIR_REASON = "rack 7 is moved at noon", "leaf 8 gets new memory"
SECOND = {"frr": ("network 198.51.100.0/24", "network 2001:db8:51::/48"), "bird": (" route 198.51.100.0/24 blackhole;", " route 2001:db8:51::/48 blackhole;")}
SCRAPE = r"exec 3<>/dev/tcp/127.0.0.1/9179; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3"


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(**GOOD)

    def reload(**values):
        ours.configure(s.text("host.toml", **(GOOD | values)))
        ours.command("reload")

    def down(code):
        """Both sessions are down, for the reason."""
        entries = ours.show("neighbors")
        words = [str(e["last_error_sent"]) + str(e["last_error_received"]) for e in entries]
        return not any(e["state"] == "Established" for e in entries) and all(code in word for word in words)

    def explain():
        return [(e["state"], e["last_error_sent"], e["last_error_received"]) for e in ours.show("neighbors")]

    s.step("provider and customer, GTSM on both sides: up")
    up(leaf, ours)
    s.step("what `show neighbors` and the metrics say")
    for (mine, theirs), family in zip(PAIRS, ("ipv4", "ipv6")):
        told(s, leaf, ours, mine, theirs, family)

    s.step("the leaf does no GTSM any more: its packets have TTL 1, and none reaches us")
    before = [entry["established_count"] for entry in ours.show("neighbors")]
    mark = time.time()
    gtsm(s, leaf, False)
    wait_for("the sessions to end", lambda: not any(ours.established(theirs) for _, theirs in PAIRS), 20.0)
    try:
        wait_for("a session", lambda: [entry["established_count"] for entry in ours.show("neighbors")] != before, 4.0)
    except LabError:
        pass
    else:
        s.expect(False, "a session came up with a leaf that may be anywhere")
    deaf = time.time()
    gtsm(s, leaf, True)
    up(leaf, ours)

    s.step("two providers: no session (2/11)")
    reload(ROLE="provider")
    try:
        wait_for("a role mismatch", lambda: down("(2/11)"), 15.0)
    except Exception as late:
        s.expect(False, f"{late}: {explain()}")
    s.step("a customer again; then one prefix more than allowed: Cease/1, for six seconds")
    reload()
    up(leaf, ours)
    reload(MAX='{ limit = 1, restart = "6s" }')
    try:
        wait_for("the limit to end the sessions", lambda: down("(6/1)"), 15.0)
    except Exception as late:
        s.expect(False, f"{late}: {explain()}")
    s.step("the leaf has fewer now: up again by itself, when the time is over")
    second(s, leaf, False)
    for _, theirs in PAIRS:
        ours.wait_established(theirs, 30.0)
    for entry in ours.show("neighbors"):
        away = entry["last_error_sent_seconds"] - entry["uptime_seconds"]
        s.expect(5.5 < away < 25.0, f"{entry['neighbor']} was away for {away:.1f} s instead of six and a little")
    second(s, leaf, True)
    reload()
    up(leaf, ours)
    s.step("the leaf shuts its side down with a reason: ours says it")
    if leaf.kind == "FRR":
        for mine, _ in PAIRS:
            leaf.configure("router bgp 65001", f"neighbor {mine} shutdown message {THEIR_REASON}")
    else:
        for name in ("host4", "host6"):
            leaf.birdc(f'disable {name} "{THEIR_REASON}"')
    for _, theirs in PAIRS:
        wait_for(f"{theirs}: its reason", lambda t=theirs: THEIR_REASON in entry_of(ours, t)["last_error_received"], 10.0)
        s.expect("(6/2)" in entry_of(ours, theirs)["last_error_received"], f"its code: {entry_of(ours, theirs)}")
    s.expect(re.search(rf'(?m)^ovn_bgpd_neighbor_up{{neighbor="{re.escape(theirs)}"}} 0', metrics(ours)), f"the metrics say that {theirs} is up")
    if leaf.kind == "FRR":
        for mine, _ in PAIRS:
            leaf.configure("router bgp 65001", f"no neighbor {mine} shutdown")
    else:
        for name in ("host4", "host6"):
            leaf.birdc(f"enable {name}")
    up(leaf, ours)
    s.step("ours shuts down with a reason: the leaf says it")
    reload(SHUTDOWN=f'"{REASON}"')
    wait_for("the leaf to have lost the sessions", lambda: not any(leaf.established(mine) for mine, _ in PAIRS), 5.0)
    log = leaf.node.log("bgpd" if leaf.kind == "FRR" else "bird")
    s.expect(REASON in log, f"the leaf's log does not have the reason:\n{log[-1500:]}")
    reload()
    up(leaf, ours)
    capture.stop()
    s.step("TTL and class of every BGP packet of ours")
    seen4 = {tuple(line) for line in capture.decode("bgp && ip.src == 10.0.1.2", "ip.ttl", "ip.dsfield.dscp")}
    seen6 = {tuple(line) for line in capture.decode("bgp && ipv6.src == fd00:1::2", "ipv6.hlim", "ipv6.tclass.dscp")}
    s.equal((seen4, seen6), ({("255", "48")}, {("255", "48")}), "TTL and DSCP over IPv4 and IPv6")
    between = f"tcp && frame.time_epoch > {mark} && frame.time_epoch < {deaf}"
    heard4, heard6 = (capture.decode(f"{between} && {source}", field) for source, field in (("ip.src == 10.0.1.1", "ip.ttl"), ("ipv6.src == fd00:1::1", "ipv6.hlim")))
    s.expect(["1"] in heard4 and ["1"] in heard6, f"the leaf sent nothing with TTL 1 meanwhile: {heard4} {heard6}")


def up(leaf, ours):
    for mine, theirs in PAIRS:
        ours.wait_established(theirs, 45.0)
        leaf.wait_established(mine)
    for prefix in ("172.30.1.1/32", "f00d::1/128"):
        leaf.wait_route(prefix)


def entry_of(ours, theirs):
    return next(entry for entry in ours.show("neighbors") if entry["neighbor"] == theirs)


def metrics(ours):
    return ours.node.run(["bash", "-c", SCRAPE])


def told(s, leaf, ours, mine, theirs, family):
    """Every part of an entry of `show neighbors`, against what is known of the session."""

    told_us = 3 if leaf.kind == "FRR" else 2  # FRR tells us our own route, too, which is refused

    def quiet():
        (counts,) = [f for f in entry_of(ours, theirs)["families"] if f["negotiated"]]
        return counts["end_of_rib_sent"] and not counts["pending"] and counts["accepted"] == 2 and counts["received"] == told_us

    wait_for(f"{theirs}: everything to be told", quiet, 20.0)
    entry = entry_of(ours, theirs)
    (counts,) = [f for f in entry["families"] if f["negotiated"]]
    counts = counts | {"next_hop": counts["next_hop"].split()[0]}  # a link-local one may follow
    seen = {key: counts[key] for key in ("family", "advertised", "received", "accepted", "max_prefixes", "next_hop")}
    s.equal(seen, {"family": family, "advertised": 1, "received": told_us, "accepted": 2, "max_prefixes": 2, "next_hop": mine}, f"{theirs}: its family")
    s.equal((entry["state"], entry["kind"], entry["remote_as"], entry["local_as"], entry["router_id"]), ("Established", "ebgp", 65001, 64999, "10.0.1.1"), theirs)
    s.expect(0 <= entry["uptime_seconds"] < 60, f"{theirs}: uptime {entry['uptime_seconds']}")
    for side, role in (("sent", "customer"), ("received", "provider")):
        words = " / ".join(entry["capabilities"][side])
        s.expect(all(word in words for word in (family, "route refresh", "four-octet", f"role {role}")), f"{theirs}: capabilities {side}: {words}")
    timers = entry["timers"]
    s.equal((timers["hold_time_seconds"], timers["keepalive_seconds"]), (9, 3), f"{theirs}: timers")
    s.expect(0 < timers["running"]["hold"] <= 9 and 0 < timers["running"]["keepalive"] <= 3, f"{theirs}: running timers: {timers}")
    s.equal((entry["security"]["ttl_security"], entry["security"]["md5"], entry["security"]["ao"], entry["bfd"]), (1, False, False, None), f"{theirs}: security, BFD")
    ends = [entry[end].rsplit(":", 1)[0].strip("[]") for end in ("local_endpoint", "remote_endpoint")]
    s.equal(ends, [mine, theirs], f"{theirs}: both ends")
    messages = entry["messages"]
    if leaf.kind == "FRR":
        stats = leaf.neighbor(mine)["messageStats"]
        s.equal((stats["updatesRecv"], stats["updatesSent"]), (messages["updates_sent"], messages["updates_received"]), f"{theirs}: UPDATEs by the leaf's count and ours")
    else:
        s.expect(messages["updates_sent"] >= 2 and messages["updates_received"] >= 2, f"{theirs}: messages {messages}")
    text, name = metrics(ours), re.escape(theirs)
    for metric, value in ((f'neighbor_up{{neighbor="{theirs}"}}', 1), (f'neighbor_established_total{{neighbor="{theirs}"}}', entry["established_count"]),
                          (f'neighbor_routes_advertised{{neighbor="{theirs}",family="{family}"}}', 1),
                          (f'neighbor_routes_accepted{{neighbor="{theirs}",family="{family}"}}', 2)):  # fmt: skip
        s.expect(re.search(rf"(?m)^ovn_bgpd_{re.escape(metric)} {value}(\.0)?\s*$", text), f"the metrics lack {metric} {value}: {re.findall(rf'.*{name}.*', text)}")


def gtsm(s, leaf, on):
    if leaf.kind == "FRR":
        for mine, _ in PAIRS:
            leaf.configure("router bgp 65001", f"{'' if on else 'no '}neighbor {mine} ttl-security hops 1")
    else:
        leaf.configure(s.text("leaf.bird.conf").replace("ttl security on", f"ttl security {'on' if on else 'off'}"))


def second(s, leaf, there):
    """Whether the leaf announces a second prefix a family."""
    if leaf.kind == "FRR":
        for family, word in zip(("ipv4", "ipv6"), SECOND["frr"]):
            leaf.configure("router bgp 65001", f"address-family {family} unicast", f"{'' if there else 'no '}{word}")
        return
    text = s.text("leaf.bird.conf")
    for word in () if there else SECOND["bird"]:
        text = text.replace(word, "")
    leaf.configure(text)
