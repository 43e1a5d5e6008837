"""tcpdump in a node, tshark on what it wrote."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from .laboratory import Node
from .shell import LabError, run, wait_for

MALFORMED = "bgp && (_ws.malformed || _ws.expert.severity == error)"
MINOR = tuple(f"bgp.notify.minor_error{kind}" for kind in ("", "_open", "_update", "_expired", "_state", "_cease"))
WHERE = ("frame.number", "frame.time_epoch", "ip.src", "ipv6.src", "_ws.col.Info")


class Capture:
    """A packet capture on one interface of a node; a context manager, or `start`/`stop`."""

    def __init__(self, node: Node, interface: str, expression: str = "tcp port 179 or udp port 3784", name: str = "") -> None:
        self.node = node
        self.name = name or f"capture-{interface}"
        self._interface = interface
        self._expression = expression
        node.captures.append(self)

    @property
    def file(self) -> Path:
        return self.node.file(f"{self.name}.pcap")

    def __enter__(self) -> "Capture":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        self.node.start(
            self.name,
            ["tcpdump", "-Z", "root", "-n", "-U", "-s", "0", "-B", "8192", "--immediate-mode", "-i", self._interface,
             "-w", f"/lab/{self.name}.pcap", self._expression],
        )  # fmt: skip
        wait_for("tcpdump to listen", lambda: "listening on" in self.node.log(self.name))

    def stop(self) -> None:
        self.node.stop(self.name, signal.SIGINT)

    def view(self) -> str:
        """What was on the wire, for the message of a failure: how much, what is malformed, every NOTIFICATION."""
        self.stop()
        packets = self.decode("bgp", "frame.number")
        bad = self.decode(MALFORMED, *WHERE)
        notifications = self.decode("bgp.type == 3", *WHERE, "bgp.notify.major_error", *MINOR)
        shown = [f"{'/'.join(filter(None, n[2:4]))} sent NOTIFICATION {n[5]}/{''.join(n[6:]) or '?'} (frame {n[0]})" for n in notifications]
        more = [f"and {len(shown) - 4} more"] if len(shown) > 4 else []
        return (f"the wire ({self.node.name}/{self.file.name}): {len(packets)} packets with BGP in them, {len(bad)} malformed"
                + "".join(f"; {text}" for text in [*(f"malformed: {' '.join(b)}" for b in bad[:2]), *shown[:4], *more]))  # fmt: skip

    def decode(self, display_filter: str, *fields: str, port: int = 179) -> list[list[str]]:
        """One list of field values for each packet that matches tshark's `display_filter`."""
        wanted = [word for field in fields for word in ("-e", field)]
        out = run(
            ["tshark", "-n", "-r", str(self.file), "-d", f"tcp.port=={port},bgp", "-Y", display_filter, "-T", "fields",
             "-E", "separator=\t", "-E", "aggregator=,", *wanted],
            timeout=300.0,
        ).stdout  # fmt: skip
        return [line.split("\t") for line in out.splitlines()]

    def messages(self, display_filter: str) -> list[bytes]:
        """The BGP messages in the TCP streams that `display_filter` leaves of one direction; also those above 4096 octets, which
        tshark does not decode."""
        streams: dict[str, dict[int, bytes]] = {}
        for stream, place, payload in self.decode(f"tcp.len > 0 && ({display_filter})", "tcp.stream", "tcp.seq", "tcp.payload"):
            streams.setdefault(stream, {})[int(place)] = bytes.fromhex(payload.replace(":", ""))
        found = []
        for segments in streams.values():
            octets = b""
            for place in sorted(segments):  # numbers are relative: the first octet is 1
                octets += segments[place][max(0, len(octets) + 1 - place) :]
            while len(octets) >= 19 and len(octets) >= (length := int.from_bytes(octets[16:18], "big")) >= 19:
                found.append(octets[:length])
                octets = octets[length:]
        return found

    def packets(self, display_filter: str = "bgp") -> list[dict]:
        """tshark's whole decoding of the packets that match."""
        return json.loads(run(["tshark", "-n", "-r", str(self.file), "-Y", display_filter, "-T", "json"], timeout=300.0).stdout)

    def assert_well_formed(self) -> int:
        """No BGP message on the wire that tshark calls malformed; returns the number of packets with BGP in them."""
        bad = self.decode(MALFORMED, *WHERE)
        if bad:
            raise LabError(f"tshark calls {len(bad)} packets of {self.file.name} malformed, the first: {bad[0]}")
        return len(self.decode("bgp", "frame.number"))
