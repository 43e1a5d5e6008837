"""TCP MD5 (RFC 2385) with FRR and BIRD: every segment is signed; a wrong password, or one on one side only, gives no session.

`show neighbors` says then that the kernel drops signatures, and asks for the passwords. The right one may stand in a file.
"""

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-2.0": {"peer": "bird", "topology": {"image_b": "oldstable"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    s.step("a wrong password: no session, and the state says that we keep trying")
    ours = s.ours(PASSWORD="the-wrong-one")
    try:
        wait_for("a session", lambda: ours.established("10.0.1.1"), 4.0)
    except Exception:  # noqa: BLE001 - it must not come up
        pass
    else:
        s.expect(False, "a session came up with the wrong password")
    told(ours)
    s.step("none on our side: the same")
    ours.configure("\n".join(line for line in s.text("host.toml", PASSWORD="").splitlines() if "password" not in line) + "\n")
    ours.command("reload")
    told(ours, more_than=max(entry["security"]["signature_failures"] for entry in ours.show("neighbors")))
    s.step("the right one, from a file, and none on the leaf's side: the same")
    ours.stop()  # or both would be without one for a moment
    sign(s, leaf, False)
    ours.node.write("/lab/secret", "the-right-one\n", mode=0o600)
    ours.configure(s.text("host.toml", PASSWORD="").replace('password = ""', 'password_file = "/lab/secret"'))
    ours.start()
    told(ours)
    s.step("on both sides: sessions")
    sign(s, leaf, True)
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    leaf.wait_route("172.30.1.1/32")
    leaf.wait_route("f00d::1/128")
    s.step("every BGP segment of the sessions carries the option")
    capture.stop()
    unsigned = capture.decode("bgp && !(tcp.option_kind == 19)", "frame.number", "ip.src", "ipv6.src")
    s.equal(unsigned, [], "BGP packets without the MD5 option")
    s.expect("the-right-one" not in ours.node.log(ours.name), "the password is in the log")
    s.expect("the-right-one" not in ours.command("show", "neighbors", "--json"), "the password is in `show neighbors`")


def sign(s, leaf, on):
    if leaf.kind == "FRR":
        for mine in ("10.0.1.2", "fd00:1::2"):
            leaf.configure("router bgp 65001", f"neighbor {mine} password the-right-one" if on else f"no neighbor {mine} password")
    else:
        leaf.configure(s.text("leaf.bird.conf").replace("" if on else 'password "the-right-one";', ""))


def told(ours, more_than=0):
    """`show neighbors` has something to say about signatures."""

    def look():
        entries = ours.show("neighbors")
        return all(
            entry["security"]["signature_failures"] > more_than and "password the same on both sides" in str(entry["last_reason"])
            for entry in entries
        )

    wait_for("`show neighbors` to ask for the passwords", look, 30.0)
