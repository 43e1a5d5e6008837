"""The description of a laboratory: nodes, links between them, segments shared by several. Pure data.

    Topology(
        nodes=[Node("hv1"), Node("leaf1")],
        links=[Link("hv1:eth1 10.0.1.2/30 fd00:1::2/64", "leaf1:eth1 10.0.1.1/30 fd00:1::1/64")],
    )

An end is written `node:interface address…`. A segment is a bridge inside one node with veth links to the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """A container with a network namespace of its own."""

    name: str
    image: str = "cloud"
    forwarding: bool = True


@dataclass(frozen=True)
class End:
    """One end of a link."""

    node: str
    interface: str
    addresses: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> "End":
        where, *addresses = text.split()
        node, interface = where.split(":")
        return End(node, interface, tuple(addresses))


class Link:
    """A veth pair between two nodes. `faulty`: what the second end says may be damaged on its way to the first, see cable.py."""

    def __init__(self, one: str, other: str, faulty: bool = False) -> None:
        self.ends = (End.parse(one), End.parse(other))
        self.faulty = faulty


class Segment:
    """A shared Ethernet: a bridge named `name` in the first end's node, every other node with a veth into it."""

    def __init__(self, name: str, *ends: str) -> None:
        self.name = name
        self.ends = tuple(End.parse(end) for end in ends)


@dataclass(frozen=True)
class Topology:
    """Everything a `Lab` needs to know."""

    nodes: list[Node]
    links: list[Link] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    # In a virtual machine with Debian's kernel (that of the release named) instead of containers, with these files below /opt: see vm.py.
    kernel: bool | str = False
    files: tuple[Path, ...] = ()


def pair(image_a: str = "cloud", image_b: str = "cloud", a: str = "host", b: str = "leaf", kernel: bool | str = False) -> Topology:
    """Two speakers on one cable: our host and a leaf."""
    return Topology(
        kernel=kernel,
        nodes=[Node(a, image_a), Node(b, image_b)],
        links=[Link(f"{a}:eth1 10.0.1.2/30 fd00:1::2/64", f"{b}:eth1 10.0.1.1/30 fd00:1::1/64")],
    )


def first_light(leaf1_image: str = "cloud", leaf2_image: str = "cloud") -> Topology:
    """One cloud, one hypervisor, two leaves: leaf1 for eBGP, leaf2 for iBGP."""
    return Topology(
        nodes=[Node("central"), Node("hv1"), Node("leaf1", leaf1_image), Node("leaf2", leaf2_image)],
        links=[
            Link("hv1:eth1 10.0.1.2/30 fd00:1::2/64", "leaf1:eth1 10.0.1.1/30 fd00:1::1/64"),
            Link("hv1:eth2 10.0.2.2/30 fd00:2::2/64", "leaf2:eth1 10.0.2.1/30 fd00:2::1/64"),
        ],
        segments=[Segment("mgmt", "central:mgmt 172.17.0.1/24", "hv1:mgmt 172.17.0.11/24")],
    )


def two_hypervisors() -> Topology:
    """Two hypervisors below two leaves, with a tunnel network: gateways, tenant networks, migrations."""
    return Topology(
        nodes=[Node("central"), Node("hv1"), Node("hv2"), Node("leaf1"), Node("leaf2")],
        links=[
            Link("hv1:eth1 10.0.11.2/30 fd00:11::2/64", "leaf1:hv1 10.0.11.1/30 fd00:11::1/64"),
            Link("hv1:eth2 10.0.12.2/30 fd00:12::2/64", "leaf2:hv1 10.0.12.1/30 fd00:12::1/64"),
            Link("hv2:eth1 10.0.21.2/30 fd00:21::2/64", "leaf1:hv2 10.0.21.1/30 fd00:21::1/64"),
            Link("hv2:eth2 10.0.22.2/30 fd00:22::2/64", "leaf2:hv2 10.0.22.1/30 fd00:22::1/64"),
            Link("leaf1:fabric 10.0.99.1/30 fd00:99::1/64", "leaf2:fabric 10.0.99.2/30 fd00:99::2/64"),
        ],
        segments=[
            Segment("mgmt", "central:mgmt 172.17.0.1/24", "hv1:mgmt 172.17.0.11/24", "hv2:mgmt 172.17.0.12/24"),
            # The tunnel end point sits on an OVS bridge over this device: see ovn.Hypervisor.
            Segment("tunnels", "central:tunnels", "hv1:tun0", "hv2:tun0"),
        ],
    )


def below_a_leaf(*hosts: str) -> Topology:
    """Any number of hypervisors and gateways below one leaf, with a tunnel network. The leaf has addresses of its own
    (10.255.255.1, fd00:ff::1), from which it asks."""
    links = [
        Link(f"{host}:eth1 10.0.{n}.2/30 fd00:{n}::2/64", f"leaf:{host} 10.0.{n}.1/30 fd00:{n}::1/64") for n, host in enumerate(hosts, 1)
    ]
    return Topology(
        nodes=[Node("central"), *(Node(host) for host in hosts), Node("leaf")],
        links=links,
        segments=[
            Segment("mgmt", "central:mgmt 172.17.0.1/24", *(f"{host}:mgmt 172.17.0.{10 + n}/24" for n, host in enumerate(hosts, 1))),
            Segment("tunnels", "central:tunnels", *(f"{host}:tun0" for host in hosts)),
        ],
    )
