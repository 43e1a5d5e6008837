"""A cable with a fault: forwards Ethernet frames between two interfaces and changes BGP messages one way on their path.

Run by `interop/run --sabotage` inside a node of its own between our host and the leaf, as

    python3 mangle.py HOST_SIDE LEAF_SIDE FAULT

Every change keeps the length, so that TCP does not notice; the checksum is made right again. Nothing of what is tested
knows about it: the product sends what it always sends, and the leaf sees something else.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator

MARKER = b"\xff" * 16
OPEN, UPDATE = 1, 2
CAPABILITIES = 2  # optional parameter, RFC 5492


def attributes(message: bytearray) -> Iterator[tuple[int, int, int]]:
    """Type, offset of the value and its length, of every path attribute of an UPDATE (header included)."""
    at = 19
    at += 2 + struct.unpack_from("!H", message, at)[0]
    end = at + 2 + struct.unpack_from("!H", message, at)[0]
    at += 2
    while at + 3 <= end:
        extended = message[at] & 0x10
        length = struct.unpack_from("!H", message, at + 2)[0] if extended else message[at + 2]
        value = at + (4 if extended else 3)
        yield message[at + 1], value, length
        at = value + length


def capabilities(message: bytearray) -> Iterator[tuple[int, int, int]]:
    """Code, offset of the value and its length, of every capability of an OPEN (header included)."""
    at, end = 29, 29 + message[28]
    while at + 2 <= end:
        kind, length = message[at], message[at + 1]
        inner = at + 2
        while kind == CAPABILITIES and inner + 2 <= at + 2 + length:
            yield message[inner], inner + 2, message[inner + 1]
            inner += 2 + message[inner + 1]
        at += 2 + length


def next_hop(message: bytearray) -> bool:
    """NEXT_HOP, and the global next hop in MP_REACH_NLRI, become a neighbour's: another subnet."""
    changed = False
    if message[18] == UPDATE:
        for kind, at, length in attributes(message):
            if kind == 3 and length == 4:
                message[at + 2] = 9  # 10.0.1.2 is now 10.0.9.2
                changed = True
            elif kind == 14 and message[at + 3] in (16, 32) and message[at + 4] != 0xFE:
                message[at + 4 + 15] = 9  # fd00:1::2 is now fd00:1::9
                changed = True
    return changed


def capability(wanted: int, offset: int, bit: int) -> Callable[[bytearray], bool]:
    """One bit of one byte of one capability."""

    def flip(message: bytearray) -> bool:
        changed = False
        if message[18] == OPEN:
            for code, at, length in capabilities(message):
                if code == wanted and length > offset:
                    message[at + offset] ^= bit
                    changed = True
        return changed

    return flip


def unknown_capability(wanted: int) -> Callable[[bytearray], bool]:
    """A capability without a value becomes one that nobody knows."""

    def change(message: bytearray) -> bool:
        changed = False
        if message[18] == OPEN:
            for code, at, _ in list(capabilities(message)):
                if code == wanted:
                    message[at - 2] = 250
                    changed = True
        return changed

    return change


def as4_path(message: bytearray) -> bool:
    """One bit of the last AS number in AS4_PATH."""
    changed = False
    if message[18] == UPDATE:
        for kind, at, length in attributes(message):
            if kind == 17 and length:
                message[at + length - 1] ^= 0x01
                changed = True
    return changed


def origin(message: bytearray) -> bool:
    """The first attribute, ORIGIN, takes a value that no RFC knows."""
    changed = False
    if message[18] == UPDATE:
        for kind, at, _ in attributes(message):
            if kind == 1:
                message[at] = 9
                changed = True
    return changed


def nlri(message: bytearray) -> bool:
    """The first IPv4 prefix of an UPDATE claims to have 33 bits."""
    if message[18] == UPDATE:
        withdrawn = struct.unpack_from("!H", message, 19)[0]
        attributes_length = struct.unpack_from("!H", message, 21 + withdrawn)[0]
        at = 23 + withdrawn + attributes_length
        if at < len(message) and message[at] == 32:
            message[at] = 33
            return True
    return False


FAULTS = {
    "next-hop": next_hop,
    "multiprotocol": capability(1, 3, 0x02),  # SAFI unicast becomes 3
    "as4": capability(65, 3, 0x01),  # another AS number than the one configured
    "as4-path": as4_path,
    "extended-message": unknown_capability(6),
    "extended-next-hop": capability(5, 3, 0x02),  # the SAFI it is for
    "origin": origin,
    "nlri": nlri,
}


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def changed(frame: bytes, fault: Callable[[bytearray], bool]) -> bytes:
    """The frame as it leaves the other end of the cable."""
    data = bytearray(frame)
    ethertype = struct.unpack_from("!H", data, 12)[0]
    if ethertype == 0x0800 and data[23] == socket.IPPROTO_TCP:
        tcp = 14 + (data[14] & 15) * 4
        end = 14 + struct.unpack_from("!H", data, 16)[0]
        pseudo = bytes(data[26:34])
    elif ethertype == 0x86DD and data[20] == socket.IPPROTO_TCP:
        tcp, pseudo = 54, bytes(data[22:54])
        end = 54 + struct.unpack_from("!H", data, 18)[0]
    else:
        return frame
    if 179 not in struct.unpack_from("!HH", data, tcp):
        return frame
    at = tcp + (data[tcp + 12] >> 4) * 4
    touched = False
    while (at := data.find(MARKER, at, end)) >= 0 and at + 19 <= end:
        length = struct.unpack_from("!H", data, at + 16)[0]
        message = data[at : at + length]
        if length >= 19 and at + length <= end and fault(message):
            data[at : at + length] = message
            touched = True
        at += max(length, 19)
    if touched:
        struct.pack_into("!H", data, tcp + 16, 0)
        words = pseudo + struct.pack("!HH", 6, end - tcp) + bytes(data[tcp:end])
        struct.pack_into("!H", data, tcp + 16, checksum(words))
    return bytes(data)


def forward(host_side: str, leaf_side: str, fault: Callable[[bytearray], bool]) -> None:
    ends = []
    for name in (host_side, leaf_side):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        end.bind((name, 0))
        promiscuous = struct.pack("iHH8s", socket.if_nametoindex(name), 1, 0, b"")
        end.setsockopt(263, 1, promiscuous)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP
        ends.append(end)
    print("forwarding", flush=True)
    while True:
        for end in select.select(ends, [], [])[0]:
            frame, (_, _, direction, *_) = end.recvfrom(65536)
            if direction == socket.PACKET_OUTGOING:
                continue
            from_host = end is ends[0]
            try:
                ends[1 if from_host else 0].send(changed(frame, fault) if from_host else frame)
            except OSError as lost:  # an end is down: what is sent then is lost, as on any cable
                print(lost, flush=True)


if __name__ == "__main__":
    forward(sys.argv[1], sys.argv[2], FAULTS[sys.argv[3]])
