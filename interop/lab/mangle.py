"""A cable with a fault: forwards Ethernet frames between two interfaces and changes BGP messages one way on their path.

Runs inside a node of its own between our host and the leaf, as

    python3 mangle.py FROM TO FAULT

What comes in at FROM is changed, what comes in at TO is not. `interop/run --sabotage` changes what our host sends, by one of
FAULTS. A link that is `faulty` changes what the leaf sends: FAULT is then a file that says which UPDATEs are to be edited, and how
(`Damage`, EDITS); it is looked at again for every segment, and while it is not there everything passes. What was damaged is printed.

Every change keeps the length, so that TCP does not notice; the checksum is made right again. Nothing of what is tested knows about
it: both ends send what they always send, and one of them sees something else.
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator

MARKER = b"\xff" * 16
OPEN, UPDATE = 1, 2
MP_REACH, EXTENDED_LENGTH, OPTIONAL_TRANSITIVE = 14, 0x10, 0xC0
NOBODYS = 99  # an attribute that no RFC knows: whoever receives it has to let it pass
CAPABILITIES = 2  # optional parameter, RFC 5492


def attributes(message: bytearray) -> Iterator[tuple[int, int, int]]:
    """Type, offset of the value and its length, of every path attribute of an UPDATE (header included)."""
    at = 19
    at += 2 + struct.unpack_from("!H", message, at)[0]
    end = at + 2 + struct.unpack_from("!H", message, at)[0]
    at += 2
    while at + 3 <= end:
        extended = message[at] & EXTENDED_LENGTH
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


class Parts:
    """An UPDATE taken apart, to be put together again as long as it was."""

    def __init__(self, message: bytearray) -> None:
        field = 21 + struct.unpack_from("!H", message, 19)[0]
        end = field + 2 + struct.unpack_from("!H", message, field)[0]
        self.head, self.nlri = message[: field + 2], message[end:]
        self.attributes = []  # each with its flags, type code and length
        at = field + 2
        for _, value, length in attributes(message):
            self.attributes.append(message[at : value + length])
            at = value + length

    def message(self) -> bytearray:
        return self.head + b"".join(self.attributes) + self.nlri

    def find(self, code: int) -> tuple[int, int]:
        """The place of an attribute in the list, and of its value in the attribute."""
        for place, attribute in enumerate(self.attributes):
            if attribute[1] == code:
                return place, 4 if attribute[0] & EXTENDED_LENGTH else 3
        raise LookupError(f"there is no attribute {code}")

    def announced(self) -> tuple[int, bytearray, int]:
        """The family of what is announced (4 or 6), where it stands, and from which octet on."""
        if self.nlri:
            return 4, self.nlri, 0
        place, value = self.find(MP_REACH)
        attribute = self.attributes[place]
        return (6 if attribute[value + 1] == 2 else 4), attribute, value + 5 + attribute[value + 3]

    def announces(self, prefix: str) -> bool:
        """Whether this prefix is among those it announces."""
        network = ipaddress.ip_network(prefix)
        wanted = bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]
        try:
            version, where, at = self.announced()
        except LookupError:
            return False
        while at < len(where) and version == network.version:
            octets = 1 + (where[at] + 7) // 8
            if where[at : at + octets] == wanted:
                return True
            at += octets
        return False

    def value(self, code: int, offset: int, octets: str) -> None:
        """Other octets in an attribute's value."""
        place, value = self.find(code)
        new = bytes.fromhex(octets)
        attribute = self.attributes[place]
        if value + offset + len(new) > len(attribute):
            raise LookupError(f"attribute {code} has not so many octets")
        attribute[value + offset : value + offset + len(new)] = new

    def flags(self, code: int, flags: int) -> None:
        """Other flags Optional and Transitive."""
        attribute = self.attributes[self.find(code)[0]]
        attribute[0] = flags | attribute[0] & EXTENDED_LENGTH

    def becomes(self, code: int, other: int, flags: int = OPTIONAL_TRANSITIVE) -> None:
        """Another type code: a new attribute, and the old one is missing."""
        self.flags(code, flags)
        self.attributes[self.find(code)[0]][1] = other

    def claims(self, code: int, length: int) -> None:
        """Another length, the octets stay what they are."""
        place, value = self.find(code)
        self.attributes[place][value - 1] = length

    def instead(self, code: int, octets: str) -> None:
        """These attributes in the place of one that is longer, and one that nobody knows to fill up."""
        place, _ = self.find(code)
        new = bytearray.fromhex(octets)
        rest = len(self.attributes[place]) - len(new)
        if rest in (1, 2) or rest < 0 or rest > 258:
            raise LookupError(f"{len(new)} octets do not fit into attribute {code}")
        filler = bytes([OPTIONAL_TRANSITIVE, NOBODYS, rest - 3]) + bytes(rest - 3) if rest else b""
        self.attributes[place] = new + filler

    def next_hop(self, octets: str) -> None:
        """Another next hop in MP_REACH_NLRI; the same once more where there are two."""
        place, value = self.find(MP_REACH)
        attribute = self.attributes[place]
        length = attribute[value + 3]
        attribute[value + 4 : value + 4 + length] = bytes.fromhex(octets) * (length // 16)

    def prefix_length(self, bits: int) -> None:
        """The length of the first prefix that is announced."""
        _, where, at = self.announced()
        where[at] = bits

    def field_length(self, more: int) -> None:
        """The length of all path attributes is off by that much."""
        struct.pack_into("!H", self.head, len(self.head) - 2, struct.unpack_from("!H", self.head, len(self.head) - 2)[0] + more)


EDITS = {
    edit.__name__: edit
    for edit in (Parts.value, Parts.flags, Parts.becomes, Parts.claims, Parts.instead, Parts.next_hop, Parts.prefix_length, Parts.field_length)
}


class Damage:
    """Edits UPDATEs as a file says: `{"prefix": …, "edits": [[name, argument, …], …]}`, those that announce the prefix."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, message: bytearray) -> bool:
        if message[18] != UPDATE:
            return False
        try:
            with open(self.path) as file:
                wanted = json.load(file)
        except FileNotFoundError:
            return False
        parts = Parts(message)
        if not parts.announces(wanted["prefix"]):
            return False
        try:
            for name, *arguments in wanted["edits"]:
                EDITS[name](parts, *arguments)
        except LookupError as impossible:
            print(f"cannot do {wanted['edits']}: {impossible}: {message.hex()}", flush=True)
            return False
        edited = parts.message()
        if len(edited) != len(message):
            raise AssertionError(f"{wanted['edits']} changed the length")
        message[:] = edited
        return True


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
    at = payload = tcp + (data[tcp + 12] >> 4) * 4
    touched = False
    while (at := data.find(MARKER, at, end)) >= 0 and at + 19 <= end:
        length = struct.unpack_from("!H", data, at + 16)[0]
        message = data[at : at + length]
        if length >= 19 and at + length <= end and fault(message):
            if isinstance(fault, Damage):
                port, _, sequence = struct.unpack_from("!HHI", data, tcp)
                print(json.dumps({"port": port, "sequence": sequence + at - payload, "message": message.hex()}), flush=True)
            data[at : at + length] = message
            touched = True
        at += max(length, 19)
    if touched:
        struct.pack_into("!H", data, tcp + 16, 0)
        words = pseudo + struct.pack("!HH", 6, end - tcp) + bytes(data[tcp:end])
        struct.pack_into("!H", data, tcp + 16, checksum(words))
    return bytes(data)


def forward(side: str, other: str, fault: Callable[[bytearray], bool]) -> None:
    """Frames from one side to the other and back, for ever; those that come in at the first side are changed."""
    ends = []
    for name in (side, other):
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
            first = end is ends[0]
            try:
                ends[1 if first else 0].send(changed(frame, fault) if first else frame)
            except OSError as lost:  # an end is down: what is sent then is lost, as on any cable
                print(lost, flush=True)


if __name__ == "__main__":
    forward(sys.argv[1], sys.argv[2], FAULTS.get(sys.argv[3]) or Damage(sys.argv[3]))
