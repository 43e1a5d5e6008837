"""VLAN provider networks: several tags and flat on one bridge, a name too long, somebody else's device; IPv4 and IPv6 from the leaf.

`kernel` runs on Debian's own kernel under qemu, with the kernel's datapath and 802.1Q devices. `port` runs in containers, on whatever
kernel this is, with OVS internal ports that carry the tag and were made by the operator: what `explain` tells him to do where
8021q is missing.
"""

from lab import neutron, ovn, topology, vm
from lab.peers import BIRD_TWO_SESSIONS
from lab.shell import wait_for
from lab.topology import Link, Node, Segment, Topology

TIME_LIMIT = 240
VARIANTS = {
    "kernel": {"topology": {"kernel": True}, "skip": vm.why_not(), "time_limit": 420},
    "port": {"topology": {"kernel": False}},
}

# Name, physical network, bridge, tag, device.
NETWORKS = [
    ("flat", "physnet1", "br-ex", None, "br-ex"),
    ("blue", "physnet1", "br-ex", 100, "br-ex.100"),
    ("green", "physnet1", "br-ex", 356, "br-ex.356"),  # equal to 100 modulo 256
    ("foreign", "physnet1", "br-ex", 300, "br-ex.300"),  # the device is somebody else's
    ("long", "physnet2", "br-provider-a", 4094, "br-provide.4094"),
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
        self.ports, self.machines = {}, {}

    def tell(self):
        self.cloud()
        self.daemon_starts()
        self.everything_answers()
        if self.kernel:
            self.device_is_deleted_by_hand()
        self.last_port_goes()
        self.all_go()

    def cloud(self):
        s = self.s
        datapath = "system" if self.kernel else "netdev"
        self.central, hypervisors = ovn.start_cloud(
            s.lab, "hv1", mappings="physnet1:br-ex,physnet2:br-provider-a", datapath=datapath
        )
        self.hypervisor = hypervisors["hv1"]
        self.hv.run("ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1")
        self.bird = s.bird("leaf", text=BIRD_TWO_SESSIONS.format(
            router_id="10.0.1.1", asn=65001, peer_asn=64999, local4="10.0.1.1", peer4="10.0.1.2", local6="fd00:1::1",
            peer6="fd00:1::2", static4="route 0.0.0.0/0 blackhole;", static6="route ::/0 blackhole;",
        ))  # fmt: skip
        self.neutron = neutron.Neutron(self.central)
        for index, (name, physnet, _, tag, _) in enumerate(NETWORKS):
            network = self.neutron.network(name, f"198.51.{index}.0/24", f"2001:db8:5{index}::/64", physical_network=physnet, vlan=tag)
            port = self.neutron.port(network, name, f"198.51.{index}.10", f"2001:db8:5{index}::10", host="hv1")
            self.machines[name] = self.hypervisor.boot(name, port, timeout=60.0)
            self.ports[name] = port
        # A second segment of a switch, on a physical network that is not here: it must not be taken for the one that is.
        elsewhere = self.ports["green"].network.switch
        self.central.node.run(
            f"ovn-nbctl lsp-add {elsewhere} provnet-0000-elsewhere -- lsp-set-type provnet-0000-elsewhere localnet "
            "-- lsp-set-addresses provnet-0000-elsewhere unknown -- lsp-set-options provnet-0000-elsewhere network_name=elsewhere "
            "-- set logical_switch_port provnet-0000-elsewhere tag=7"
        )
        if self.kernel:
            self.hv.run("ip link add link br-ex name br-ex.300 type vlan id 300; ip link add link br-ex name br-ex.77 type vlan id 77")

    def daemon_starts(self):
        s = self.s
        self.ours = s.ours("hv1")
        self.bird.wait_route("198.51.0.10/32", 60.0)
        if not self.kernel and not self.hv.succeeds("ip link add link br-ex name probe type vlan id 9 && ip link del probe"):
            s.step("the kernel has no 8021q: said with what to do, and nothing of a tagged network is announced")
            said = self.ours.command("explain", "198.51.1.10", check=False)
            s.expect("8021q" in said and "ovs-vsctl add-port br-ex br-ex.100 tag=100" in said, f"explain says: {said}")
            s.expect("198.51.1.10/32" not in self.bird.routes(), "announced without a device")
        if not self.kernel:
            s.step("OVS internal ports with the tags, as the operator is told to make them")
            for _, _, bridge, tag, device in NETWORKS[1:]:
                mac = self.hv.run(f"cat /sys/class/net/{bridge}/address").strip()
                self.hv.run(f"ovs-vsctl add-port {bridge} {device} tag={tag} -- set interface {device} type=internal mac='\"{mac}\"'")

    def everything_answers(self):
        s = self.s
        for index, (name, _, _, _, device) in enumerate(NETWORKS):
            v4, v6 = f"198.51.{index}.10", f"2001:db8:5{index}::10"
            self.bird.wait_route(f"{v4}/32", 30.0)
            self.bird.wait_route(f"{v6}/128", 30.0)
            for address in (v4, v6):
                s.expect(self.leaf.ping(address, timeout=30.0), f"no ping to {address} of network {name}")
            # Answered by the leaf: the machine's gateway is the kernel, which answers for it on the network's own device.
            for leaf in ("10.0.1.1", "fd00:1::1"):
                s.expect(self.hv.ping(leaf, timeout=30.0, namespace=name), f"no ping from the machine on {name} to {leaf}")
            neighbours = self.hv.run(f"ip neigh show dev {device} nud permanent")
            s.expect(v4 in neighbours and v6 in neighbours, f"the neighbours of {name} are not on {device}: {neighbours}")
            proxies = [self.sysctl(f"ipv4/conf/{device}/proxy_arp"), self.sysctl(f"ipv6/conf/{device}/proxy_ndp")]
            s.equal(proxies, ["1", "1"], f"proxying on {device}")
            s.step(f"{name}: {v4} and {v6} answer the leaf through {device}")
        shown = {entry["device"]: entry for entry in self.ours.show("wiring")["devices"]}
        for name, _, bridge, tag, device in NETWORKS[1:]:
            s.expect(device in shown, f"show wiring lacks {device}: {shown}")
        if self.kernel:
            self.marks(["br-ex.100", "br-ex.356", "br-provide.4094"], ["br-ex.300", "br-ex.77"])

    def sysctl(self, path):
        return self.hv.run(f"cat /proc/sys/net/{path}").strip()

    def marks(self, ours, foreign):
        for device in ours:
            link = self.hv.run(f"ip -d link show {device}")
            self.s.expect("alias ovn-bgpd" in link, f"{device} has no mark of ours: {link}")
        for device in foreign:
            link = self.hv.run(f"ip -d link show {device}")
            self.s.expect("vlan protocol 802.1Q" in link and "alias" not in link, f"{device} has been touched: {link}")

    def device_is_deleted_by_hand(self):
        s = self.s
        s.step("somebody deletes br-ex.100: it is made again with all that stood on it")
        self.hv.run("ip link del br-ex.100")
        wait_for("br-ex.100 to be back", lambda: self.hv.succeeds("ip link show br-ex.100"), 20.0)
        for address in ("198.51.1.10", "2001:db8:51::10"):
            s.expect(self.leaf.ping(address, timeout=30.0), f"no ping to {address} after its device has come back")

    def last_port_goes(self):
        s = self.s
        s.step("the only port with tag 100 goes: its device goes, the others stay")
        self.delete("blue")
        self.bird.wait_gone("198.51.1.10/32", 30.0)
        self.bird.wait_gone("2001:db8:51::10/128", 30.0)
        if self.kernel:
            wait_for("br-ex.100 to go", lambda: not self.hv.succeeds("ip link show br-ex.100"), 20.0)
        else:
            s.expect(self.hv.succeeds("ip link show br-ex.100"), "the operator's port has been removed")
        for index in (0, 2, 3, 4):
            s.expect(self.leaf.ping(f"198.51.{index}.10", timeout=20.0), f"198.51.{index}.10 no longer answers")
            s.expect(self.leaf.ping(f"2001:db8:5{index}::10", timeout=20.0), f"2001:db8:{index}::10 no longer answers")

    def all_go(self):
        s = self.s
        s.step("all ports with tags go: what is somebody else's stays, and flat still answers")
        for name in ("green", "foreign", "long"):
            self.delete(name)
        for index in (2, 3, 4):
            self.bird.wait_gone(f"198.51.{index}.10/32", 30.0)
        if self.kernel:
            for device in ("br-ex.356", "br-provide.4094"):
                wait_for(f"{device} to go", lambda d=device: not self.hv.succeeds(f"ip link show {d}"), 20.0)
            self.marks([], ["br-ex.300", "br-ex.77"])
        s.expect(self.leaf.ping("198.51.0.10", timeout=20.0), "the flat network no longer answers")
        s.expect(self.leaf.ping("2001:db8:50::10", timeout=20.0), "the flat network no longer answers by IPv6")

    def delete(self, name):
        self.hypervisor.shut_down(self.machines[name])
        self.neutron.delete_port(self.ports[name])
