"""`adopt_upstream`: a stopped ovn-bgp-agent's wiring is taken over under running pings without a gap, its leftovers go, once.

What the agent leaves is built with the very commands it uses: rules of priority 32000, routes of protocol boot in the bridge's table, permanent
neighbours, proxy entries, addresses, VLAN device, flows with cookie 999, and (`kernel` only: they need modules) the dummy device in a VRF that FRR
announced from. Beside it stand things that look alike and are somebody else's.
"""

import re

from lab import neutron, ovn, vm
from lab.peers import BIRD_TWO_SESSIONS
from lab.shell import wait_for
from lab.topology import Link, Node, Segment, Topology

TIME_LIMIT = 240
VARIANTS = {
    "kernel": {"topology": {"kernel": True}, "skip": vm.why_not(), "time_limit": 420},
    "containers": {"topology": {"kernel": False}},
}
# Name, tag, device, addresses.
NETWORKS = [
    ("flat", None, "br-ex", "198.51.0.10", "2001:db8:50::10"),
    ("blue", 100, "br-ex.100", "198.51.1.10", "2001:db8:51::10"),
]
GONE4, GONE6 = "198.51.0.99", "2001:db8:50::99"  # left by a port that was deleted while no agent ran
TABLE = 201
OPERATORS = [
    "ip rule add to 198.51.0.10 lookup 77 priority 100",
    "ip rule add to 10.77.0.0/16 lookup 77 priority 32000",
    "ip route add 10.77.0.0/16 dev lo table 77",
    f"ip route add 10.78.0.0/16 dev br-ex table {TABLE} proto static",
    "ip neigh add 198.51.0.200 lladdr 02:00:00:00:00:77 dev br-ex nud permanent",
    "ip addr add 10.79.0.1/32 dev br-ex",
    "ovs-ofctl add-flow br-ex cookie=0x77,priority=500,udp,tp_dst=9,actions=drop",
]


def TOPOLOGY(kernel):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("central"), Node("hv1"), Node("leaf")],
        links=[Link("hv1:eth1 10.0.1.2/30 fd00:1::2/64", "leaf:eth1 10.0.1.1/30 fd00:1::1/64")],
        segments=[Segment("mgmt", "central:mgmt 172.17.0.1/24", "hv1:mgmt 172.17.0.11/24")],
        kernel=kernel,
    )


def run(s):
    Story(s).tell()


class Story:
    def __init__(self, s):
        self.s = s
        self.kernel = s.lab.topology.kernel
        self.hv, self.leaf = s["hv1"], s["leaf"]
        # Without 8021q there is only the flat network.
        self.networks = NETWORKS if self.kernel else NETWORKS[:1]
        self.addresses = [address for network in self.networks for address in network[3:]]

    def tell(self):
        self.cloud()
        self.upstream_was_here()
        self.take_over()
        self.nothing_is_left()
        self.once_only()
        self.bridge_is_no_longer_mapped()

    def cloud(self):
        s = self.s
        central, hypervisors = ovn.start_cloud(s.lab, "hv1", datapath="system" if self.kernel else "netdev")
        self.hypervisor = hypervisors["hv1"]
        self.hv.run("ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1")
        self.bird = s.bird("leaf", text=BIRD_TWO_SESSIONS.format(
            router_id="10.0.1.1", asn=65001, peer_asn=64999, local4="10.0.1.1", peer4="10.0.1.2", local6="fd00:1::1",
            peer6="fd00:1::2", static4="route 0.0.0.0/0 blackhole;", static6="route ::/0 blackhole;",
        ))  # fmt: skip
        # As long as the fabric knows the way, only the wiring counts.
        for address in self.addresses:
            via = "fd00:1::2" if ":" in address else "10.0.1.2"
            self.leaf.run(f"ip route add {address} via {via} metric 4000")
        writer = neutron.Neutron(central)
        self.networks_made, self.ports = {}, {}
        for name, tag, _, v4, v6 in self.networks:
            subnets = (v4.rsplit(".", 1)[0] + ".0/24", v6.removesuffix("10") + "/64")
            network = writer.network(name, *subnets, physical_network="physnet1", vlan=tag)
            port = writer.port(network, name, v4, v6, host="hv1")
            self.hypervisor.boot(name, port, timeout=60.0)
            self.networks_made[name], self.ports[name] = network, port

    def upstream_was_here(self):
        """Sections 3.3 and 3.4 of what is known of the agent: its primitives, with its arguments."""
        s = self.s
        s.step("a stopped ovn-bgp-agent has left its wiring, and the pings go through it")
        commands = [
            f"echo '{TABLE} br-ex' >>/etc/iproute2/rt_tables",
            "ip link set br-ex up",
            f"ip route add default dev br-ex scope link table {TABLE}",
            f"ip -6 route add default dev br-ex table {TABLE}",
            "ip addr add 169.254.1.1/32 dev br-ex",
            "ip addr add fd53:d91e:400:7f17::1:1/128 dev br-ex nodad",
            "sysctl -qw net.ipv4.conf.br-ex.proxy_arp=1 net.ipv6.conf.br-ex.proxy_ndp=1",
        ]
        if self.kernel:
            commands += [
                "ip link add link br-ex name br-ex.100 type vlan id 100",
                "ip link set br-ex.100 up",
                "ip addr add 169.254.1.100/32 dev br-ex.100",
                "ip addr add fd53:d91e:400:7f17::1:64/128 dev br-ex.100 nodad",
                "sysctl -qw net/ipv4/conf/br-ex.100/proxy_arp=1 net/ipv6/conf/br-ex.100/proxy_ndp=1",
                "ip link add bgp-vrf type vrf table 10",
                "ip link set bgp-vrf up",
                "ip link add bgp-nic type dummy",
                "ip link set bgp-nic master bgp-vrf",
                "ip link set bgp-nic up",
                *(f"ip addr add {address}/{128 if ':' in address else 32} dev bgp-nic" for address in self.addresses),
            ]
        for name, _, device, v4, v6 in self.networks:
            mac = self.ports[name].mac
            commands += [f"ip -6 neigh add proxy {v6.removesuffix('10')} dev {device}"]
            for address in (v4, v6):
                commands += self.exposed(address, mac, device)
            patch = self.hypervisor.patch_port(self.networks_made[name].localnet)
            for family in ("ip", "ipv6"):
                commands += [
                    f"ovs-ofctl add-flow br-ex cookie=999,priority=900,{family},in_port=$(ovs-vsctl get interface {patch} ofport),"
                    "actions=mod_dl_dst:$(cat /sys/class/net/br-ex/address),NORMAL"
                ]
        for address in (GONE4, GONE6):
            commands += self.exposed(address, "fa:16:3e:99:99:99", "br-ex")
        commands += ["ovs-ofctl add-flow br-ex cookie=999,priority=900,ip,in_port=4321,actions=mod_dl_dst:02:00:00:00:00:01,NORMAL"]
        self.hv.run(" && ".join([*commands, *OPERATORS]))
        for address in self.addresses:
            s.expect(self.leaf.ping(address, timeout=30.0), f"no ping to {address} through what the agent left")
        self.operators = self.of_operators()

    @staticmethod
    def exposed(address, mac, device):
        length, family = (128, "-6") if ":" in address else (32, "-4")
        return [
            f"ip {family} rule add to {address}/{length} lookup {TABLE} priority 32000",
            f"ip {family} route add {address}/{length} dev {device} table {TABLE}",
            f"ip {family} neigh replace {address} lladdr {mac} dev {device} nud permanent",
        ]

    def of_operators(self):
        """What is not the agent's, as it is shown now."""
        look = (
            "ip rule show; ip -6 rule show; ip route show table 77; "
            f"ip route show table {TABLE}; ip neigh show dev br-ex nud permanent; ip -o addr show dev br-ex; "
            "ovs-ofctl --no-stats dump-flows br-ex"
        )
        marks = ("77", "10.78.", "10.79.", "198.51.0.200")
        lines = self.hv.run(look).splitlines()
        return sorted(" ".join(line.split()) for line in lines if any(mark in line for mark in marks))

    def take_over(self):
        s = self.s
        for index, address in enumerate(self.addresses):
            self.leaf.start(f"ping{index}", f"ping -n -i 0.02 {address}")
        self.ours = s.ours("hv1")
        for address in self.addresses:
            self.bird.wait_route(f"{address}/{128 if ':' in address else 32}", 60.0)
        wait_for("the leftovers to go", lambda: "99" not in self.hv.run(f"ip route show table {TABLE} {GONE4}"), 20.0)
        if self.kernel:
            wait_for("bgp-nic and its VRF to go", lambda: not self.hv.succeeds("ip link show bgp-vrf"), 20.0)
        for index, address in enumerate(self.addresses):
            replies = self.replies(index)
            wait_for(f"pings of {address} to be answered afterwards", lambda i=index, n=replies: self.replies(i) > n + 20, 30.0)
        s.expect("took over what ovn-bgp-agent left" in self.hv.log("ovn-bgpd"), "the log says nothing of a takeover")
        for index, address in enumerate(self.addresses):
            self.leaf.stop(f"ping{index}", 2)
            said = self.leaf.log(f"ping{index}").split("---")[-1]
            sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())
            s.step(f"{address}: {sent} pings while the daemon took over, {sent - received} lost")
            # The last one may be under way when ping is told to stop.
            s.expect(sent - received <= 1, f"a gap at {address}: {said}")

    def replies(self, index):
        return self.leaf.log(f"ping{index}").count("bytes from")

    def nothing_is_left(self):
        s = self.s
        wiring = self.hypervisor.wiring()
        shown = str(wiring) + self.hv.run("ip neigh show; ip rule; ip -6 rule; ovs-ofctl --no-stats dump-flows br-ex")
        for left in (GONE4, GONE6, "in_port=4321"):
            s.expect(left not in shown, f"{left} is still there")
        # Protocol 99 on all that was unmarked.
        for command in ("ip -N rule show", "ip -N -6 rule show"):
            rules = [line for line in self.hv.run(command).splitlines() if f"lookup {TABLE}" in line]
            s.expect(rules and all("proto 99" in line for line in rules), f"unmarked rules: {rules}")
        routes = self.hv.run(f"ip -N route show table {TABLE}; ip -N -6 route show table {TABLE}").splitlines()
        unmarked = [line for line in routes if "proto 99" not in line and "10.78." not in line]
        s.expect(not unmarked, f"unmarked routes: {unmarked}")
        for address in self.addresses:
            entry = self.hv.run(f"ip -N -d neigh show {address}")
            s.expect("proto 99" in entry and "PERMANENT" in entry, f"unmarked neighbour: {entry}")
        if self.kernel:
            s.expect("alias ovn-bgpd" in self.hv.run("ip link show br-ex.100"), "br-ex.100 is not marked")
            s.expect(not self.hv.succeeds("ip link show bgp-nic"), "bgp-nic is still there")
        s.equal(self.of_operators(), self.operators, "what is not the agent's")

    def once_only(self):
        s = self.s
        s.step("the daemon is started again: there is nothing left to take over")
        before = self.hypervisor.wiring()
        self.ours.stop()
        log = self.hv.log("ovn-bgpd")
        self.ours.start()
        wait_for("the wiring to be seen", lambda: self.ours.show("routes"), 20.0)
        s.expect("ovn-bgp-agent" not in self.hv.log("ovn-bgpd").removeprefix(log), "took over twice")
        s.equal(self.hypervisor.wiring(), before, "wiring after a restart")

    def bridge_is_no_longer_mapped(self):
        s = self.s
        s.step("while the daemon is away the bridge leaves the mappings: what is ours on it goes at the next start")
        self.ours.stop()
        s.expect(self.hypervisor.wiring()["flows"], "no flows to begin with")
        self.hypervisor.add_bridge("br-other")
        self.hv.run("ovs-vsctl set open_vswitch . external_ids:ovn-bridge-mappings=physnet2:br-other")
        self.ours.start()

        def clean():
            shown = self.hv.run(
                f"ip -N rule show; ip -N -6 rule show; ip -N route show table {TABLE}; ip -N neigh show dev br-ex nud permanent"
            )
            return "proto 99" not in shown and not self.hypervisor.wiring()["flows"]

        wait_for("everything of ours to go from br-ex", clean, 30.0)
        s.equal(self.of_operators(), self.operators, "what is not the agent's")
