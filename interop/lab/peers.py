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
    try_this = ""  # what a person types who looks around

    def __init__(self, node: Node) -> None:
        self.node = node
        node.speakers[:] = [other for other in node.speakers if type(other) is not type(self)] + [self]

    def established(self, neighbor: str) -> bool:
        raise NotImplementedError

    def routes(self) -> dict[str, Route]:
        raise NotImplementedError

    def sessions(self) -> list[str]:
        """Every session in the peer's words: the neighbour, its state, the last error."""
        raise NotImplementedError

    def view(self) -> str:
        """Sessions and routes as the peer sees them, for the message of a failure."""
        routes = [f"{r.prefix} via {'/'.join(r.next_hops)} path [{r.as_path.strip('[] ')}]" for _, r in sorted(self.routes().items())]
        more = f", and {len(routes) - 8} more" if len(routes) > 8 else ""
        return (f"{self.node.name} ({self.kind}) sees: " + ("; ".join(self.sessions()) or "no session")
                + f" · routes: {'; '.join(routes[:8]) or 'none'}{more}")  # fmt: skip

    def wait_established(self, neighbor: str, timeout: float = 30.0) -> None:
        """On failure the message says what the peer knows of the session."""
        try:
            wait_for(f"{self.node.name} ({self.kind}): session with {neighbor}", lambda: self.established(neighbor), timeout)
        except LabError as late:
            raise LabError(f"{late}; it sees: {'; '.join(self.sessions()) or 'no session'}") from late

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
    try_this = "vtysh -c 'show bgp summary'"

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
        self.node.run("rm -f /run/frr/bgpd.vty")  # a killed daemon leaves its socket, and vtysh would pass over it in silence
        self.node.start("bgpd", "/usr/lib/frr/bgpd")
        for daemon in ("zebra", "bgpd", "staticd"):
            wait_for(f"{self.node.name}: {daemon}", lambda d=daemon: self.node.succeeds(f"test -S /run/frr/{d}.vty"))
        wait_for(f"{self.node.name}: vtysh to load the configuration", lambda: self.node.run("vtysh -b 2>&1", timeout=20.0) or True)

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

    def sessions(self) -> list[str]:
        keys = {"lastResetDueTo": "last reset", "lastNotificationReason": "last notification", "lastErrorCodeSubcode": "code"}
        return [
            " ".join([name, entry.get("bgpState", "?")] + [f"{word}: {entry[key]}," for key, word in keys.items() if entry.get(key)]).rstrip(",")
            for name, entry in self.json("show bgp neighbors").items()
            if isinstance(entry, dict)
        ]

    def routes(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        for family in ("ipv4", "ipv6"):
            table = self.json(f"show bgp {family} unicast").get("routes", {})
            for prefix, paths in table.items():
                learned = [path for path in paths if path.get("peerId", "(unspec)") != "(unspec)"]
                if learned:
                    found[canonical(prefix)] = self._route(canonical(prefix), learned)
        return found

    def detail(self, prefix: str) -> dict:
        """Everything about the first path of a prefix (communities, aggregator, …)."""
        family = "ipv6" if ":" in prefix else "ipv4"
        paths = self.json(f"show bgp {family} unicast {prefix}").get("paths", [])
        return paths[0] if paths else {}

    @staticmethod
    def _route(prefix: str, paths: list[dict]) -> Route:
        first = paths[0]
        hops = {hop.get("ip", "") for path in paths for hop in path.get("nexthops", [])}
        return Route(
            prefix, sorted(hops), first.get("path", ""), first.get("origin", ""), first.get("locPrf"), first.get("metric"),
            raw=first,
        )  # fmt: skip


class Bird(Peer):
    """BIRD 2 or 3."""

    kind = "BIRD"
    try_this = "birdc show protocols"

    def start(self, config: str) -> None:
        self.node.write("/lab/bird.conf", config)
        self.node.run("mkdir -p /run/bird")
        self.node.start("bird", "bird -f -c /lab/bird.conf -s /run/bird/bird.ctl")
        self.node.run("bird -p -c /lab/bird.conf 2>&1")
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

    def sessions(self) -> list[str]:
        found = []
        for block in re.split(r"\n(?=\S)", self.birdc("show protocols all")):
            if "BGP state:" in block:
                lines = [" ".join(line.split()) for line in block.splitlines()]
                wanted = [line for line in lines if re.match(r"(BGP state|Neighbor address|Last error|Error wait):?", line)]
                found.append(" ".join([lines[0].split()[0], *wanted]))
        complaints = [line.split("> ", 1)[-1] for line in self.node.log("bird").splitlines() if re.search("<(RMT|ERR|WARN)>", line)]
        return found + [f"it logged '{line}'" for line in dict.fromkeys(complaints[-3:])]

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


class GoBgp(Peer):
    """GoBGP: gobgpd with a TOML file, asked through its command line."""

    kind = "GoBGP"
    try_this = "gobgp neighbor"

    def start(self, config: str) -> None:
        self.node.write("/lab/gobgpd.toml", config)
        self.node.start("gobgpd", "gobgpd -f /lab/gobgpd.toml --api-hosts 127.0.0.1:50051")
        wait_for(f"{self.node.name}: gobgpd", lambda: self.node.succeeds("gobgp global"))

    def gobgp(self, *words: str) -> list | dict:
        out = self.node.run(["gobgp", *words, "-j"])
        try:
            return json.loads(out or "null") or []
        except ValueError as broken:
            raise LabError(f"{self.node.name}: gobgp {' '.join(words)} answered {out[:300]!r}") from broken

    def version(self) -> str:
        return self.node.run("gobgpd --version 2>&1").split()[-1]

    def established(self, neighbor: str) -> bool:
        answer = self.gobgp("neighbor", neighbor)
        entries = answer if isinstance(answer, list) else [answer]
        return any(entry.get("state", {}).get("session_state") == 6 for entry in entries)

    def sessions(self) -> list[str]:
        names = {0: "unknown", 1: "Idle", 2: "Connect", 3: "Active", 4: "OpenSent", 5: "OpenConfirm", 6: "Established"}
        complaints = [line for line in self.node.log("gobgpd").splitlines() if '"level":"warning"' in line or '"level":"error"' in line]
        return [
            f"{entry.get('conf', {}).get('neighbor_address')} {names.get(entry.get('state', {}).get('session_state', 0))}"
            for entry in self.gobgp("neighbor")
        ] + [f"it logged {line[:300]}" for line in complaints[-2:]]

    def originate(self, prefix: str) -> None:
        family = "ipv6" if ":" in prefix else "ipv4"
        self.node.run(["gobgp", "global", "rib", "add", prefix, "-a", family])

    def routes(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        for family in ("ipv4", "ipv6"):
            table = self.gobgp("global", "rib", "-a", family)
            for prefix, paths in (table.items() if isinstance(table, dict) else []):
                learned = [path for path in paths if path.get("source-id") or path.get("neighbor-ip") not in (None, "", "<nil>")]
                if learned:
                    found[canonical(prefix)] = self._route(canonical(prefix), learned[0])
        return found

    @staticmethod
    def _route(prefix: str, path: dict) -> Route:
        route = Route(prefix, [], raw=path)
        for attribute in path.get("attrs", []):
            kind = attribute.get("type")
            if kind == 1:
                route.origin = {0: "IGP", 1: "EGP", 2: "incomplete"}.get(attribute.get("value"), "?")
            elif kind == 2:
                segments = attribute.get("as_paths") or []
                route.as_path = " ".join(str(asn) for segment in segments for asn in segment.get("asns", []))
            elif kind in (3, 14):
                route.next_hops = [attribute.get("nexthop", "")]
            elif kind == 4:
                route.med = attribute.get("metric")
            elif kind == 5:
                route.local_pref = attribute.get("value")
        return route


class OpenBgpd(Peer):
    """OpenBGPD, asked through bgpctl."""

    kind = "OpenBGPD"

    def start(self, config: str) -> None:
        self.node.write("/etc/openbgpd/bgpd.conf", config, 0o600)
        self.node.write("/lab/bgpd.conf", config)
        self.node.run("mkdir -p /run/openbgpd /var/lib/openbgpd; bgpd -n -f /etc/openbgpd/bgpd.conf || bgpd -n")
        self.node.start("bgpd", "bgpd -d -f /etc/openbgpd/bgpd.conf")
        wait_for(f"{self.node.name}: bgpd", lambda: self.node.succeeds("bgpctl show summary"))

    def bgpctl(self, *words: str) -> dict:
        out = self.node.run(["bgpctl", "-j", *words])
        try:
            return json.loads(out or "{}")
        except ValueError as broken:
            raise LabError(f"{self.node.name}: bgpctl {' '.join(words)} answered {out[:300]!r}") from broken

    def version(self) -> str:
        return self.node.run("bgpd -V 2>&1").split()[-1]

    def established(self, neighbor: str) -> bool:
        for entry in self.bgpctl("show", "neighbor").get("neighbors", []):
            if entry.get("remote_addr") == neighbor:
                return entry.get("state") == "Established"
        return False

    def sessions(self) -> list[str]:
        return [
            " ".join(str(entry[key]) for key in ("remote_addr", "state", "last_error", "last_error_sent", "last_shutdown_reason") if entry.get(key))
            for entry in self.bgpctl("show", "neighbor").get("neighbors", [])
        ]  # fmt: skip

    def routes(self) -> dict[str, Route]:
        found = {}
        for entry in self.bgpctl("show", "rib").get("rib", []):
            if entry.get("neighbor", {}).get("remote_as") is None and not entry.get("neighbor", {}).get("bgp_id"):
                continue
            if entry.get("source") == "announced" or entry.get("announced"):
                continue
            prefix = canonical(entry["prefix"])
            path = entry.get("aspath", "")
            found[prefix] = Route(
                prefix, [entry.get("true_nexthop") or entry.get("exit_nexthop", "")], path, entry.get("origin", "").upper(),
                entry.get("localpref"), entry.get("metric"), raw=entry,
            )  # fmt: skip
        return found


# ExaBGP makes its helper's standard input non-blocking, which `cat` does not survive.
EXABGP_EVENTS = """\
#!/usr/bin/python3
import os, select
out = os.open("/lab/events.json", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
while select.select([0], [], []):
    data = os.read(0, 65536)
    if not data:
        break
    os.write(out, data)
"""


class ExaBgp(Peer):
    """ExaBGP: has no table of its own, so its JSON events are folded into one."""

    kind = "ExaBGP"

    def start(self, config: str) -> None:
        self.node.write("/lab/exabgp.conf", config)
        self.node.write("/lab/events.sh", EXABGP_EVENTS, 0o755)
        self.node.run("touch /lab/events.json && chmod 666 /lab/events.json")
        environment = "exabgp.daemon.user=root exabgp.tcp.bind=0.0.0.0 exabgp.tcp.port=179 exabgp.daemon.daemonize=false"
        self.node.start("exabgp", f"env {environment} exabgp.log.destination=stdout exabgp /lab/exabgp.conf")

    def events(self) -> list[dict]:
        found = []
        for line in (self.node.share / "events.json").read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def version(self) -> str:
        return self.node.run("dpkg-query -W -f '${Version}' exabgp").split("-")[0]

    def established(self, neighbor: str) -> bool:
        states = [e["neighbor"]["state"] for e in self.events()
                  if e.get("type") == "state" and e["neighbor"]["address"]["peer"] == neighbor]  # fmt: skip
        return bool(states) and states[-1] == "up"

    def sessions(self) -> list[str]:
        last = {}
        for event in self.events():
            if event.get("type") == "state":
                neighbor = event["neighbor"]
                last[neighbor["address"]["peer"]] = f"{neighbor['address']['peer']} {neighbor['state']} {neighbor.get('reason', '')}".strip()
        return list(last.values())

    def routes(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        for event in self.events():
            if event.get("type") == "state" and event["neighbor"]["state"] == "down":
                found.clear()
            update = event.get("neighbor", {}).get("message", {}).get("update", {})
            attributes = update.get("attribute", {})
            for table in update.get("announce", {}).values():
                for hop, prefixes in table.items():
                    for entry in prefixes if isinstance(prefixes, list) else []:
                        prefix = canonical(entry["nlri"] if isinstance(entry, dict) else entry)
                        found[prefix] = Route(
                            prefix, [hop], str(attributes.get("as-path", "")), str(attributes.get("origin", "")).upper(),
                            attributes.get("local-preference"), attributes.get("med"), raw=event,
                        )  # fmt: skip
            for table in update.get("withdraw", {}).values():
                for entry in table:
                    found.pop(canonical(entry["nlri"] if isinstance(entry, dict) else entry), None)
        return found
