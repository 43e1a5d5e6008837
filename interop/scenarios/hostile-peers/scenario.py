"""Strangers that dribble, fall silent, vanish, dial fifty times a second or never read: the session with a real leaf does not notice.

Whole messages arrive octet by octet and are understood. Connections that say nothing are few and end. Whoever dials over and over gets
nothing for it. What is announced to one that does not read waits for him alone. Memory, descriptors and the log stay small, and FRR
and BIRD hear from us on time all the while.
"""

import contextlib
import socket
import struct
import time

from lab import topology
from lab.capture import Capture
from lab.receiver import message, open_message, socket_within
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 120
LEAF, US, MANY, TIMES, SECONDS = "fd00:1::1", "10.0.3.2", 5000, 50, 4
DRIBBLES, SILENT, VANISHES, DIALS, UNKNOWN = (f"10.0.3.{n}" for n in range(11, 16))
KEEPALIVE = message(4, b"")


def run(s):
    host = s["host"]
    host.run(f"ip addr add {US}/24 dev eth1")
    s["leaf"].run("; ".join(f"ip addr add {address}/24 dev eth1" for address in (DRIBBLES, SILENT, VANISHES, DIALS, UNKNOWN)))
    # Some of what FRR gets is longer than tshark can decode: not one of those that are looked at for malformed messages.
    capture = Capture(host, "eth1", "tcp port 179 and ip6 and src host fd00:1::2")
    capture.start()
    leaf = s.peer(s.parameters["peer"])
    many(s, 0)
    ours = s.ours()
    ours.wait_established(LEAF)
    leaf.wait_established("fd00:1::2")
    ours.wait_learned("::/0")

    def neighbor(address):
        return next(n for n in ours.show("neighbors") if n["neighbor"] == address)

    def descriptors():
        return int(host.run(f"ls /proc/{host.daemon_pid(ours.name)}/fd | wc -l"))

    begun, quiet, few, said = time.time(), ours.resident_kib(), descriptors(), len(host.log(ours.name))

    s.step("one octet at a time: OPEN, KEEPALIVE, UPDATE are understood")
    dribble = dial(s, DRIBBLES)
    for octet in open_message(65009, "10.0.3.11", 180) + KEEPALIVE + announcement(DRIBBLES):
        dribble.sendall(bytes([octet]))
        time.sleep(0.002)
    wait_for("the route", lambda: ours.wait_learned("192.0.2.1/32")["selected"], 10.0)

    s.step("two hundred connections that say nothing, from one neighbour: few are open at a time, and the last one ends")
    silent = [dial(s, SILENT) for _ in range(200)]
    wait_for("all but few to be closed", lambda: descriptors() <= few + 6, 10.0)
    for one in silent:
        one.close()

    s.step("a peer with a session whose host vanishes without a word: the hold timer ends it")
    gone = dial(s, VANISHES)
    gone.sendall(open_message(65009, "10.0.3.13", 3) + KEEPALIVE)
    ours.wait_established(VANISHES)
    s["leaf"].run(f"ip addr del {VANISHES}/24 dev eth1")
    wait_for("the session to end", lambda: "(4/0)" in str(neighbor(VANISHES)["last_error_sent"]), 15.0)
    gone.close()

    s.step(f"{TIMES} connections a second for {SECONDS} s, by a neighbour and by nobody we know, each with an OPEN")
    used = host.cpu_seconds(ours.name)
    started = time.monotonic()
    dialled = 0
    while time.monotonic() < started + SECONDS:
        for who in (DIALS, UNKNOWN):
            with contextlib.suppress(OSError), contextlib.closing(dial(s, who)) as again:
                again.sendall(open_message(65009, "10.0.3.14", 180))
            dialled += 1
        time.sleep(max(0.0, started + dialled / (2 * TIMES) - time.monotonic()))
    s.say(f"  {dialled} connections in {time.monotonic() - started:.1f} s took {host.cpu_seconds(ours.name) - used:.2f} s of processor time")
    s.expect(dialled > 1.5 * TIMES * SECONDS, f"only {dialled} connections were made")
    wait_for("descriptors to be few again", lambda: descriptors() <= few + 6, 10.0)

    s.step(f"{MANY} routes, and {MANY} others instead, five times, for one that never reads; the leaf has the last ones")
    grown = []
    for turn in range(1, 6):
        many(s, turn)
        ours.command("reload")
        wait_for("the leaf's TCP to have all", lambda: settled(neighbor(LEAF), MANY + 1), 30.0)
        grown.append(ours.resident_kib() - quiet)
        dribble.sendall(KEEPALIVE)
    s.say(f"  resident memory: {quiet} KiB before, then {grown} KiB more")
    s.expect(neighbor(DRIBBLES)["state"] == "Established", f"the one that does not read: {neighbor(DRIBBLES)}")
    s.expect(grown[-1] < grown[1] + 2048, f"it grows with every turn: {grown} KiB")
    have = leaf.routes()
    s.equal((len(have), f"2001:db8:5::{MANY:x}/128" in have), (MANY + 1, True), "routes of the leaf, and whether they are the last ones")

    s.step("the real leaf never noticed, and the log is short")
    s.equal((neighbor(LEAF)["established_count"], neighbor(LEAF)["lost_count"]), (1, 0), "sessions with the leaf")
    log = host.log(ours.name)[said:]
    s.expect(log.count("\n") < 150, f"{log.count(chr(10))} lines of log:\n{log[-1500:]}")
    capture.stop()
    ended = time.time()
    beats = [float(at) for (at,) in capture.decode("tcp.len > 0", "frame.time_epoch")]
    beats = [begun, *(at for at in beats if at > begun), ended]
    longest = max(b - a for a, b in zip(beats, beats[1:]))
    s.say(f"  longest silence towards the leaf: {longest:.1f} s; a KEEPALIVE is due every 3 s")
    s.expect(longest < 4.5, f"the leaf heard nothing for {longest:.1f} s; a KEEPALIVE is due every 3 s")


def dial(s, address):
    def make():
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(5.0)
        made.bind((address, 0))
        made.connect((US, 179))
        return made

    return socket_within(s["leaf"], make)


def announcement(next_hop):
    """192.0.2.1/32."""
    path = bytes([0x40, 2, 6, 2, 1]) + struct.pack("!I", 65009)
    attributes = bytes([0x40, 1, 1, 0]) + path + bytes([0x40, 3, 4]) + socket.inet_aton(next_hop)
    return message(2, struct.pack("!HH", 0, len(attributes)) + attributes + bytes([32]) + socket.inet_aton("192.0.2.1"))


def many(s, turn):
    """What is announced: nothing more at first, then other routes each time."""
    six = "".join(f"2001:db8:{turn}::{n:x}/128\n10.{turn}.{n >> 8}.{n & 255}/32\n" for n in range(1, MANY + 1)) if turn else ""
    s["host"].write("/lab/many.txt", six)


def settled(neighbor, count):
    (family,) = [f for f in neighbor["families"] if f["negotiated"]]
    return (family["advertised"], family["pending"]) == (count, 0)
