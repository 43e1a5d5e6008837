"""Load balancers and port forwards, connected to from the leaf all the while: tenant and provider VIPs, their floating IPs.

IPv4 and IPv6, TCP and UDP on one VIP, a VIP exchanged for another, one of two protocols removed, port forwards of two protocols
on one floating IP; then the gateway fails over below all of them, and they are removed. The loss is printed. With a rule for each
address, and with one for the bridge.
"""

from lab import topology
from lab.cloud import Cloud, source_for
from lab.neutron import identifier
from lab.shell import wait_for
from lab.watch import ask_udp, serve

TOPOLOGY = topology.below_a_leaf("hv1", "gw1", "gw2")
TIME_LIMIT = 180
VARIANTS = {"per-prefix": {}, "per-table": {"wiring": 'rules = "per-table"'}}

FRONT = {"tenant_VIP": "10.64.1.100", "tenant_VIP6": "2a00:db8:1::100", "provider_VIP": "203.0.113.100",
         "provider_VIP6": "2001:db8:203::100", "VIP's_floating_IP": "203.0.113.110", "port_forward": "203.0.113.120"}  # fmt: skip


def run(s):
    cloud = Cloud(s, "hv1", "gw1", "gw2", leaf="bird", gateways=("gw1", "gw2"), options="expose_tenant_networks = true",
                  wiring=s.parameters.get("wiring", ""))  # fmt: skip
    writer, gw1, gw2 = cloud.neutron, cloud.hosts["gw1"].system_id, cloud.hosts["gw2"].system_id
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    tenant = writer.network("tenant", "10.64.1.0/24", "2a00:db8:1::/64")
    router = writer.router("router", provider, "203.0.113.2", "2001:db8:203::2", chassis=[gw1, gw2], ha_group=True)
    for address in tenant.gateways:
        writer.router_interface(router, tenant, address)
    members = {"m1": ("hv1", "10.64.1.11", "2a00:db8:1::11"), "m2": ("gw2", "10.64.1.12", "2a00:db8:1::12")}
    for name, (host, *addresses) in members.items():
        cloud.hosts[host].boot(name, writer.port(tenant, name, *addresses, host=host))
        serve(s[host], name, 8080)
        serve(s[host], name, 8053, "udp")

    def backends(version, port, *names):
        return ",".join(f"[{members[name][2]}]:{port}" if version == 6 else f"{members[name][1]}:{port}" for name in names or members)

    s.step("a load balancer on a tenant network, one on the provider network, IPv4 and IPv6, and port forwards")
    web4 = writer.load_balancer("web4", router, tenant, FRONT["tenant_VIP"], {"80": backends(4, 8080)}, vip_fip=FRONT["VIP's_floating_IP"])
    writer.load_balancer("web6", router, tenant, FRONT["tenant_VIP6"], {"80": backends(6, 8080)})
    for version, key in ((4, "provider_VIP"), (6, "provider_VIP6")):
        writer.load_balancer(f"api{version}", router, provider, FRONT[key], {"80": backends(version, 8080)}, members_on=(tenant,))
    s.step("the VIP gets a floating IP, and a second protocol")
    writer.floating_ip(router, web4, FRONT["VIP's_floating_IP"], distributed=False)
    both = {address: {"80": backends(4, 8080)} for address in (FRONT["tenant_VIP"], FRONT["VIP's_floating_IP"])}
    writer.set_balancer("web4", both)
    writer.load_balancer("web4", router, tenant, FRONT["tenant_VIP"], {"53": backends(4, 8053)}, protocol="udp", row="web4-udp")
    forwards = [
        writer.port_forward(router, FRONT["port_forward"], 80, f"{members['m1'][1]}:8080"),
        writer.port_forward(router, FRONT["port_forward"], 53, f"{members['m1'][1]}:8053", "udp"),
    ]
    cloud.at("gw1", *FRONT.values())
    targets = {name: (address, 80) for name, address in FRONT.items()}

    s.step("every one is connected to; then one of two protocols that share an address goes: nobody notices")
    with cloud.watched("the other protocol removed", untouched=True, **targets) as watches:
        datagrams(s["leaf"], FRONT["tenant_VIP"], {"m1", "m2"})
        datagrams(s["leaf"], FRONT["port_forward"], {"m1"})
        writer.delete_balancer(identifier("lb", "web4-udp"))
        writer.delete_balancer(forwards.pop())
        wait_for("nobody to answer datagrams", lambda: not ask_udp(s["leaf"], FRONT["port_forward"], 53, source_for(FRONT["port_forward"]), 1.0))
        cloud.at("gw1", *FRONT.values())
        wait_for("both members to answer", lambda: {"m1", "m2"} <= set(watches[0].servers))
    s.step("the gateway fails over as planned, below all of them")
    with cloud.watched("planned fail-over of the gateway", **targets):
        writer.reschedule(router, [gw2, gw1])
        cloud.at("gw2", *FRONT.values())

    s.step("VIPs are exchanged for others, in one write each")
    with cloud.watched("another VIP exchanged", untouched=True, VIP=targets["tenant_VIP"], provider_VIP=targets["provider_VIP"]):
        for name, version, old, new in (("web6", 6, FRONT["tenant_VIP6"], "2a00:db8:1::101"), ("api6", 6, FRONT["provider_VIP6"], "2001:db8:203::101")):
            with cloud.removed("exchanged for another", "VIP", old):
                writer.set_balancer(name, {new: {"80": backends(version, 8080)}}, vip=new)
            cloud.at("gw2", new)
    with cloud.watched("after the exchange", VIP6=("2a00:db8:1::101", 80), provider_VIP6=("2001:db8:203::101", 80)):
        pass

    s.step("the VIP's floating IP goes, the VIPs lose their listeners, rows are deleted")
    with cloud.watched("its floating IP released", untouched=True, VIP=targets["tenant_VIP"]):
        with cloud.removed("released", "VIP's floating IP", FRONT["VIP's_floating_IP"]):
            writer.release_floating_ip(router, FRONT["VIP's_floating_IP"])
            writer.set_balancer("web4", {FRONT["tenant_VIP"]: {"80": backends(4, 8080)}}, vip_fip=None)
    with cloud.removed("no listener left", "VIP", FRONT["tenant_VIP"], "2a00:db8:1::101"):
        writer.set_balancer("web4", {})
        writer.set_balancer("web6", {})
    with cloud.removed("row deleted", "VIP", FRONT["provider_VIP"], "2001:db8:203::101"):
        writer.delete_balancer(identifier("lb", "api4"))
        writer.delete_balancer(identifier("lb", "api6"))
    with cloud.removed("row deleted", "port forward", FRONT["port_forward"]):
        writer.delete_balancer(forwards.pop())


def datagrams(leaf, address, wanted):
    heard = set()

    def all_heard():
        heard.add(ask_udp(leaf, address, 53, source_for(address), 2.0))
        return wanted <= heard

    wait_for(f"datagrams to {address} answered by {wanted}", all_heard)
