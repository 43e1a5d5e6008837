"""Who says KEEPALIVE and takes nothing is given up after the send-hold time (RFC 9687), by us as by FRR and BIRD; then it goes on.

The leaf is too busy to read: FRR's main thread stands still while its threads for sockets and KEEPALIVEs go on; BIRD has no
threads and is stopped, while its KEEPALIVEs are said on its socket. The hold timer has no reason to complain. Then it is we who do
not read.
"""

import ipaddress
import time

from lab import topology
from lab.capture import Capture
from lab.shell import wait_for
from lab.stuck import MainThreadStopped, StoppedButAlive

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 180
OURS, THEIRS = "fd00:1::2", "fd00:1::1"
LEARNED, NEW = "2001:db8:51::/48", "f00d:2::1/128"
HOLD, SEND_HOLD, LEAFS_SEND_HOLD = 9.0, 20.0, 18.0  # the leaf's: twice the hold time
# Host routes, 17 octets each: more than the sockets of both ends take, and the 10 messages of 64 kB that bgpd's I/O thread takes besides.
KEEPALIVE_LENGTH = 19
OURS_MANY, THEIRS_MANY = 80_000, 40_000


def run(s):
    for node in (s["host"], s["leaf"]):
        node.sysctl("net/ipv4/tcp_rmem", "4096 65536 131072")
        node.sysctl("net/ipv4/tcp_wmem", "4096 65536 131072")
    capture = Capture(s["host"], "eth1")  # tshark calls messages above 4096 octets malformed: nobody asks it
    capture.start()
    frr = s.parameters["peer"] == "frr"
    if frr:  # before zebra is there: it misses some of so many changes at once
        s["leaf"].run(["ip", "-6", "-batch", "-"], stdin="".join(f"route add blackhole {prefix}\n" for prefix in theirs()))
    leaf = s.peer(s.parameters["peer"], **({} if frr else {"MORE": ""}))
    ours = s.ours(SEND_HOLD=f"{SEND_HOLD:g}s")
    up(s, leaf, ours)
    s.equal(neighbor(ours)["timers"]["send_hold_seconds"], SEND_HOLD, "the send-hold time in force")

    s.step("the leaf takes nothing: the session stays up beyond the hold time, and ends after the send-hold time")
    with MainThreadStopped(leaf.node, "bgpd") if frr else StoppedButAlive(leaf.node, "bird", OURS):
        ours.node.write("/lab/more/many.txt", "".join(f"{host('f00d:1', number)}\n" for number in range(OURS_MANY)))
        started = time.monotonic()
        ours.command("reload")
        took = ended(s, lambda: ours.established(THEIRS), started, SEND_HOLD)
        s.say(f"  the session ended after {took:.1f} s")
        shown(s, capture, time.time() - took, time.time())
        entry = neighbor(ours)
        why = f"Send Hold Timer Expired (8/0): it has taken nothing from its connection for {SEND_HOLD:g} s"
        s.equal(entry["last_error_sent"], why, "the last error sent")
        s.equal(entry["lost_count"], 1, "how often the session was lost")
        s.expect(why in ours.node.log("ovn-bgpd"), f"the log does not say why: {ours.node.log('ovn-bgpd')[-1500:]}")
        metrics(s, ours, up=0, lost=1)
        wait_for("the leaf's route to leave the kernel", lambda: not installed(ours), 5.0)
        ours.node.write("/lab/more/many.txt", f"{NEW}\n")
        ours.command("reload")
    s.step("it goes on: the session comes back, and the leaf has what is new")
    up(s, leaf, ours)
    leaf.wait_route(NEW, 20.0)

    s.step(f"we take nothing: {leaf.kind} ends the session after its send-hold time")
    lost = neighbor(ours)["lost_count"]
    with StoppedButAlive(ours.node, "ovn-bgpd", THEIRS):
        started = time.monotonic()
        announce_many(s, leaf)
        words = "SendQ progress for 2" if frr else "Send hold timer expired"
        log = lambda: leaf.node.log("bgpd" if frr else "bird")  # noqa: E731
        before = log().count(words)  # BIRD logs ours in the same words, if it could still be told
        took = ended(s, lambda: log().count(words) == before, started, LEAFS_SEND_HOLD)
        s.say(f"  the session ended after {took:.1f} s; the leaf says: {'; '.join(leaf.sessions())}")
    s.step("we go on: the session comes back, and we have what we did not take")
    if frr:  # 10.3 takes its session for established after its own 8/0, and refuses every connection (6/7) until it is told
        leaf.vtysh(f"clear bgp {OURS}")
    up(s, leaf, ours)
    s.equal(neighbor(ours)["lost_count"], lost + 1, "how often the session was lost")
    s.say(f"  we say: {neighbor(ours)['last_error_received']}; {neighbor(ours)['last_reason']}")
    ours.wait_learned(host("2001:db8:52", THEIRS_MANY - 1), 30.0)


def up(s, leaf, ours):
    ours.wait_established(THEIRS, 60.0)
    leaf.wait_established(OURS)
    wait_for("the leaf's route in the kernel", lambda: installed(ours), 10.0)


def ended(s, established, started, limit):
    """How long a session lasted that nobody reads from any more: longer than the hold time, no longer than it may."""
    while time.monotonic() < started + limit - HOLD / 3 - 1.0:  # its timer began with its last message: a KEEPALIVE's time before
        s.expect(established(), f"the session was lost after {time.monotonic() - started:.1f} s, hold time {HOLD:g} s")
        time.sleep(0.5)
    wait_for("the session to end", lambda: not established(), 15.0)
    return time.monotonic() - started


def host(network, number):
    return str(ipaddress.ip_network(f"{network}::{number >> 16:x}:{number & 0xFFFF:x}/128"))


def neighbor(ours):
    return ours.show("neighbors")[0]


def installed(ours):
    return ours.node.run(f"ip -6 route show {LEARNED} proto bgp")


def theirs():
    return [host("2001:db8:52", number) for number in range(THEIRS_MANY)]


def announce_many(s, leaf):
    if leaf.kind == "FRR":
        leaf.configure("ipv6 prefix-list ours seq 10 permit 2001:db8:52::/48 le 128")
    else:
        leaf.configure(s.text("leaf.bird.conf", MORE=" ".join(f"route {prefix} blackhole;" for prefix in theirs())))


def metrics(s, ours, **wanted):
    scrape = r"exec 3<>/dev/tcp/127.0.0.1/9179; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3"
    text = ours.node.run(["bash", "-c", scrape])
    for name, value in wanted.items():
        line = f'ovn_bgpd_neighbor_{name}{"" if name == "up" else "_total"}{{neighbor="{THEIRS}"}} {value}'
        s.expect(line in text, f"the metrics lack {line}")


def shown(s, capture, since, until):
    """On the wire, in the seconds before the end: the leaf's window is closed, and its KEEPALIVEs come all the same."""
    late = f"ipv6.src == {THEIRS} && frame.time_epoch > {since + HOLD:.3f} && frame.time_epoch < {until - 1.0:.3f}"
    alive = capture.decode(f"{late} && tcp.len == {KEEPALIVE_LENGTH}", "frame.number")
    windows = {window for (window,) in capture.decode(late, "tcp.window_size")}
    s.expect(len(alive) >= 3 and windows == {"0"}, f"{len(alive)} KEEPALIVEs of the leaf after the hold time, windows {windows}")
