"""Other people's speakers: start them with their own configuration files, and ask for their own view.

Every class answers the same questions, so that a scenario can run against any of them:

    established(neighbor)   the session is up, in the peer's own words
    routes()                {prefix: Route} of what was accepted from neighbours
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field

from .laboratory import Node
from .shell import LabError, wait_for


@dataclass
class Route:
    """What a peer says about a prefix."""

    prefix: str
    next_hops: list[str]
    as_path: str = ""
    origin: str = ""
    local_pref: int | None = None
    med: int | None = None
    communities: list[str] = field(default_factory=list)
    raw: dict = field(default_factory=dict)


def canonical(prefix: str) -> str:
    return str(ipaddress.ip_network(prefix, strict=False))


class Peer:
    """Common to all: a node, a name for messages, and waiting."""

    kind = "peer"

    def __init__(self, node: Node) -> None:
        self.node = node

    def established(self, neighbor: str) -> bool:
        raise NotImplementedError

    def routes(self) -> dict[str, Route]:
        raise NotImplementedError

    def wait_established(self, neighbor: str, timeout: float = 30.0) -> None:
        wait_for(f"{self.node.name} ({self.kind}): session with {neighbor}", lambda: self.established(neighbor), timeout)

    def wait_route(self, prefix: str, timeout: float = 10.0) -> Route:
        """The route, as soon as the peer has it; on failure the message lists what the peer has instead."""
        prefix = canonical(prefix)
        try:
            return wait_for("", lambda: self.routes().get(prefix), timeout)
        except LabError as late:
            have = ", ".join(sorted(self.routes())[:12]) or "nothing"
            raise LabError(f"{self.node.name} ({self.kind}) has no {prefix} after {timeout:g} s; it has: {have}") from late

    def wait_gone(self, prefix: str, timeout: float = 10.0) -> None:
        prefix = canonical(prefix)
        wait_for(f"{self.node.name} ({self.kind}) to lose {prefix}", lambda: prefix not in self.routes(), timeout)


class Frr(Peer):
    """FRR: zebra, bgpd and, when asked for, bfdd; configured by one integrated frr.conf."""

    kind = "FRR"

    def start(self, config: str, bfd: bool = False) -> None:
        self.node.run("mkdir -p /run/frr /etc/frr /var/tmp/frr && chown frr:frr /run/frr /var/tmp/frr && touch /etc/frr/vtysh.conf")
        self.node.write("/etc/frr/frr.conf", config)
        self.node.write("/lab/frr.conf", config)
        self.node.run("chown -R frr:frr /etc/frr")
        if self.node.succeeds("test -x /usr/lib/frr/mgmtd"):
            self.node.start("mgmtd", "/usr/lib/frr/mgmtd")
        self.node.start("zebra", "/usr/lib/frr/zebra")
        wait_for(f"{self.node.name}: zebra", lambda: self.node.succeeds("test -S /run/frr/zserv.api"))
        self.node.start("staticd", "/usr/lib/frr/staticd")
        if bfd:
            self.node.start("bfdd", "/usr/lib/frr/bfdd")
        self.start_bgpd()

    def start_bgpd(self) -> None:
        self.node.start("bgpd", "/usr/lib/frr/bgpd")
        for daemon in ("zebra", "bgpd", "staticd"):
            wait_for(f"{self.node.name}: {daemon}", lambda d=daemon: self.node.succeeds(f"test -S /run/frr/{d}.vty"))
        wait_for(f"{self.node.name}: vtysh to load the configuration", lambda: self.node.succeeds("vtysh -b", timeout=20.0), 20.0)

    def vtysh(self, *commands: str) -> str:
        return self.node.run(["vtysh", *(word for command in commands for word in ("-c", command))])

    def configure(self, *lines: str) -> None:
        self.vtysh("configure terminal", *lines)

    def json(self, command: str) -> dict:
        out = self.vtysh(f"{command} json")
        try:
            return json.loads(out)
        except ValueError as broken:
            raise LabError(f"{self.node.name}: vtysh '{command} json' answered {out!r}") from broken

    def version(self) -> str:
        return self.vtysh("show version").split()[1]

    def neighbor(self, neighbor: str) -> dict:
        return self.json(f"show bgp neighbors {neighbor}").get(neighbor, {})

    def established(self, neighbor: str) -> bool:
        return self.neighbor(neighbor).get("bgpState") == "Established"

    def routes(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        for family in ("ipv4", "ipv6"):
            table = self.json(f"show bgp {family} unicast detail").get("routes", {})
            for prefix, entry in table.items():
                paths = entry.get("paths", []) if isinstance(entry, dict) else entry
                learned = [path for path in paths if path.get("peer", {}).get("peerId", "(unspec)") != "(unspec)"]
                if learned:
                    found[canonical(prefix)] = self._route(canonical(prefix), learned)
        return found

    @staticmethod
    def _route(prefix: str, paths: list[dict]) -> Route:
        first = paths[0]
        hops = [hop.get("ip", "") for path in paths for hop in path.get("nexthops", [])]
        return Route(
            prefix,
            sorted(set(hops)),
            first.get("aspath", {}).get("string", ""),
            first.get("origin", ""),
            first.get("locPrf"),
            first.get("metric"),
            first.get("community", {}).get("string", "").split(),
            first,
        )


class Bird(Peer):
    """BIRD 2 or 3."""

    kind = "BIRD"

    def start(self, config: str) -> None:
        self.node.write("/lab/bird.conf", config)
        self.node.run("mkdir -p /run/bird")
        self.node.start("bird", "bird -f -c /lab/bird.conf -s /run/bird/bird.ctl")
        wait_for(f"{self.node.name}: bird", lambda: "Daemon is up and running" in self.birdc("show status"))

    def birdc(self, command: str) -> str:
        return self.node.run(["birdc", "-s", "/run/bird/bird.ctl", *command.split()])

    def configure(self, config: str) -> None:
        self.node.write("/lab/bird.conf", config)
        out = self.birdc("configure")
        if "Reconfigured" not in out and "Reconfiguration" not in out:
            raise LabError(f"{self.node.name}: bird refuses its configuration: {out}")

    def version(self) -> str:
        return self.birdc("show status").split()[1]

    def established(self, neighbor: str) -> bool:
        out = self.birdc("show protocols all")
        for block in re.split(r"\n(?=\S)", out):
            if re.search(rf"Neighbor address: +{re.escape(neighbor)}(%\S+)?\n", block):
                return "BGP state:          Established" in block
        return False

    def routes(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        prefix = ""
        for line in self.birdc("show route all where source = RTS_BGP").splitlines():
            head = re.match(r"(\S+/\d+) +(unicast|unreachable|blackhole)? ?\[", line)
            again = re.match(r" {10,}(unicast|unreachable) \[", line)
            if head:
                prefix = canonical(head.group(1))
            if head or again:
                found.setdefault(prefix, Route(prefix, []))
                continue
            if not prefix or prefix not in found:
                continue
            key, _, value = line.strip().partition(":")
            self._attribute(found[prefix], key.strip(), value.strip())
        return found

    @staticmethod
    def _attribute(route: Route, key: str, value: str) -> None:
        key = {"bgp_origin": "BGP.origin", "bgp_path": "BGP.as_path", "bgp_next_hop": "BGP.next_hop",
               "bgp_local_pref": "BGP.local_pref", "bgp_med": "BGP.med", "bgp_community": "BGP.community"}.get(key, key)  # fmt: skip
        if key == "BGP.next_hop":
            route.next_hops = sorted({*route.next_hops, *value.split()})
        elif key == "BGP.as_path":
            route.as_path = value
        elif key == "BGP.origin":
            route.origin = value
        elif key == "BGP.local_pref":
            route.local_pref = int(value)
        elif key == "BGP.med":
            route.med = int(value)
        elif key == "BGP.community":
            route.communities = [f"{a}:{b}" for a, b in re.findall(r"\((\d+),\s*(\d+)\)", value)]


FRR_EBGP = """\
frr defaults datacenter
hostname {name}
log stdout informational
!
router bgp {asn}
 bgp router-id {router_id}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 timers bgp 3 9
 neighbor {peer4} remote-as {peer_asn}
 neighbor {peer6} remote-as {peer_asn}
 address-family ipv4 unicast
  neighbor {peer4} activate
  {originate4}
 exit-address-family
 address-family ipv6 unicast
  neighbor {peer6} activate
  {originate6}
 exit-address-family
exit
!
"""

BIRD_TWO_SESSIONS = """\
log stderr all;
router id {router_id};
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel k4 {{ ipv4 {{ export where source = RTS_BGP; import none; }}; }}
protocol kernel k6 {{ ipv6 {{ export where source = RTS_BGP; import none; }}; }}
protocol static s4 {{ ipv4; {static4} }}
protocol static s6 {{ ipv6; {static6} }}
protocol bgp host4 {{
  local {local4} as {asn};
  neighbor {peer4} as {peer_asn};
  hold time 9;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
protocol bgp host6 {{
  local {local6} as {asn};
  neighbor {peer6} as {peer_asn};
  hold time 9;
  ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""
