"""Gateways and tenant networks behind them, pinged from the leaf: fail-over planned and not, `host` and `subnet`, every filter.

A router with an HA_Chassis_Group on two hosts, IPv4 and IPv6, and a second gateway port; the tenant networks are announced by
addresses and by subnets, with address scopes, global IPv6 only, and only without SNAT, changed by reload while pings run. The
loss of each is printed.
"""

from lab import topology
from lab.cloud import Cloud

TOPOLOGY = topology.below_a_leaf("hv1", "gw1", "gw2")
TIME_LIMIT = 180

TENANTS = "expose_tenant_networks = true\n"
SCOPE, OTHER_SCOPE = "6d9e7f0c-0001-4000-8000-000000000001", "6d9e7f0c-0002-4000-8000-000000000002"


def run(s):
    cloud = Cloud(s, "hv1", "gw1", "gw2", leaf="frr", gateways=("gw1", "gw2"), options=TENANTS, everything=True,
                  mappings="physnet1:br-ex,physnet2:br-two")  # fmt: skip
    writer, gw1, gw2 = cloud.neutron, cloud.hosts["gw1"].system_id, cloud.hosts["gw2"].system_id
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    tenant = writer.network("tenant", "10.64.1.0/24", "2a00:db8:1::/64")
    private = writer.network("private", "10.64.2.0/24", "fd12:3456:1::/64")

    s.step("a router with its gateway on gw1, before gw2, and two tenant networks of two address scopes")
    router = writer.router("router", provider, "203.0.113.2", "2001:db8:203::2", chassis=[gw1, gw2], ha_group=True)
    for network, scope in ((tenant, SCOPE), (private, OTHER_SCOPE)):
        for address in network.gateways:
            writer.router_interface(router, network, address, scopes={4: scope, 6: scope})
    one = writer.port(tenant, "one", "10.64.1.20", "2a00:db8:1::20", host="hv1")
    two = writer.port(private, "two", "10.64.2.20", "fd12:3456:1::20", host="hv1")
    cloud.hosts["hv1"].boot("one", one)
    cloud.hosts["hv1"].boot("two", two)
    gateway = ["203.0.113.2", "2001:db8:203::2"]
    cloud.at("gw1", *gateway, *one.addresses, *two.addresses)
    cloud.pinged(*gateway, *one.addresses, *two.addresses)

    watched = {"gateway": gateway[0], "gateway6": gateway[1], "tenant_port": one.addresses[0], "tenant_port6": one.addresses[1]}
    s.step("the priorities are exchanged: a planned fail-over")
    with cloud.watched("planned fail-over", **watched):
        writer.reschedule(router, [gw2, gw1])
        cloud.at("gw2", *gateway, *one.addresses, *two.addresses)
    s.step("gw2 dies, as from its power supply")
    taken_for_dead(cloud, after=600)
    with cloud.watched("the gateway's host dies", **watched):
        # Its cables go; nobody there can say anything to anybody.
        s["gw2"].run("ip link set eth1 down; ip link set tun0 down; ip link set mgmt down")
        cloud.at("gw1", *gateway, *one.addresses, *two.addresses)
    # Most of this loss is OVN's: the other host lets go when the tunnel is back, gw2 takes over when its controller has noticed
    # that its old connection to the databases is dead.
    s.step("it comes back, and takes the gateway over again")
    with cloud.watched("the gateway's host returns", **watched):
        s["gw2"].run("ip link set mgmt up; ip link set tun0 up; ip link set eth1 up; ip -6 addr replace fd00:3::2/64 dev eth1 nodad; "
                     "ip route replace default via 10.0.3.1; ip -6 route replace default via fd00:3::1")  # fmt: skip
        cloud.at("gw2", *gateway, *one.addresses, *two.addresses, timeout=30.0)

    # A busy machine must not look like a dead gateway from here on.
    taken_for_dead(cloud, after=10000)
    tenant_networks(s, cloud, router, tenant, one, two)
    another_gateway(s, cloud, router)

    s.step("a tenant port, a router's interface, and the gateway are removed")
    with cloud.removed("port deleted", "tenant port", *two.addresses):
        writer.delete_port(two)
    with cloud.removed("interface removed", "tenant port", one.addresses[0]):
        writer.remove_interface(router, tenant, tenant.gateways[0])
    with cloud.removed("gateway port deleted", "gateway", *gateway, one.addresses[1]):
        writer.delete_gateway(router)


def taken_for_dead(cloud, after):
    """How many milliseconds OVN waits (in three times) before it takes a silent gateway for dead."""
    cloud.neutron.set_keys("NB_Global", [], "options", {"bfd-min-rx": str(after // 3), "bfd-min-tx": str(after // 3), "bfd-mult": "3"})


def tenant_networks(s, cloud, router, tenant, one, two):
    subnets = {"tenant": ["10.64.1.0/24", "2a00:db8:1::/64"], "private": ["10.64.2.0/24", "fd12:3456:1::/64"]}
    addresses = [*one.addresses, *two.addresses]

    def announced(here, not_here):
        cloud.at("gw2", *here)
        cloud.gone(*not_here)

    s.step("the subnets are announced instead of the addresses, and the addresses again")
    with cloud.watched("announced by subnet", tenant_port=one.addresses[0], tenant_port6=one.addresses[1]):
        cloud.reconfigure(TENANTS + 'tenant_advertisement = "subnet"')
        announced([*subnets["tenant"], *subnets["private"]], addresses)
    cloud.pinged(*addresses)
    with cloud.watched("announced by address", tenant_port=one.addresses[0], tenant_port6=one.addresses[1]):
        cloud.reconfigure(TENANTS)
        announced(addresses, [*subnets["tenant"], *subnets["private"]])

    s.step("one address scope only")
    with cloud.watched("other scopes filtered", untouched=True, tenant_port=one.addresses[0], tenant_port6=one.addresses[1]):
        cloud.reconfigure(TENANTS + f'address_scopes = ["{SCOPE}"]')
        announced(one.addresses, two.addresses)
    s.step("… which a port that comes later does not escape")
    late = cloud.neutron.port(two.network, "late", "10.64.2.30", "fd12:3456:1::30", host="hv1")
    seen = cloud.neutron.port(one.network, "seen", "10.64.1.30", "2a00:db8:1::30", host="hv1")
    cloud.hosts["hv1"].boot("late", late)
    cloud.hosts["hv1"].boot("seen", seen)
    announced([*one.addresses, *seen.addresses], [*two.addresses, *late.addresses])

    s.step("global IPv6 only")
    with cloud.watched("all but global IPv6 filtered", untouched=True, tenant_port6=one.addresses[1]):
        cloud.reconfigure("expose_ipv6_gua_tenant_networks = true")
        announced([one.addresses[1], seen.addresses[1]], [one.addresses[0], *two.addresses, *late.addresses])

    s.step("only what is not translated, and SNAT comes and goes")
    cloud.reconfigure(TENANTS + "require_snat_disabled_for_tenant_networks = true")
    announced([*addresses, *seen.addresses, *late.addresses], [])
    with cloud.removed("its subnet gets SNAT", "tenant port", one.addresses[0], seen.addresses[0]):
        cloud.neutron.snat(router, "10.64.1.0/24")
    announced([*two.addresses, one.addresses[1]], [])
    with cloud.added("SNAT is disabled", "tenant port", "gw2", one.addresses[0], seen.addresses[0]):
        cloud.neutron.no_snat(router, "10.64.1.0/24")
    cloud.pinged(*addresses, *seen.addresses, *late.addresses)


def another_gateway(s, cloud, router):
    s.step("a second gateway port of the router, on the other host")
    writer = cloud.neutron
    second = writer.network("second", "198.51.100.0/24", "2001:db8:198::/64", physical_network="physnet2")
    other = writer.another_gateway(router, "router-second", second, "198.51.100.2", "2001:db8:198::2", chassis=[cloud.hosts["gw1"].system_id])
    cloud.at("gw1", "198.51.100.2", "2001:db8:198::2")
    cloud.pinged("198.51.100.2", "2001:db8:198::2", "203.0.113.2", "2001:db8:203::2")
    with cloud.watched("the router's other gateway deleted", untouched=True, gateway="203.0.113.2"):
        with cloud.removed("gateway port deleted", "gateway", "198.51.100.2", "2001:db8:198::2"):
            writer.delete_gateway(other)
