"""Breaking something on purpose: the right scenarios turn red, with a message that names what the leaf saw, and no others.

A fault is on the cable between our host and the leaf (mangle.py) or in our configuration; what is tested is never touched.
`interop/run --sabotage [NAME…]` passes when exactly the scenarios listed as red fail, each with the message expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sabotage:
    """One fault, and who has to notice."""

    name: str
    what: str
    red: dict[str, str]  # scenario: a regular expression its message must contain
    green: tuple[str, ...] = ()
    wire: str = ""  # a fault of mangle.py
    config: tuple[str, str] | None = field(default=None)  # in our configuration: this text becomes that

    def configuration(self, text: str) -> str:
        """Our configuration, with the fault in it."""
        return text.replace(*self.config) if self.config else text

    def judge(self, scenario: str, result: dict) -> str:
        """Empty if the scenario ended as it should, else what is wrong about that."""
        wanted = self.red.get(scenario)
        if wanted is None:
            return "" if result["verdict"] == "passed" else f"it should not notice, but: {result['detail']}"
        if result["verdict"] != "failed":
            return f"it {result['verdict']}, though {self.what}"
        return "" if re.search(wanted, result["detail"], re.DOTALL) else f"its message lacks /{wanted}/: {result['detail']}"


def matrix(peer: str, families: str, kind: str = "ebgp", auth: str = "open") -> str:
    return f"matrix/{peer}-{kind}-numbered-{auth}-{families}-nobfd"


ALL = {
    sabotage.name: sabotage
    for sabotage in (
        Sabotage(
            "next-hop",
            "the leaf sees another next hop than we sent",
            {
                "plain/ebgp-frr-10": r"the leaf's next hop is \['10\.0\.9\.2'\], it should be 10\.0\.1\.2",
                matrix("frr10", "v6"): r"next hop in the leaf's view is .*fd00:1::9",
                matrix("bird2.17", "v4", "rr"): r"leaf \(BIRD\) has no 172\.30\.1\.1/32.*Invalid NEXT_HOP attribute - address 10\.0\.9\.2",
                "address-change/ipv4-frr-10": r"the leaf has \{'172\.30\.1\.1/32': \{'10\.0\.9\.2'\}",
            },
            ("lab-without-frr",),
            wire="next-hop",
        ),
        Sabotage(
            "capability",
            "one bit of a byte of the multiprotocol capability is flipped",
            {
                matrix("frr10", "v6"): r"leaf \(FRR\): session with fd00:1::2.*last notification: OPEN Message Error/Unsupported Capability",
                matrix("bird2.17", "v6"): r"leaf \(BIRD\): session with fd00:1::2.*Required capability missing",
            },
            wire="multiprotocol",
        ),
        Sabotage(
            "prefix-list",
            "our prefix list lets networks out, not only host prefixes",
            {"prefix-lists/frr-10": r"what the leaf has: expected .* but it is .*198\.51\.100\.0/24"},
            (matrix("frr10", "v4"),),
            config=("permit 0.0.0.0/0 ge 32", "permit 0.0.0.0/0 ge 24"),
        ),
        Sabotage(
            "capability-as",
            "one bit of the AS number in the four-octet AS capability is flipped",
            {
                matrix("frr10", "v4"): r"leaf \(FRR\): session with 10\.0\.1\.2.*Bad Peer AS",
                matrix("bird2.17", "v4"): r"leaf \(BIRD\): session with 10\.0\.1\.2.*Bad peer AS: 64998",
            },
            wire="as4",
        ),
        Sabotage(
            "as4-path",
            "one bit of the AS number in AS4_PATH is flipped",
            {"four-octet-as/bird-2.17": r"AS path at the leaf: expected '4200000001', but it is '4200000000'"},
            (matrix("bird2.17", "v4"),),
            wire="as4-path",
        ),
        Sabotage(
            "capability-long-messages",
            "the extended message capability becomes one that nobody knows",
            {"long-messages/bird-2.17": r"leaf \(BIRD\).*Bad message length"},
            (matrix("bird2.17", "v4"),),
            wire="extended-message",
        ),
        Sabotage(
            "capability-next-hop",
            "one bit of a byte of the extended next hop capability is flipped",
            {
                matrix("bird2.17", "v4over6"): r"leaf \(BIRD\) has no 172\.30\.1\.1/32.*it has: f00d::1/128.*mismatched address family",
                "nexthop-format/bird-2.17": r"172\.30\.1\.1/32 at the leaf by fe80.*mismatched address family",
            },
            (matrix("bird2.17", "v4"), matrix("frr10", "v6")),
            wire="extended-next-hop",
        ),
        Sabotage(
            "origin",
            "ORIGIN has a value no RFC knows",
            {
                matrix("frr10", "v4"): r"leaf \(FRR\) has no 172\.30\.1\.1/32.*it has: nothing",
                matrix("bird2.17", "v4"): r"leaf \(BIRD\) has no 172\.30\.1\.1/32.*Malformed ORIGIN attribute - invalid value \(9\)",
            },
            wire="origin",
        ),
        Sabotage(
            "prefix-length",
            "a prefix claims to have 33 bits",
            {
                matrix("frr10", "v4"): r"leaf \(FRR\).*UPDATE Message Error/Invalid Network Field.*the wire .* [1-9]\d* malformed",
                matrix("bird2.17", "v4"): r"leaf \(BIRD\).*Malformed attribute list.*the wire .* [1-9]\d* malformed",
            },
            (matrix("frr10", "v6"),),
            wire="nlri",
        ),
        Sabotage(
            "password",
            "our password is not the leaf's",
            {matrix("frr10", "v4", auth="md5"): r"leaf \(FRR\): session with 10\.0\.1\.2.*it sees: 10\.0\.1\.2 (Connect|Active)"},
            (matrix("frr10", "v4"),),
            config=('password = "between-us"', 'password = "somebody-else"'),
        ),
        Sabotage(
            "tenant-networks",
            "our configuration does not expose tenant networks",
            {
                "gateways": r"leaf: 10\.64\.1\.20/32 not via gw1 alone .*it has None",
                "load-balancers/per-table": r"leaf: 10\.64\.1\.100/32 not via gw1 alone .*it has None",
                "defeating-sequences": r"the leaf lacks \['10\.64\.1\.100/32', '10\.64\.1\.20/32'\], and has besides \[\]",
            },
            ("floating-ips",),
            config=("expose_tenant_networks = true", "expose_tenant_networks = false"),
        ),
        Sabotage(
            "chassis",
            "our configuration gives the host another name than OVN's",
            {
                "provider-ports": r"leaf: 203\.0\.113\.10/32 not via hv1 alone .*it has None",
                "floating-ips": r"leaf: 203\.0\.113\.50/32 not via hv1 alone .*it has None",
                "world-pushes-back": r"leaf: 203\.0\.113\.10/32 not via hv1 alone .*it has None",
            },
            ("plain/ebgp-frr-10",),
            config=('nb = "tcp:172.17.0.1:6641"', 'nb = "tcp:172.17.0.1:6641"\nchassis = { hostname = "elsewhere", system_id = "elsewhere" }'),
        ),
    )
}
