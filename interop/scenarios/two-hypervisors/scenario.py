"""Two hypervisors: a machine migrates, a gateway fails over, a floating IP follows its machine – seen by both leaves.

Each time the leaves must end with exactly one next hop, the new one, and a ping must be answered. The router's own
address is announced by the chassis OVN says hosts the gateway.
"""

from lab import neutron, ovn, topology
from lab.shell import wait_for

TOPOLOGY = topology.two_hypervisors()
TIME_LIMIT = 180


def run(s):
    central, hypervisors = ovn.start_cloud(s.lab, "hv1", "hv2")
    leaves = {"leaf1": s.frr("leaf1", "leaf1.frr.conf"), "leaf2": s.bird("leaf2", "leaf2.bird.conf")}
    writer = neutron.Neutron(central)
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    for number, name in enumerate(hypervisors, 1):
        s[name].run(f"ip route add default via 10.0.{number}1.1; ip -6 route add default via fd00:{number}1::1; ip addr add 172.30.1.{number}/32 dev lo")
        s.ours(name, "hv.toml", N=number)

    def seen(address, number):
        """Both leaves have the address through hypervisor `number`, and through nobody else."""
        prefix = f"{address}/{128 if ':' in address else 32}"
        for index, leaf in enumerate(leaves.values(), 1):
            hop = f"fd00:{number}{index}::2" if ":" in address else f"10.0.{number}{index}.2"

            def only(leaf=leaf, hop=hop):
                route = leaf.routes().get(prefix)
                return route and [h for h in route.next_hops if not h.startswith("fe80")] == [hop]

            wait_for(f"{leaf.node.name}: {prefix} via {hop} alone (it has {leaf.routes().get(prefix)})", only, 20.0)

    def answered(address, timeout=10.0):
        for name in leaves:
            s.expect(s[name].ping(address, timeout=timeout), f"{name}: no answer from {address}")

    s.step("a machine on hv1")
    web = writer.port(provider, "web", "203.0.113.10", "2001:db8:203::10", host="hv1")
    machine = hypervisors["hv1"].boot("web", web)
    seen("203.0.113.10", 1)
    seen("2001:db8:203::10", 1)
    answered("203.0.113.10")
    answered("2001:db8:203::10")

    s.step("it migrates to hv2")
    web.host = "hv2"
    web.extra["options"] = {"requested-chassis": "hv2"}
    hypervisors["hv1"].shut_down(machine)
    writer.update_ports([web])
    hypervisors["hv2"].boot("web", web)
    seen("203.0.113.10", 2)
    seen("2001:db8:203::10", 2)
    answered("203.0.113.10")

    s.step("a router with its gateway on hv1, before hv2")
    one, two = (hypervisors[name].system_id for name in ("hv1", "hv2"))
    tenant = writer.network("tenant", "192.168.10.0/24")
    router = writer.router("router", provider, "203.0.113.2", chassis=[one, two])
    writer.router_interface(router, tenant)
    writer.snat(router, "192.168.10.0/24")
    seen("203.0.113.2", 1)
    answered("203.0.113.2")

    s.step("a tenant machine on hv2 with a distributed floating IP")
    db = writer.port(tenant, "db", "192.168.10.20", host="hv2")
    hypervisors["hv2"].boot("db", db)
    writer.floating_ip(router, db, "203.0.113.50")
    seen("203.0.113.50", 2)
    answered("203.0.113.50")

    s.step("the gateway fails over: ovn-controller of hv1 leaves")
    s["hv1"].stop("ovn-controller")
    central.node.run(["ovn-sbctl", "--if-exists", "chassis-del", one], check=False)
    seen("203.0.113.2", 2)
    seen("203.0.113.50", 2)
    answered("203.0.113.50")

    s.step("the floating IP is released")
    writer.release_floating_ip(router, "203.0.113.50")
    for leaf in leaves.values():
        leaf.wait_gone("203.0.113.50/32")
