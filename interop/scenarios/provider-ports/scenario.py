"""Ports on provider networks, pinged from the leaf while they change: IPv4 and IPv6, unknown addresses, virtual ports, moves.

Each is pinged and then moved, changed or removed: several addresses, a port whose addresses OVN does not know, a virtual port
that fails over, an address replaced on a live port, a port moved to another network, a host renamed, live migration. The loss is printed.
"""

from lab import topology
from lab.cloud import Cloud

TOPOLOGY = topology.below_a_leaf("hv1", "hv2")
TIME_LIMIT = 180


def run(s):
    cloud = Cloud(s, "hv1", "hv2", leaf="frr", mappings="physnet1:br-ex,physnet2:br-two")
    writer, hv1, hv2 = cloud.neutron, cloud.hosts["hv1"], cloud.hosts["hv2"]
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    other = writer.network("other", "198.51.100.0/24", "2001:db8:198::/64", physical_network="physnet2")

    s.step("a port with two addresses of each family, and one whose addresses OVN does not know")
    web = writer.port(provider, "web", "203.0.113.10", "203.0.113.11", "2001:db8:203::10", "2001:db8:203::11", host="hv1")
    machine = hv1.boot("web", web)
    open_port = writer.port(provider, "open", "203.0.113.20", "2001:db8:203::20", host="hv2", lsp_addresses=["unknown"], port_security=[])
    hv2.boot("open", open_port)
    for host, port in (("hv1", web), ("hv2", open_port)):
        cloud.at(host, *port.addresses)
        cloud.pinged(*port.addresses)

    s.step("an address of the live port is replaced, of each family: the others do not notice")
    with cloud.watched("another address replaced", untouched=True, port="203.0.113.10", port6="2001:db8:203::10"):
        web.addresses = ["203.0.113.10", "203.0.113.12", "2001:db8:203::10", "2001:db8:203::12"]
        with cloud.removed("replaced on a live port", "address", "203.0.113.11", "2001:db8:203::11"):
            writer.update_ports([web])
        machine.run("ip addr del 203.0.113.11/24 dev eth0; ip addr add 203.0.113.12/24 dev eth0; "
                    "ip addr del 2001:db8:203::11/64 dev eth0; ip addr add 2001:db8:203::12/64 dev eth0 nodad")  # fmt: skip
        cloud.at("hv1", *web.addresses)
        cloud.pinged("203.0.113.12", "2001:db8:203::12")

    s.step("the machine moves to the other hypervisor, switched off between")
    with cloud.watched("moved to another host, off between", port="203.0.113.10", port6="2001:db8:203::10"):
        hv1.shut_down(machine)
        web.host = "hv2"
        writer.update_ports([web])
        machine = hv2.boot("web", web)
        cloud.at("hv2", *web.addresses)

    s.step("it is migrated live, and so back")
    with cloud.watched("live migration", port="203.0.113.10", port6="2001:db8:203::10"):
        machine = cloud.migrate(web, machine, "hv1")
        cloud.at("hv1", *web.addresses)
    with cloud.watched("live migration back", port="203.0.113.10", port6="2001:db8:203::10"):
        machine = cloud.migrate(web, machine, "hv2")
        cloud.at("hv2", *web.addresses)

    virtual_ports(s, cloud, provider)

    s.step("a port moves to another network, on another bridge")
    with cloud.removed("port moved to another network", "address", *web.addresses):
        web.addresses = ["198.51.100.10", "2001:db8:198::10"]
        writer.move_port(web, other)
    machine.run("ip addr flush dev eth0 scope global; ip addr add 198.51.100.10/24 dev eth0; ip addr add 2001:db8:198::10/64 dev eth0 nodad; "
                "ip route add default via 198.51.100.1; ip -6 route replace default via 2001:db8:198:: dev eth0")  # fmt: skip
    cloud.at("hv2", *web.addresses)
    cloud.pinged(*web.addresses)

    s.step("the host is renamed, first in its own database, then in Neutron's rows")
    with cloud.watched("host renamed", port="198.51.100.10", port6="2001:db8:198::10"):
        s["hv2"].run("ovs-vsctl set open_vswitch . external_ids:hostname=hv2.example.org")
        cloud.gone("198.51.100.10", "2001:db8:198::10")
        web.host = open_port.host = "hv2.example.org"
        writer.update_ports([web, open_port])
        cloud.at("hv2", *web.addresses, *open_port.addresses)

    s.step("ports are removed")
    with cloud.removed("port deleted", "port", *web.addresses, *open_port.addresses):
        writer.delete_ports([web, open_port])


def virtual_ports(s, cloud, network):
    """Two machines take turns at a virtual address of each family."""
    writer = cloud.neutron
    one = writer.port(network, "one", "203.0.113.31", "2001:db8:203::31", host="hv1")
    two = writer.port(network, "two", "203.0.113.32", "2001:db8:203::32", host="hv2")
    parents = {"hv1": one, "hv2": two}
    machines = {host: cloud.hosts[host].boot(port.name, port) for host, port in parents.items()}
    addresses = ["203.0.113.30", "2001:db8:203::30"]
    ports = [writer.virtual_port(network, f"vip{index}", address, [one, two]) for index, address in enumerate(addresses)]

    def claim(host):
        for port in ports:
            cloud.claim(host, machines[host].name, parents[host], port)

    s.step("a virtual port, and its fail-over")
    claim("hv1")
    cloud.at("hv1", *addresses)
    cloud.pinged(*addresses)
    with cloud.watched("virtual port fails over", virtual_port=addresses[0], virtual_port6=addresses[1]):
        machines["hv1"].run("ip addr del 203.0.113.30/24 dev eth0; ip addr del 2001:db8:203::30/64 dev eth0")
        claim("hv2")
        cloud.at("hv2", *addresses)
    with cloud.removed("virtual port deleted", "virtual port", *addresses):
        writer.delete_ports(ports)
