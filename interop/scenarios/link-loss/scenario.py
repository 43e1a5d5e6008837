"""A session ends with its link: carrier lost, own link-local address taken away, interface deleted; not with the hold time (90 s).

Numbered eBGP, unnumbered eBGP and unnumbered iBGP with FRR, unnumbered eBGP with BIRD. When the link is back the session comes back by itself.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "numbered": {"host": 'address = "10.0.1.1"\nremote_as = 65001', "leaf": ("65001", "10.0.1.2", "10.0.1.2 remote-as 64999")},
    "unnumbered": {"host": 'interface = "eth1"\nremote_as = "external"', "leaf": ("65001", "eth1", "eth1 interface v6only remote-as external")},
    "unnumbered-bird-2.17": {"host": 'interface = "eth1"\nremote_as = "external"', "leaf": None},
    "internal": {"host": 'interface = "eth1"\nremote_as = "internal"', "leaf": ("64999", "eth1", "eth1 interface v6only remote-as internal")},
}  # fmt: skip
TOPOLOGY = topology.pair
TIME_LIMIT = 120
# Far below the hold time of 90 s, far above what it takes.
AT_ONCE = 20.0


def run(s):
    theirs = "10.0.1.1" if "10." in s.parameters["host"] else "eth1"
    if s.parameters["leaf"]:
        asn, neighbor, declared = s.parameters["leaf"]
        s.frr(ASN=asn, NEIGHBOR=neighbor, DECLARED=declared)
    else:
        s.bird()
    ours = s.ours(NEIGHBOR=s.parameters["host"])

    def up():
        ours.wait_established(theirs, 45.0)
        ours.wait_learned("198.51.100.0/24", 20.0)

    def down(reason):
        def ended():
            entry = ours.show("neighbors")[0]
            return entry["state"] != "Established" and ours.show("learned") == []

        wait_for(f"the session to end: {reason}", ended, AT_ONCE)
        log = ours.node.log(ours.name)
        s.expect(reason in log, f"the log does not say {reason!r}:\n{log[-1500:]}")

    up()
    s.step("the leaf's port goes down: no carrier here")
    s["leaf"].run("ip link set eth1 down")
    down("no carrier")
    s["leaf"].run("ip link set eth1 up")
    up()
    s.step("our own port is shut")
    s["host"].run("ip link set eth1 down")
    down("interface eth1")
    s["host"].run("ip link set eth1 up")
    up()
    if theirs == "eth1":
        s.step("our link-local address is taken away, and another given")
        s["host"].run("ip -6 addr flush dev eth1 scope link")
        down("our address fe80:")
        s["host"].run("ip addr add fe80::99/64 dev eth1 nodad")
        up()
    s.step("the interface is deleted")
    s["host"].run("ip link del eth1")
    down("interface eth1")
