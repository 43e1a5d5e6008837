"""Sequences that defeat an agent of edges: what the leaf has in the end is what the rows say, and nothing else.

Up and down in consecutive transactions, rows created already up, everything removed in the middle of a burst, while the daemon
is busy with a new dump, and while it cannot see the database, whose history is gone when it can. northd is paused, so that every
state of a row is ours to write. After each sequence the leaf's routes are those that `ovn-bgpd plan` makes of the final rows.
"""

import json
import signal

from lab import topology
from lab.cloud import Cloud
from lab.neutron import identifier
from lab.ovsdb import mapping
from lab.shell import wait_for

TOPOLOGY = topology.below_a_leaf("hv1")
TIME_LIMIT = 180


def run(s):
    cloud = Cloud(s, "hv1", leaf="bird", gateways=("hv1",), options="expose_tenant_networks = true")
    writer = cloud.neutron
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    anchor = writer.port(provider, "anchor", "203.0.113.10", "2001:db8:203::10", host="hv1")
    cloud.hosts["hv1"].boot("anchor", anchor)
    cloud.at("hv1", *anchor.addresses)
    s["central"].kill("northd", signal.SIGSTOP)
    story = Story(s, cloud, provider, set(anchor.addresses))

    s.step("a port goes up and down in consecutive transactions, 30 times; another down and up")
    one, two = (writer.port(provider, name, f"203.0.113.{n}", f"2001:db8:203::{n}", host="hv1") for name, n in (("one", 20), ("two", 21)))
    for _ in range(30):
        writer.set_up([one])
        writer.set_up([two], False)
        writer.set_up([one], False)
        writer.set_up([two])
    story.leaf_has(*two.addresses)

    s.step("ports that are created already up, one of them deleted in the next transaction")
    early, short = (writer.make_port(provider, name, [f"203.0.113.{n}", f"2001:db8:203::{n}"], "hv1") for name, n in (("early", 22), ("short", 23)))
    for port in (early, short):
        port.extra["up"] = True
    writer.create_ports([early])
    writer.create_ports([short])
    writer.delete_port(short)
    story.leaf_has(*two.addresses, *early.addresses)

    s.step("an address goes back and forth on a live port, and ends on the other")
    for n in range(31):
        early.addresses = [f"203.0.113.{22 if n % 2 else 24}", "2001:db8:203::22"]
        writer.update_ports([early])
    story.leaf_has(*two.addresses, "203.0.113.24", "2001:db8:203::22")
    writer.delete_ports([two, early, one])
    story.leaf_has()

    s.step("one object of every kind; then all of them go in the middle of a burst")
    story.create()
    burst = story.burst(60)
    story.remove()
    more = story.burst(60)
    story.leaf_has(*(address for port in burst + more for address in port.addresses))
    writer.delete_ports(burst + more)
    story.leaf_has()

    s.step("all of them go while the daemon is stopped in the middle of its work")
    story.create()
    daemon = cloud.ours["hv1"]
    burst = story.burst(60)
    daemon.node.kill(daemon.name, signal.SIGSTOP)
    story.remove()
    writer.delete_ports(burst)
    daemon.node.kill(daemon.name, signal.SIGCONT)
    story.leaf_has()

    s.step("all of them go while the database is out of sight, and its history is gone when it is back")
    story.create()
    cloud.central.stop_nb()
    daemon.node.kill(daemon.name, signal.SIGSTOP)
    cloud.central.restart_nb()
    story.remove()
    kept = story.burst(1)
    daemon.node.kill(daemon.name, signal.SIGCONT)
    story.leaf_has(*kept[0].addresses)
    s["central"].kill("northd", signal.SIGCONT)


class Story:
    """One object of every kind, there and away again; and what the leaf must have."""

    def __init__(self, s, cloud, provider, always):
        self.s, self.cloud, self.writer, self.provider, self.always = s, cloud, cloud.neutron, provider, always
        self.tenant = self.writer.network("tenant", "10.64.1.0/24")
        self.bursts = self.rounds = self.markers = 0

    def create(self):
        """Each with the state that northd and ovn-controller would have given it."""
        self.rounds += 1
        writer, name = self.writer, f"round{self.rounds}"
        self.router = writer.router(name, self.provider, "203.0.113.2", "2001:db8:203::2", chassis=[self.cloud.hosts["hv1"].system_id])
        writer.router_interface(self.router, self.tenant)
        writer.transact([{"op": "update", "table": "Logical_Switch_Port", "where": [["type", "==", "router"]], "row": {"up": True}}])
        status = mapping({"hosting-chassis": self.cloud.hosts["hv1"].system_id})
        writer.replace("Logical_Router_Port", f"lrp-{self.router.gateway_port_id}", status=status)
        self.machine = writer.make_port(self.tenant, f"machine-{name}", ["10.64.1.20"], "hv1", up=True)
        writer.create_ports([self.machine])
        writer.floating_ip(self.router, self.machine, "203.0.113.50")
        writer.floating_ip(self.router, self.machine, "203.0.113.51", member=True)
        self.vip = writer.load_balancer(name, self.router, self.tenant, "10.64.1.100", {"80": "10.64.1.20:80"}, vip_fip="203.0.113.52")
        vips = {address: {"80": "10.64.1.20:80"} for address in ("10.64.1.100", "203.0.113.52")}
        writer.set_balancer(name, vips)
        writer.floating_ip(self.router, self.vip, "203.0.113.52", distributed=False)
        self.forward = writer.port_forward(self.router, "203.0.113.53", 80, "10.64.1.20:80")
        self.leaf_has("203.0.113.2", "2001:db8:203::2", "10.64.1.20", "10.64.1.100", *(f"203.0.113.{n}" for n in range(50, 54)))

    def remove(self):
        """All of it, transaction by transaction. The port is the last that names the floating IP."""
        for address in ("203.0.113.50", "203.0.113.51", "203.0.113.52"):
            self.writer.release_floating_ip(self.router, address)
        self.writer.delete_balancer(identifier("lb", f"round{self.rounds}"))
        self.writer.delete_balancer(self.forward)
        self.writer.remove_interface(self.router, self.tenant)
        self.writer.delete_gateway(self.router)
        self.writer.delete_ports([self.machine, self.vip])

    def burst(self, number):
        """So many ports, each created, taken down and up in transactions of its own."""
        self.bursts += 1
        ports = []
        for n in range(number):
            suffix = f"{self.bursts:x}:{n + 1:x}"
            port = self.writer.make_port(self.provider, f"burst-{suffix}", [f"2001:db8:203::{suffix}"], "hv1", up=True)
            self.writer.create_ports([port])
            self.writer.set_up([port], False)
            self.writer.set_up([port])
            ports.append(port)
        return ports

    def leaf_has(self, *addresses):
        """The leaf has the routes for these, and no other; and so says `plan`. A port that is created last comes last: when it
        has arrived, everything before it has been dealt with."""
        self.markers += 1
        marker = self.writer.make_port(self.provider, f"marker{self.markers}", [f"2001:db8:203::ffff:{self.markers:x}"], "hv1", up=True)
        self.writer.create_ports([marker])
        wanted = {f"{address}/{128 if ':' in address else 32}" for address in {*self.always, *addresses, *marker.addresses}}
        self.cloud.leaf.wait_route(f"{marker.addresses[0]}/128", 30.0)
        seen = set()

        def same():
            nonlocal seen
            seen = set(self.cloud.leaf.routes())
            return seen == wanted

        try:
            wait_for("", same, 30.0)
        finally:
            missing, extra = sorted(wanted - seen), sorted(seen - wanted)
            self.s.expect(seen == wanted, f"the leaf lacks {missing}, and has besides {extra}")
        planned = {route["prefix"] for route in self.plan()["routes"]}
        self.s.equal(planned, wanted, "what `ovn-bgpd plan` makes of the rows")
        self.s.say(f"    the leaf has {len(wanted)} routes, as planned")
        self.writer.delete_port(marker)

    def plan(self):
        node, central = self.s["hv1"], self.s["central"]
        node.write("/lab/nb.db", central.run("ovsdb-client backup unix:/run/ovn/ovnnb_db.sock OVN_Northbound"))
        node.run("ovsdb-client backup unix:/run/openvswitch/db.sock Open_vSwitch >/lab/ovs.db")
        daemon = self.cloud.ours["hv1"]
        return json.loads(daemon.command("plan", "--config", daemon.config_path, "--nb", "/lab/nb.db", "--ovs", "/lab/ovs.db", "--json"))
