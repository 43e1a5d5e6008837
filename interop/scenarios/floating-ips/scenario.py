"""Floating IPs, pinged from the leaf while they change: distributed and centralised, several of a port, of a virtual port.

Also that of a load balancer's member; the mode of the cloud is changed live, a virtual port fails over, and a machine is
migrated live with its floating IP, by OVN's own means. The loss is printed.
"""

from lab import topology
from lab.cloud import Cloud

TOPOLOGY = topology.below_a_leaf("hv1", "hv2", "gw1")
TIME_LIMIT = 180


def run(s):
    cloud = Cloud(s, "hv1", "hv2", "gw1", leaf="bird", gateways=("gw1",))
    writer, hv1, hv2 = cloud.neutron, cloud.hosts["hv1"], cloud.hosts["hv2"]
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    tenant = writer.network("tenant", "192.168.10.0/24")
    router = writer.router("router", provider, "203.0.113.2", "2001:db8:203::2", chassis=[cloud.hosts["gw1"].system_id], ha_group=True)
    writer.router_interface(router, tenant)
    writer.snat(router, "192.168.10.0/24")

    s.step("two distributed floating IPs of one port, one of another host's, one centralised, one of a load balancer's member")
    web = writer.port(tenant, "web", "192.168.10.20", "192.168.10.21", host="hv1")
    machine = hv1.boot("web", web)
    member = writer.port(tenant, "member", "192.168.10.30", host="hv2")
    hv2.boot("member", member)
    writer.floating_ip(router, web, "203.0.113.50")
    writer.floating_ip(router, web, "203.0.113.51", fixed="192.168.10.21")
    writer.floating_ip(router, member, "203.0.113.52")
    writer.floating_ip(router, member, "203.0.113.53", distributed=False)
    writer.floating_ip(router, member, "203.0.113.54", member=True)
    cloud.at("hv1", "203.0.113.50", "203.0.113.51")
    cloud.at("hv2", "203.0.113.52")
    cloud.at("gw1", "203.0.113.53", "203.0.113.54", "203.0.113.2", "2001:db8:203::2")
    cloud.pinged(*(f"203.0.113.{number}" for number in range(50, 55)), "203.0.113.2", "2001:db8:203::2")

    s.step("one of two floating IPs of a port is released: the port still names it, the other does not notice")
    with cloud.watched("the port's other floating IP released", untouched=True, floating_IP="203.0.113.50"):
        with cloud.removed("released while the port names it", "floating IP", "203.0.113.51"):
            writer.release_floating_ip(router, "203.0.113.51")

    s.step("the MAC of a floating IP arrives, as when its port has come up")
    with cloud.watched("its MAC arrives", floating_IP="203.0.113.53"):
        writer.give_mac("203.0.113.53")
        cloud.at("hv2", "203.0.113.53")

    s.step("the cloud's floating IPs become centralised, and distributed again")
    for distributed, host, other in ((False, "gw1", "gw1"), (True, "hv1", "hv2")):
        change = "become distributed" if distributed else "become centralised"
        with cloud.watched(change, floating_IP="203.0.113.50", another="203.0.113.52", always_central="203.0.113.54"):
            writer.distribute(router, distributed)
            cloud.at(host, "203.0.113.50")
            cloud.at(other, "203.0.113.52")
    virtual_port(s, cloud, router, tenant)

    s.step("a machine with a floating IP is migrated live")
    with cloud.watched("live migration", floating_IP="203.0.113.50"):
        cloud.migrate(web, machine, "hv2")
        cloud.at("hv2", "203.0.113.50")

    s.step("floating IPs are released, and one goes with its port")
    with cloud.removed("released", "floating IP", "203.0.113.52", "203.0.113.54"):
        for address in ("203.0.113.52", "203.0.113.54"):
            writer.release_floating_ip(router, address)
    with cloud.removed("port deleted, its NAT row still there", "floating IP", "203.0.113.50"):
        writer.delete_port(web)


def virtual_port(s, cloud, router, tenant):
    s.step("a floating IP of a virtual port, and the port's fail-over")
    writer = cloud.neutron
    parents = {host: writer.port(tenant, f"parent-{host}", f"192.168.10.4{n}", host=host) for n, host in enumerate(("hv1", "hv2"), 1)}
    for host, port in parents.items():
        cloud.hosts[host].boot(port.name, port)
    vip = writer.virtual_port(tenant, "vip", "192.168.10.40", list(parents.values()))
    cloud.claim("hv1", "parent-hv1", parents["hv1"], vip)
    writer.floating_ip(router, vip, "203.0.113.60")
    cloud.at("hv1", "203.0.113.60")
    cloud.pinged("203.0.113.60")
    with cloud.watched("virtual port fails over", floating_IP="203.0.113.60"):
        s["hv1"].run("ip addr del 192.168.10.40/24 dev eth0", namespace="parent-hv1")
        cloud.claim("hv2", "parent-hv2", parents["hv2"], vip)
        cloud.at("hv2", "203.0.113.60")
