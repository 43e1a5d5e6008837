"""Listen ranges: FRR and BIRD dial us and are neighbours nobody configured, with and without MD5; they go with their session.

The password of a range is one key for its prefix: a wrong one gives no session. A range that is full turns the next one away and says so.
"""

from lab import topology
from lab.shell import wait_for

PEERS = {"frr-10": ("frr", "cloud"), "bird-2.17": ("bird", "cloud"), "bird-3.1": ("bird", "peers")}
VARIANTS = {
    f"{name}-{auth}": {"peer": peer, "auth": auth, "topology": {"image_b": image}}
    for name, (peer, image) in PEERS.items()
    for auth in ("open", "md5")
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
RANGES = {"10.0.1.1": "10.0.1.0/28", "fd00:1::1": "fd00:1::/64"}


def run(s):
    capture = s.capture("host", "eth1")
    md5 = s.parameters["auth"] == "md5"
    frr = s.parameters["peer"] == "frr"
    s.step("we wait; there is no neighbour at all")
    ours = s.ours(PASSWORD='password = "another-one"' if md5 else "")
    s.equal(ours.show("neighbors"), [], "neighbours before anybody has dialled")
    if frr:
        lines = [f"neighbor {a} password between-us" for a in ("10.0.1.2", "fd00:1::2")] if md5 else []
        leaf = s.peer("frr", PASSWORD="\n ".join(["!", *lines]))
    else:
        leaf = s.peer("bird", PASSWORD='password "between-us";' if md5 else "")
    if md5:
        s.step("the wrong password: no connection")
        wait_for("the kernel to have refused a signature", lambda: refused(s), 30.0)
        s.equal(ours.show("neighbors"), [], "neighbours with the wrong password")
        s.step("the right password, by reload")
        ours.configure(s.text("host.toml", PASSWORD='password = "between-us"'))
        ours.command("reload")
    for mine in ("10.0.1.2", "fd00:1::2"):
        leaf.wait_established(mine, 60.0)
    s.step("both are neighbours now, and say where they came from")
    for theirs, prefix in RANGES.items():
        ours.wait_established(theirs)
        entry = next(entry for entry in ours.show("neighbors") if entry["neighbor"] == theirs)
        seen = (entry["dynamic"], entry["listen_range"], entry["peer_group"], entry["security"]["md5"], entry["remote_as"])
        s.equal(seen, (True, prefix, "leaf", md5, 65001), f"{theirs} in `show neighbors`")
    for prefix in ("172.30.1.1/32", "f00d::1/128"):
        leaf.wait_route(prefix)
    ours.wait_learned("0.0.0.0/0")
    ours.wait_learned("::/0")
    if not md5:
        s.step("the IPv4 range is full: the next one is turned away")
        s["host"].run("ip route add 10.0.1.9 dev eth1")
        s["leaf"].run("ip addr add 10.0.1.9/32 dev eth1 && ip route add 10.0.1.2/32 dev eth1 src 10.0.1.9")
        heard = s["leaf"].run(["bash", "-c", "exec 3<>/dev/tcp/10.0.1.2/179; timeout 10 cat <&3 | wc -c"], timeout=20.0)
        s.equal(heard.strip(), "0", "octets for one whom the range has no room for")
        wait_for("the log to say so", lambda: "10.0.1.9 was turned away: listen range 10.0.1.0/28" in ours.node.log(ours.name), 10.0)
    capture.stop()
    if md5:
        s.step("every BGP segment carries the option")
        s.equal(capture.decode("bgp && !(tcp.option_kind == 19)", "frame.number", "ip.src"), [], "BGP packets without it")
    s.step("the leaf ends its sessions: nobody is left")
    leaf.node.stop("bgpd" if frr else "bird")
    wait_for("the neighbours to be forgotten", lambda: ours.show("neighbors") == [], 20.0)
    s.equal(ours.show("learned"), [], "routes of neighbours that are gone")


def refused(s):
    """Segments the host's kernel dropped for a signature that does not fit."""
    counters = s["host"].run("cat /proc/net/netstat").splitlines()
    names, values = (line.split() for line in counters if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["TCPMD5Failure"]) > 0
