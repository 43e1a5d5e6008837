"""The host's address changes under a session: the leaf has the new next hop alone within a few seconds, not after the hold time of 30 s.

First an address goes and is back in a moment: nothing happens. Then another takes its place: the leaf is told, and takes the new session
from whoever dials from its network, or from the link. Last the global IPv6 address changes that is only a next hop: the routes are sent
again on the session there is.
"""

import time

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

V4, V6 = "172.30.1.1/32", "f00d::1/128"
SESSIONS = {
    "unnumbered": {
        "host": {"NEIGHBOR": 'interface = "eth1"', "FAMILIES": '"ipv4", "ipv6"'},
        "frr": {"DECLARED": "neighbor eth1 interface v6only peer-group hosts"},
        "bird": {"LOCAL": "", "RANGE": "fe80::/10"},
        "addresses": ("fe80::2/64", "fe80::9/64"),
        "hops": ({V4: "fe80::2", V6: "fe80::2"}, {V4: "fe80::9", V6: "fe80::9"}),
        "later": {V4: "fd00:1::%s", V6: "fd00:1::%s"},
    },
    "ipv4": {
        "host": {"NEIGHBOR": 'address = "10.0.1.1"', "FAMILIES": '"ipv4", "ipv6"'},
        "frr": {"DECLARED": "bgp listen range 10.0.1.0/24 peer-group hosts"},
        "bird": {"LOCAL": "10.0.1.1", "RANGE": "10.0.1.0/24"},
        "addresses": ("10.0.1.2/24", "10.0.1.9/24"),
        "hops": ({V4: "10.0.1.2"}, {V4: "10.0.1.9"}),
        "later": {V4: "10.0.1.9", V6: "fd00:1::%s"},
    },
    "ipv6": {
        "host": {"NEIGHBOR": 'address = "fd00:1::1"', "FAMILIES": '"ipv6"'},
        "frr": {"DECLARED": "bgp listen range fd00:1::/64 peer-group hosts"},
        "bird": {"LOCAL": "fd00:1::1", "RANGE": "fd00:1::/64"},
        "addresses": ("fd00:1::2/64", "fd00:1::9/64"),
        "hops": ({V6: "fd00:1::2"}, {V6: "fd00:1::9"}),
        "later": None,
    },
}
VARIANTS = {f"{name}-{peer}": {"session": name, "peer": peer.split("-")[0]} for name in SESSIONS for peer in ("frr-10", "bird-2.17")}
VARIANTS |= {"ipv4-md5-frr-10": {"session": "ipv4", "peer": "frr", "password": "between-us"}}
# The hold time, with a keepalive interval less at the earliest, is what it took when the leaf had to find out.
AT_ONCE = 5.0
TIME_LIMIT = 120
TOPOLOGY = Topology(nodes=[Node("host"), Node("leaf")], links=[Link("host:eth1", "leaf:eth1 10.0.1.1/24 fd00:1::1/64")])


def run(s):
    session, password = SESSIONS[s.parameters["session"]], s.parameters.get("password")
    old, new = session["addresses"]
    change = s["host"].run
    s.capture("host", "eth1")
    if s.parameters["session"] == "unnumbered":
        change("ip -6 addr flush dev eth1 scope link")
    change(f"ip addr add {old} dev eth1 {nodad(old)}")
    leaf = s.peer(s.parameters["peer"], **peer_values(s.parameters["peer"], session, password))
    ours = s.ours(**session["host"], PASSWORD=f'password = "{password}"' if password else "")
    ours.wait_established(name(session), 60.0)
    before, after = session["hops"]
    followed(s, leaf, before, 10.0)
    s.step("the address is away for a moment: nothing happens")
    undisturbed = same_session(s, ours)
    change(f"ip addr del {old} dev eth1; sleep 0.4; ip addr add {old} dev eth1 {nodad(old)}")
    stays(s, leaf, before, 4.0)
    undisturbed()
    s.step("another address takes its place")
    # The second address of a network goes with the first.
    change(f"ip addr del {old} dev eth1; ip addr add {new} dev eth1 {nodad(new)}")
    followed(s, leaf, after, AT_ONCE)
    ours.wait_established(name(session), 10.0)
    said = ours.show("neighbors")[0]["last_error_sent"]
    s.say(f"  we had said {said}")
    s.expect("Other Configuration Change (6/6)" in said, f"the leaf was told {said}")
    if later := session["later"]:
        s.step("a global IPv6 address, then another: only next hops, told on the session there is")
        undisturbed = same_session(s, ours)
        change("ip addr add fd00:1::5/64 dev eth1 nodad")
        followed(s, leaf, {prefix: hop.replace("%s", "5") for prefix, hop in later.items()}, AT_ONCE)
        change("ip addr del fd00:1::5/64 dev eth1; ip addr add fd00:1::6/64 dev eth1 nodad")
        followed(s, leaf, {prefix: hop.replace("%s", "6") for prefix, hop in later.items()}, AT_ONCE)
        undisturbed()


def name(session):
    return session["host"]["NEIGHBOR"].split('"')[1]


def nodad(address):
    return "nodad" if ":" in address else ""


def peer_values(peer, session, password):
    if peer == "bird":
        return session["bird"] | {"PASSWORD": ""}
    declared = session["frr"]["DECLARED"]
    return {"DECLARED": f"{declared}\n neighbor hosts password {password}" if password else declared}


def same_session(s, ours):
    """Checks, when called, that the session is the one it was."""
    times = ours.show("neighbors")[0]["established_count"]

    def check():
        entry = ours.show("neighbors")[0]
        s.equal((entry["state"], entry["established_count"]), ("Established", times), "the session and how often it came up")

    return check


def has(leaf, hops):
    """Whether the leaf has these next hops for our routes and no others; link-local ones beside a global one do not count, nor `::` before one."""
    routes = leaf.routes()
    seen = {prefix: {hop for hop in routes[prefix].next_hops if hop == wanted or not hop.startswith(("fe80:", "::"))}
            for prefix, wanted in hops.items() if prefix in routes}  # fmt: skip
    if seen != {prefix: {wanted} for prefix, wanted in hops.items()}:
        raise LabError(f"the leaf has {seen}")
    return True


def followed(s, leaf, hops, limit):
    started = time.monotonic()
    wait_for(f"the leaf to have {hops}", lambda: has(leaf, hops), limit)
    s.say(f"  after {time.monotonic() - started:.1f} s")


def stays(s, leaf, hops, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        has(leaf, hops)
        time.sleep(0.2)
