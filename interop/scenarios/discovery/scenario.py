"""Router advertisements and solicitations of an unnumbered neighbour, as captured beside FRR and BIRD; `remote_as` by number and `auto`.

Four advertisements a second apart, then one every ten seconds, always with lifetime 30: 0 is said when the neighbour is removed by reload,
not when the daemon stops or dies. Solicitations are sent and answered. An address in duplicate address detection is not used yet. A
number that is not the leaf's gets 2/2, in the leaf's words, too.
"""

import socket
import struct
import time

from lab.receiver import socket_within
from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {"frr-10": {"peer": "frr"}, "bird-2.17": {"peer": "bird"}}
TOPOLOGY = Topology(nodes=[Node("host"), Node("leaf")], links=[Link("host:eth1", "leaf:eth1")])
TIME_LIMIT = 120
OURS, DEFAULTS = ("172.30.1.1/32", "f00d::1/128"), ("0.0.0.0/0", "::/0")
NEIGHBOR = '[[bgp.neighbors]]\ninterface = "eth1"\nremote_as = {}\nhold_time = "9s"\nconnect_retry = "1s"'
ROUTERS = "ff02::2"


def run(s):
    host = s["host"]
    own = link_local(host)
    capture = s.capture("host", "eth1", "icmp6 or tcp port 179")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(NEIGHBOR=NEIGHBOR.format('"auto"'))

    def reload(remote_as):
        ours.configure(s.text("host.toml", NEIGHBOR=NEIGHBOR.format(remote_as) if remote_as else ""))
        ours.command("reload")

    def up():
        ours.wait_established("eth1", 45.0)
        for prefix in OURS:
            leaf.wait_route(prefix, 20.0)
        for prefix in DEFAULTS:
            s.expect(ours.wait_learned(prefix, 20.0)["selected"], f"the leaf's {prefix}: {ours.wait_learned(prefix)}")

    def sent(source=own):
        """(when, what, lifetime) of our advertisements and solicitations."""
        lines = capture.decode(f"ipv6.src == {source} && icmpv6.type in {{133, 134}}", "frame.time_epoch", "icmpv6.type", "icmpv6.nd.ra.router_lifetime")
        return [(float(at), {"133": "RS", "134": "RA"}[kind], lifetime) for at, kind, lifetime in lines]

    def advertised(source=own):
        return [at for at, what, _ in sent(source) if what == "RA"]

    s.step('remote_as = "auto": whoever is there')
    up()
    entry = ours.show("neighbors")[0]
    s.equal((entry["remote_as"], entry["kind"]), (65001, "ebgp"), "AS number and kind of who was found")

    s.step("a number that is not the leaf's: 2/2, and the leaf says so")
    reload("65009")
    wait_for("the refusal", lambda: "(2/2)" in str(ours.show("neighbors")[0]["last_error_sent"]), 30.0)
    wait_for("the leaf to have heard it", lambda: heard(leaf, "2/2", "Bad peer AS"), 10.0)
    s.expect(heard(leaf, "6/6", "Other configuration change"), "the leaf's log does not say why the session was reset before")
    s.equal(capture.decode("bgp.type == 3 && bgp.notify.major_error == 2", "bgp.notify.minor_error_open")[0], ["2"], "subcode on the wire")
    s.step("the leaf's own number")
    reload("65001")
    up()

    s.step("four advertisements a second apart, then one every 7.5 to 10 s, but sooner for a leaf that has just appeared")
    first = advertised()[0]
    wait_for("the advertisements of twenty seconds", lambda: advertised()[-1] - first > 14.0, 40.0, 0.5)
    seen = advertised()
    s.say(f"  after the first, in seconds: {[round(at - first, 2) for at in seen]}")
    s.expect(fast(seen), f"the first four: {seen[:4]}")
    gaps = [b - a for a, b in zip(seen[3:], seen[4:])]
    s.expect(all(2.9 < gap < 10.3 for gap in gaps) and gaps[-1] > 7.2, f"the gaps after them: {gaps}")
    said = sent()
    s.equal({lifetime for _, what, lifetime in said if what == "RA"}, {"30"}, "lifetime of our advertisements")
    s.expect(abs(next(at for at, what, _ in said if what == "RS") - first) < 0.5, f"no solicitation at the start: {said[:4]}")
    limits = capture.decode(f"ipv6.src == {own} && icmpv6.type in {{133, 134}}", "ipv6.hlim")
    s.equal({limit for (limit,) in limits}, {"255"}, "hop limit")

    s.step("a solicitation is answered at once; one that has passed a router is not")
    # Between two of the regular ones, and later than three seconds after the last, before which none may follow.
    wait_for("the time between two", lambda: 3.3 < time.time() - advertised()[-1] < 4.8, 25.0)
    for hops, answered in ((64, False), (255, True)):
        asked = time.time()
        solicit(s["leaf"], hops)
        time.sleep(1.0)
        answers = [round(at - asked, 3) for at in advertised() if at > asked]
        s.equal(len(answers), int(answered), f"advertisements after a solicitation with hop limit {hops}: {answers}")

    s.step("stopped, started, killed, started: no goodbye")
    for end in (ours.stop, ours.kill):
        end()
        time.sleep(0.3)
        ours.start()
        up()
    s.equal({lifetime for _, what, lifetime in sent() if what == "RA"}, {"30"}, "lifetime of our advertisements")

    s.step("removed by reload: lifetime 0 once, Cease/3; then nothing")
    reload(None)
    wait_for("the goodbye", lambda: sent()[-1][2] == "0", 10.0)
    for prefix in OURS:
        leaf.wait_gone(prefix, 5.0)
    quiet = time.time()
    time.sleep(3.0)
    s.equal([entry for entry in sent() if entry[0] > quiet], [], "messages of ours to an interface that is no neighbour's")
    s.equal([lifetime for _, what, lifetime in sent() if lifetime == "0"], ["0"], "goodbyes")
    s.equal(ours.show("neighbors"), [], "neighbours left")
    words = capture.decode(f"ipv6.src == {own} && bgp.type == 3", "bgp.notify.major_error", "bgp.notify.minor_error_cease")
    s.equal(words[-1], ["6", "3"], "our last NOTIFICATION: Peer De-configured")

    s.step("added by reload, while its address is in duplicate address detection: not before that is over")
    for key, value in (("all/accept_dad", 1), ("eth1/accept_dad", 1), ("eth1/dad_transmits", 4)):
        host.sysctl(f"net/ipv6/conf/{key}", value)
    host.run("ip -6 addr flush dev eth1 scope link; ip addr add fe80::99/64 dev eth1")
    reload('"external"')
    time.sleep(2.0)
    s.expect("tentative" in host.run("ip -6 addr show dev eth1"), "detection is over already")
    s.equal((sent("fe80::99"), capture.decode("ipv6.src == fe80::99 && tcp", "frame.number")), ([], []), "what we sent from it so far")
    up()
    # Had they been tried before, the kernel would have refused them, and only slow ones were left.
    wait_for("four advertisements from the new address", lambda: len(advertised("fe80::99")) >= 4, 15.0, 0.5)
    s.expect(fast(advertised("fe80::99")), f"the first four from the new address: {advertised('fe80::99')}")


def fast(times):
    """A second apart, but for a host so busy that the first is late."""
    gaps = [b - a for a, b in zip(times, times[1:4])]
    return gaps[0] < 1.5 and all(0.5 < gap < 1.5 for gap in gaps[1:])


def link_local(node):
    return node.run("ip -o -6 addr show dev eth1 scope link").split()[3].split("/")[0]


def heard(leaf, code, words):
    """Whether the leaf has logged a NOTIFICATION of ours: FRR by its code, BIRD in words."""
    return f"received from neighbor eth1 {code}" in leaf.node.log("bgpd") or f"Received: {words}" in leaf.node.log("bird")


def solicit(node, hops):
    def make():
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth1"))
        return raw

    with socket_within(node, make) as raw:
        raw.sendto(struct.pack("!BBHI", 133, 0, 0, 0), (ROUTERS, 0))
