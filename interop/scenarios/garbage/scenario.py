"""A peer that sends garbage gets the right NOTIFICATION and a log line; the other session does not notice.

The leaf's IPv4 address is a socket that answers with what no speaker should; its IPv6 address is a well-behaved listener.
"""

import socket
import struct

from lab import topology
from lab.receiver import Receiver, listening_socket, message, open_message
from lab.shell import LabError

TOPOLOGY = topology.pair()

ASN = 65001
GOOD_OPEN = open_message(ASN, "10.0.1.1", 180)
KEEPALIVE = message(4, b"")

CASES = [
    ("a marker that is not all ones", b"\x00" * 16 + b"\x00\x13\x04", (1, 1)),
    ("a length below 19", b"\xff" * 16 + b"\x00\x12\x04", (1, 2)),
    ("a length above 4096", b"\xff" * 16 + b"\xff\xff\x02", (1, 2)),
    ("an unknown message type", b"\xff" * 16 + b"\x00\x13\x09", (1, 3)),
    ("BGP version 3", message(1, struct.pack("!BHH4sB", 3, ASN, 180, socket.inet_aton("10.0.1.1"), 0)), (2, 1)),
    ("somebody else's AS", open_message(65009, "10.0.1.1", 180), (2, 2)),
    ("router id 0.0.0.0", open_message(ASN, "0.0.0.0", 180), (2, 3)),
    ("a hold time of 1 s", open_message(ASN, "10.0.1.1", 1), (2, 6)),
    ("an UPDATE instead of an OPEN", message(2, b"\x00\x00\x00\x00"), (5, None)),
    ("an UPDATE whose lengths do not add up", GOOD_OPEN + KEEPALIVE + message(2, b"\x00\x00\xff\xff"), (3, 1)),
]


def run(s):
    bad = listening_socket(s["leaf"], "10.0.1.1")
    bad.settimeout(15.0)
    good = Receiver(s["leaf"], "fd00:1::1", ASN)
    capture = s.capture("host", "eth1", "tcp port 179 and ip6")
    ours = s.ours()
    good.wait(lambda: good.established > 0, 15.0, "the good session")
    for what, octets, (code, subcode) in CASES:
        s.step(f"{what}: NOTIFICATION {code}/{subcode if subcode is not None else 'any'}")
        sessions = good.established
        answer = provoke(bad, octets)
        s.equal(good.established, sessions, "sessions of the well-behaved peer")
        ours.wait_established("fd00:1::1")
        s.expect(answer is not None, f"{what}: the connection ended without a NOTIFICATION")
        s.expect(answer[0] == code and subcode in (None, answer[1]), f"{what}: answered with NOTIFICATION {answer[0]}/{answer[1]}, not {code}/{subcode}")
        ours.kill()  # a new process has not backed off from this peer
        ours.start()
        good.wait(lambda n=sessions: good.established > n, 15.0, "the good session after the restart")
    s.expect("10.0.1.1" in ours.node.log(ours.name), "the log does not name the peer")
    capture.stop()


def provoke(server, octets):
    """Accepts a connection, reads the OPEN, says something wrong and returns the NOTIFICATION that comes back."""
    try:
        connection, _ = server.accept()
    except TimeoutError as late:
        raise LabError("our speaker did not dial again within 15 s") from late
    with connection:
        connection.settimeout(5.0)
        connection.sendall(octets)
        data = b""
        try:
            while chunk := connection.recv(65536):
                data += chunk
        except OSError:
            pass
    at = 0
    while len(data) - at >= 19:
        length = struct.unpack_from("!H", data, at + 16)[0]
        if data[at + 18] == 3:
            return data[at + 19], data[at + 20]
        at += max(length, 19)
    return None
