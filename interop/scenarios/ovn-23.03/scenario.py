"""Debian 12's OVN 23.03 and OVS 3.1: provider ports and distributed floating IPs work; what needs 23.09 is off and says why.

OVN before 23.09 does not tell the Northbound database which chassis hosts a gateway port (`status:hosting-chassis`). So gateway
addresses, centralised floating IPs, tenant networks and load balancers behind it are not announced, by anybody: `explain` names it.
"""

from dataclasses import replace

from lab import topology
from lab.cloud import Cloud
from lab.shell import LabError, wait_for

TIME_LIMIT = 120
BELOW = topology.below_a_leaf("hv1")
TOPOLOGY = replace(BELOW, nodes=[replace(node, image="oldstable") for node in BELOW.nodes])

GATEWAY, CENTRAL, DISTRIBUTED = "203.0.113.2", "203.0.113.53", "203.0.113.50"


def run(s):
    cloud = Cloud(s, "hv1", gateways=("hv1",))
    writer, host, ours = cloud.neutron, cloud.hosts["hv1"], cloud.ours["hv1"]
    version = cloud.central.node.run("ovn-northd --version | head -1").split()[-1]
    s.expect(version.startswith("23.03"), f"northd is {version}, not 23.03")
    s.versions["cloud"] = f"OVN {version}"
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    tenant = writer.network("tenant", "192.168.10.0/24")
    router = writer.router("router", provider, GATEWAY, chassis=[host.system_id])
    writer.router_interface(router, tenant)

    s.step("a port of a provider network, IPv4 and IPv6: announced and answering")
    plain = writer.port(provider, "plain", "203.0.113.10", "2001:db8:203::10", host="hv1")
    machine = host.boot("plain", plain)
    cloud.at("hv1", "203.0.113.10", "2001:db8:203::10")
    cloud.pinged("203.0.113.10", "2001:db8:203::10")

    s.step("a distributed floating IP: announced and answering")
    web = writer.port(tenant, "web", "192.168.10.20", host="hv1")
    host.boot("web", web)
    writer.floating_ip(router, web, DISTRIBUTED)
    cloud.at("hv1", DISTRIBUTED)
    cloud.pinged(DISTRIBUTED)

    s.step("a gateway and a centralised floating IP: not announced, and explain says what is missing")
    other = writer.port(tenant, "other", "192.168.10.21", host="hv1")
    host.boot("other", other)
    writer.floating_ip(router, other, CENTRAL, distributed=False)
    for address, reason in ((GATEWAY, "hosting-chassis"), (CENTRAL, "none that a chassis hosts")):
        try:
            wait_for("", lambda a=address, r=reason: r in explain(ours, a), 20.0)
        except LabError as late:
            raise LabError(f"explain {address} does not name {reason}: {explain(ours, address)}") from late
        s.say("  " + explain(ours, address).splitlines()[0])
    have = set(cloud.leaf.routes())
    s.expect(not have & {f"{GATEWAY}/32", f"{CENTRAL}/32"}, f"the leaf has {sorted(have)}")

    s.step("the floating IP is released and the port deleted: both gone, nothing left behind")
    writer.release_floating_ip(router, DISTRIBUTED)
    cloud.gone(f"{DISTRIBUTED}/32")
    host.shut_down(machine)
    writer.delete_port(plain)
    cloud.gone("203.0.113.10/32", "2001:db8:203::10/128")


def explain(ours, address):
    return ours.command("explain", address, check=False)
