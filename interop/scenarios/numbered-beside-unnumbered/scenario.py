"""A numbered IPv6 session beside an unnumbered one on the same link, each with its MD5 password: the leaf dials, and has to sign both.

FRR dials both, BIRD the numbered one. An interface with a password has a listening socket of its own, to which the kernel gives whatever comes in there.
"""

from lab import topology
from lab.shell import LabError, wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"], PASSWORD="")
    ours = s.ours()
    ours.wait_established("eth1", 45.0)
    s.step("the leaf does not sign the numbered session: none comes about, while the other is up")
    try:
        wait_for("a session", lambda: ours.established("fd00:1::1"), 4.0)
    except LabError:
        pass
    else:
        s.expect(False, "an unsigned connection became a session")
    s.step("with its password it comes up")
    if leaf.kind == "FRR":
        leaf.configure("router bgp 65001", "neighbor fd00:1::2 password of-the-address")
    else:
        leaf.configure(s.text("leaf.bird.conf", PASSWORD='password "of-the-address";'))
    ours.wait_established("fd00:1::1", 45.0)
    leaf.wait_established("fd00:1::2")
    hops = leaf.wait_route("f00d::1/128").next_hops
    s.expect(any(hop == "fd00:1::2" or hop.startswith("fe80:") for hop in hops), f"next hops at the leaf: {hops}")
    s.expect(ours.established("eth1"), "the session without numbers suffered")
    capture.stop()
    s.equal(capture.decode("bgp && !(tcp.option_kind == 19)", "frame.number"), [], "BGP packets without the MD5 option")
    s.expect(capture.decode("tcp.flags.syn == 1 && ipv6.src == fd00:1::1 && !(tcp.option_kind == 19)", "frame.number"), "the leaf never dialled unsigned")
