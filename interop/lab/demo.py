"""The demonstration: a port in OVN becomes a route on real leaves, and the ping comes back."""

from __future__ import annotations

import traceback

from . import neutron, ovn, peers, topology
from .daemon import OvnBgpd
from .laboratory import Lab, guarded
from .screen import Screen, paint
from .shell import LabError, wait_for

CONFIG = """\
[bgp]
asn = 64999
router_id = "172.30.1.1"

[bgp.peer_groups.uplink]
hold_time = "9s"
keepalive = "3s"
connect_retry = "1s"
next_hop_self = true
prefix_list_out = "only-host-prefixes"
prefix_list_in = "only-default"

[[bgp.neighbors]]                     # leaf1: FRR, eBGP
address = "10.0.1.1"
local_address = "10.0.1.2"
remote_as = 65001
peer_group = "uplink"
families = ["ipv4"]

[[bgp.neighbors]]
address = "fd00:1::1"
local_address = "fd00:1::2"
remote_as = 65001
peer_group = "uplink"
families = ["ipv6"]

[[bgp.neighbors]]                     # leaf2: BIRD, iBGP
address = "10.0.2.1"
local_address = "10.0.2.2"
remote_as = "internal"
peer_group = "uplink"
families = ["ipv4"]

[[bgp.neighbors]]
address = "fd00:2::1"
local_address = "fd00:2::2"
remote_as = "internal"
peer_group = "uplink"
families = ["ipv6"]

[prefix_lists]
only-host-prefixes = ["permit 0.0.0.0/0 ge 32", "permit ::/0 ge 128"]
only-default = ["permit 0.0.0.0/0", "permit ::/0"]

[advertise]                           # this host's own addresses
prefixes = ["172.30.1.1/32", "f00d::1/128"]

[ovn]
nb = "tcp:172.17.0.1:6641"
"""

FRR = peers.FRR_EBGP.format(
    name="leaf1", asn=65001, router_id="10.0.1.1", peer4="10.0.1.2", peer6="fd00:1::2", peer_asn=64999,
    originate4="neighbor 10.0.1.2 default-originate", originate6="neighbor fd00:1::2 default-originate",
)  # fmt: skip
BIRD = peers.BIRD_TWO_SESSIONS.format(
    router_id="10.0.2.1", asn=64999, peer_asn=64999, local4="10.0.2.1", peer4="10.0.2.2", local6="fd00:2::1",
    peer6="fd00:2::2", static4="route 0.0.0.0/0 blackhole;", static6="route ::/0 blackhole;",
)  # fmt: skip

WEB4, WEB6, FIP, SPARE = "203.0.113.10", "2001:db8:203::10", "203.0.113.50", "203.0.113.77"


class Demo:
    """The story, in order; every method is one step."""

    def __init__(self, lab: Lab, screen: Screen, config: str = CONFIG) -> None:
        self.lab = lab
        self.config = config
        self.screen = screen
        self.hv = lab["hv1"]
        self.leaves = {"leaf1": peers.Frr(lab["leaf1"]), "leaf2": peers.Bird(lab["leaf2"])}
        self.hops = {"leaf1": ("10.0.1.2", "fd00:1::2"), "leaf2": ("10.0.2.2", "fd00:2::2")}
        self.daemon = OvnBgpd(self.hv)

    def tell(self) -> None:
        self.cloud()
        self.start_daemon()
        self.provider_vm()
        self.floating_ip()
        self.vm_goes()
        self.crash()

    # Steps --------------------------------------------------------------------------------------------------------

    def cloud(self) -> None:
        screen = self.screen
        screen.step("A cloud, a hypervisor and two leaves", "Each is a container with its own network; cables are veth pairs.")
        self.central, hypervisors = ovn.start_cloud(self.lab, "hv1")
        self.hypervisor = hypervisors["hv1"]
        self.leaves["leaf1"].start(FRR)
        self.leaves["leaf2"].start(BIRD)
        # The host's way out; OVN's question for the subnet gateway is answered by the kernel because of it.
        self.hv.run(
            "ip addr add 172.30.1.1/32 dev lo; ip -6 addr add f00d::1/128 dev lo nodad; "
            "ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1"
        )
        self.neutron = neutron.Neutron(self.central)
        self.provider = self.neutron.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
        version = self.hv.run("ovs-vswitchd --version | head -1; ovn-controller --version | head -1").splitlines()
        screen.note(" · ".join(version))
        screen.note(f"leaf1: FRR {self.leaves['leaf1'].version()}, eBGP, AS 65001 · leaf2: BIRD {self.leaves['leaf2'].version()}, iBGP, AS 64999")
        screen.show("central", "ovn-sbctl show", self.central.node.run("ovn-sbctl show"))

    def start_daemon(self) -> None:
        screen = self.screen
        screen.step("ovn-bgpd starts on the hypervisor", "One binary; no FRR, no VRF, no dummy device.")
        self.daemon.configure(self.config)
        screen.show("hv1", f"cat {self.daemon.config_path}", self.config, most=60)
        self.daemon.start()
        for name, peer in self.leaves.items():
            for address in self.hops[name]:
                screen.check(f"{name} ({peer.kind}) has a session with {address}", lambda p=peer, a=address: p.wait_established(a) or True)
        screen.show("hv1", "ovn-bgpd show neighbors", self.daemon.command("show", "neighbors"))
        for name in self.leaves:
            self._learned(name, "172.30.1.1/32", "f00d::1/128", what="the host's own address")

    def provider_vm(self) -> None:
        screen = self.screen
        screen.step("A virtual machine on the provider network", f"Neutron writes a port with {WEB4} and {WEB6}; Nova boots the machine on hv1.")
        self.web = self.neutron.port(self.provider, "web", WEB4, WEB6, host="hv1")
        self.web_vm = self.hypervisor.boot("web", self.web)
        self.neutron_spare = self.neutron.port(self.provider, "spare", SPARE, host="hv1")
        self.hypervisor.boot("spare", self.neutron_spare)
        self._nb_row(self.web)
        self._await_routes("is announced", WEB4, WEB6)
        self._show_wiring()
        self._show_leaves()
        self._pings(WEB4, WEB6)

    def floating_ip(self) -> None:
        screen = self.screen
        screen.step("A floating IP on a tenant machine", f"192.168.10.20 behind a router with a gateway; {FIP} is attached to it.")
        tenant = self.neutron.network("tenant", "192.168.10.0/24")
        self.router = self.neutron.router("router", self.provider, "203.0.113.2", chassis=[self.hypervisor.system_id])
        self.neutron.router_interface(self.router, tenant)
        self.neutron.snat(self.router, "192.168.10.0/24")
        self.db = self.neutron.port(tenant, "db", "192.168.10.20", host="hv1")
        self.hypervisor.boot("db", self.db)
        self.neutron.floating_ip(self.router, self.db, FIP)
        row = self.central.node.run(
            "ovn-nbctl --columns=type,external_ip,logical_ip,external_mac,logical_port,external_ids find nat type=dnat_and_snat"
        )
        screen.show("central", "ovn-nbctl find nat type=dnat_and_snat", row)
        self._await_routes("is announced", FIP)
        self._show_wiring(only=FIP)
        self._show_leaves()
        self._pings(FIP)

    def vm_goes(self) -> None:
        screen = self.screen
        screen.step("The virtual machine goes", "Nova deletes it, Neutron removes the port.")
        self.hypervisor.shut_down(self.web_vm)
        self.neutron.delete_port(self.web)
        for name, peer in self.leaves.items():
            for address in (WEB4, WEB6):
                screen.check(f"{name} no longer has {address}", lambda p=peer, a=address: p.wait_gone(a) or True)
        screen.check("no rule, route, neighbour of it is left on the hypervisor", lambda: wait_for("unwiring", self._unwired(WEB4, WEB6), 5.0))
        self._show_leaves()

    def crash(self) -> None:
        screen = self.screen
        screen.step("kill -9, and back", "What stands in the kernel and in OVS is the memory: nothing right is touched, nothing stale stays.")
        before = self.hypervisor.wiring()
        self.daemon.kill()
        screen.check("while the daemon is dead, the floating IP still answers from a leaf that knows the way", lambda: self._ping_via_static(FIP))
        self.neutron.delete_port(self.neutron_spare)
        screen.note(f"meanwhile Neutron deleted the port with {SPARE}")
        screen.check("the wiring outlives the daemon", lambda: self.hypervisor.wiring() == before)
        self.daemon.start()
        self._await_routes("is announced again", FIP)
        screen.check(f"{SPARE}, deleted while the daemon was away, is unwired", lambda: wait_for("unwiring", self._unwired(SPARE), 5.0))
        for name, peer in self.leaves.items():
            screen.check(f"{name} does not have {SPARE}", lambda p=peer: p.wait_gone(SPARE) or True)
        screen.check("everything else is exactly as before: rules, routes, neighbours, flows", lambda: self._same(before))
        self._show_wiring()
        self._pings(FIP)

    # Looking ------------------------------------------------------------------------------------------------------

    def _nb_row(self, port: neutron.Port) -> None:
        columns = "name,type,addresses,up,options,external_ids"
        self.screen.show("central", f"ovn-nbctl list logical_switch_port {port.id}", self.central.show("logical_switch_port", port.id, columns))

    def _await_routes(self, word: str, *addresses: str) -> None:
        for name in self.leaves:
            for address in addresses:
                self._learned(name, f"{address}/{128 if ':' in address else 32}", what=f"{address} {word}")

    def _learned(self, name: str, *prefixes: str, what: str) -> None:
        for prefix in prefixes:
            hop = self.hops[name][1 if ":" in prefix else 0]
            self.screen.check(f"{name}: {what}; {prefix} via {hop}", lambda p=prefix, h=hop: self._via(name, p, h))

    def _via(self, name: str, prefix: str, hop: str) -> bool:
        route = self.leaves[name].wait_route(prefix)
        if hop not in route.next_hops:
            raise LabError(f"{name} has {prefix}, but via {route.next_hops}")
        return True

    def _show_leaves(self) -> None:
        frr, bird = self.leaves["leaf1"], self.leaves["leaf2"]
        for family in ("ip", "ipv6"):
            command = f"show {family} route bgp"
            lines = [line for line in frr.vtysh(command).splitlines() if line.startswith("B")]
            self.screen.show("leaf1", f'vtysh -c "{command}"', "\n".join(lines))
        self.screen.show("leaf2", "birdc show route where source = RTS_BGP", self._without_banner(bird.birdc("show route where source = RTS_BGP")))

    @staticmethod
    def _without_banner(text: str) -> str:
        return "\n".join(line for line in text.splitlines() if not line.startswith("BIRD "))

    def _show_wiring(self, only: str = "") -> None:
        commands = {
            "rules": "ip rule; ip -6 rule",
            "routes": "ip route show table br-ex; ip -6 route show table br-ex",
            "neighbours": "ip neigh show dev br-ex nud permanent",
            "proxy": "ip -6 neigh show proxy",
            "flows": "ovs-ofctl dump-flows br-ex cookie=0x3e7/-1",
        }
        for kind, lines in self.hypervisor.wiring().items():
            chosen = [line for line in lines if only in line]
            if chosen or not only:
                self.screen.show("hv1", commands[kind] + (f" | grep {only}" if only else ""), "\n".join(chosen))

    def _unwired(self, *addresses: str):
        def gone() -> bool:
            wiring = self.hypervisor.wiring()
            kinds = ("rules", "routes", "neighbours")
            return not any(address in line.replace("/", " ").split() for kind in kinds for line in wiring[kind] for address in addresses)

        return gone

    def _same(self, before: dict[str, list[str]]) -> bool:
        """What is wired now equals what was, without the port that was deleted on purpose."""
        expected = {kind: [line for line in lines if SPARE not in line] for kind, lines in before.items()}
        now = self.hypervisor.wiring()
        for kind, lines in expected.items():
            if lines != now[kind]:
                raise LabError(f"{kind} differ:\n  before: {lines}\n  now:    {now[kind]}")
        return True

    def _pings(self, *addresses: str) -> None:
        for name in self.leaves:
            for address in addresses:
                self.screen.check(f"{name} pings {address}", lambda n=name, a=address: self.lab[n].ping(a))
        address = addresses[0]
        out = self.lab["leaf1"].run(f"ping -n -c 3 -i 0.2 {address}", check=False)
        self.screen.show("leaf1", f"ping -c 3 {address}", out)

    def _ping_via_static(self, address: str) -> bool:
        leaf = self.lab["leaf1"]
        leaf.run(f"ip route add {address}/32 via 10.0.1.2 metric 4000")
        try:
            return leaf.ping(address)
        finally:
            leaf.run(f"ip route del {address}/32 via 10.0.1.2 metric 4000")


def main(keep: bool = False) -> int:
    screen = Screen()
    screen.say(paint("bold", "ovn-bgpd: a port in OVN becomes a route on a real leaf, and the ping comes back"))
    interrupted = False
    try:
        with guarded(), Lab(topology.first_light(), "demo", keep=keep, say=screen.note) as lab:
            try:
                Demo(lab, screen).tell()
            except LabError as failure:
                screen.check(f"the demonstration went on: {str(failure).splitlines()[0]}", lambda f=failure: _raise(f))
                screen.say(lab["hv1"].log("ovn-bgpd")[-3000:])
            except Exception:  # noqa: BLE001 - a fault of the demo itself must not skip the clean-up's report
                screen.check("the demonstration itself works", lambda: _raise(LabError(traceback.format_exc())))
            green = screen.summary()
            if keep:
                screen.say()
                screen.say(lab.how_to_look())
            engine, run_id = lab.engine, lab.run_id
    except KeyboardInterrupt:
        interrupted, green = True, False
        screen.say("interrupted: everything that was made has been removed")
    except LabError as failure:
        screen.say(paint("red", f"the lab could not be brought up: {failure}"))
        return 1
    if interrupted:
        return 130
    if not keep:
        left = [name for name, run_of, _ in engine.containers() if run_of == run_id]
        screen.say("  removed: no container, namespace or process is left" if not left else f"  LEFT BEHIND: {left}")
        green = green and not left
    return 0 if green else 1


def _raise(failure: Exception) -> None:
    raise failure
