"""OVN's central part, and hypervisors with OVS (userspace datapath: nothing is asked of the kernel's modules)."""

from __future__ import annotations

import json

from .laboratory import Lab, Node
from .ovsdb import Database
from .shell import LabError, wait_for

NB_PORT = 6641
SB_PORT = 6642
SCHEMAS = {"OVN_Northbound": "/usr/share/ovn/ovn-nb.ovsschema", "OVN_Southbound": "/usr/share/ovn/ovn-sb.ovsschema"}


class Central:
    """NB and SB databases and northd in one node. NB and SB also listen on /lab/nb.sock and /lab/sb.sock, which the
    host reaches through the node's directory."""

    def __init__(self, node: Node, address: str = "172.17.0.1") -> None:
        self.node = node
        self.nb_remote = f"tcp:{address}:{NB_PORT}"
        self.sb_remote = f"tcp:{address}:{SB_PORT}"
        self._nb: Database | None = None

    def start(self) -> None:
        node = self.node
        node.run("mkdir -p /run/ovn /run/openvswitch /var/lib/ovn")
        for name, short, port in (("OVN_Northbound", "nb", NB_PORT), ("OVN_Southbound", "sb", SB_PORT)):
            node.run(f"ovsdb-tool create /run/ovn/ovn{short}_db.db {SCHEMAS[name]}")
            self._start_server(short, port)
        node.run("ovn-nbctl init && ovn-sbctl init")
        node.start(
            "northd",
            f"ovn-northd --pidfile=/run/ovn/ovn-northd.pid --ovnnb-db=unix:/run/ovn/ovnnb_db.sock "
            f"--ovnsb-db=unix:/run/ovn/ovnsb_db.sock --unixctl=/run/ovn/ovn-northd.ctl",
        )

    def _start_server(self, short: str, port: int) -> None:
        self.node.run(f"rm -f /lab/{short}.sock /run/ovn/ovn{short}_db.sock")
        self.node.start(
            f"ovsdb-{short}",
            f"ovsdb-server /run/ovn/ovn{short}_db.db --remote=punix:/run/ovn/ovn{short}_db.sock "
            f"--remote=punix:/lab/{short}.sock --remote=ptcp:{port}:0.0.0.0 --pidfile=/run/ovn/ovn{short}_db.pid "
            f"--unixctl=/run/ovn/ovn{short}_db.ctl",
        )
        wait_for(f"{short} database", lambda: self.node.succeeds(f"test -S /lab/{short}.sock"))

    def stop_nb(self) -> None:
        """The Northbound database goes away."""
        if self._nb:
            self._nb.close()
            self._nb = None
        self.node.stop("ovsdb-nb")

    def restart_nb(self) -> None:
        """… and comes back with the same contents."""
        self._start_server("nb", NB_PORT)

    @property
    def nb(self) -> Database:
        if self._nb is None:
            self._nb = self.node.database("nb.sock", "OVN_Northbound")
        return self._nb

    def show(self, table: str, name: str, columns: str) -> str:
        """A row as `ovn-nbctl list` prints it."""
        return self.node.run(["ovn-nbctl", f"--columns={columns}", "list", table, name]).rstrip()

    def port_up(self, name: str) -> bool:
        return self.node.run(["ovn-nbctl", "lsp-get-up", name]).strip() == "up"


class VirtualMachine:
    """A network namespace inside the hypervisor's node, with one veth into br-int."""

    def __init__(self, hypervisor: "Hypervisor", name: str, port: str) -> None:
        self.hypervisor = hypervisor
        self.name = name
        self.port = port

    def run(self, command: str, **options) -> str:
        return self.hypervisor.node.run(command, namespace=self.name, **options)


class Hypervisor:
    """OVS and ovn-controller in a node, with `br-ex` for the physical network `physnet1`."""

    def __init__(self, node: Node, central: Central, *, uplink_for_tunnels: str | None = None, encap_ip: str = "",
                 mappings: str = "physnet1:br-ex", gateway: bool = True, datapath: str = "netdev") -> None:  # fmt: skip
        self.node = node
        self.datapath = datapath  # netdev: in the switch's own process; system: the kernel's module
        self.central = central
        self.mappings = mappings
        self.gateway = gateway
        self.encap_ip = encap_ip
        self.uplink_for_tunnels = uplink_for_tunnels
        self.system_id = f"{node.name}-system-id"

    def start(self) -> None:
        node = self.node
        node.run("mkdir -p /run/openvswitch /run/ovn && ovsdb-tool create /run/openvswitch/conf.db "
                 "/usr/share/openvswitch/vswitch.ovsschema")  # fmt: skip
        node.start(
            "ovsdb-server",
            "ovsdb-server /run/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock "
            "--pidfile=/run/openvswitch/ovsdb-server.pid --unixctl=/run/openvswitch/ovsdb-server.ctl",
        )
        wait_for(f"{node.name}: local database", lambda: node.succeeds("test -S /run/openvswitch/db.sock"))
        node.run("ovs-vsctl --no-wait init")
        self.start_vswitchd()
        for bridge in [item.split(":")[1] for item in self.mappings.split(",")]:
            self.add_bridge(bridge)
        self._tunnel_bridge()
        self._identify()
        node.start(
            "ovn-controller",
            "ovn-controller unix:/run/openvswitch/db.sock --pidfile=/run/ovn/ovn-controller.pid",  # 23.03 knows no --unixctl
        )
        wait_for(f"{node.name}: br-int", lambda: node.succeeds("ovs-vsctl br-exists br-int"))

    def start_vswitchd(self) -> None:
        self.node.start(
            "ovs-vswitchd",
            f"ovs-vswitchd unix:/run/openvswitch/db.sock {'--disable-system' if self.datapath == 'netdev' else ''} --pidfile=/run/openvswitch/ovs-vswitchd.pid "
            "--unixctl=/run/openvswitch/ovs-vswitchd.ctl",
        )

    def add_bridge(self, bridge: str) -> None:
        self.node.run(
            f"ovs-vsctl --may-exist add-br {bridge} -- set bridge {bridge} datapath_type={self.datapath} && ip link set {bridge} up && "
            f"echo 0 >/proc/sys/net/ipv4/conf/{bridge}/rp_filter"
        )

    def _tunnel_bridge(self) -> None:
        """With the userspace datapath the tunnel's end point must be an address on an OVS bridge."""
        if self.uplink_for_tunnels:
            self.node.run(
                f"ovs-vsctl add-br br-phy -- set bridge br-phy datapath_type={self.datapath} -- add-port br-phy "
                f"{self.uplink_for_tunnels} && ip addr add {self.encap_ip}/24 dev br-phy && ip link set br-phy up"
            )

    def _identify(self) -> None:
        keys = {
            "system-id": self.system_id,
            "hostname": self.node.name,
            "ovn-remote": self.central.sb_remote,
            "ovn-nb-remote": self.central.nb_remote,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": self.encap_ip,
            "ovn-bridge-mappings": f'"{self.mappings}"',
            "ovn-bridge-datapath-type": self.datapath,
        }
        if self.gateway:
            keys["ovn-cms-options"] = "enable-chassis-as-gw"
        settings = " ".join(f"external_ids:{key}='{value}'" for key, value in keys.items())
        self.node.run(f"ovs-vsctl set open_vswitch . {settings}")

    def boot(self, name: str, port, timeout: float = 20.0, link_up: bool = True) -> VirtualMachine:
        """A virtual machine with the addresses of a Neutron `port`, plugged into br-int; waits until OVN calls it up (not with
        a time limit of zero). With its link down it is one that is still to be migrated here."""
        ways = self.ways(port)
        tap = f"tap{port.id[:8]}"
        inside = " && ".join(["ip link set lo up", "ip link set eth0 up", *ways, *([] if link_up else ["ip link set eth0 down"])])
        self.node.run(
            f"ip netns add {name} && ip netns exec {name} sysctl -qw net.ipv6.conf.all.accept_dad=0 "
            f"net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 && "
            f"ip link add {tap} type veth peer name eth0 address {port.mac} netns {name} && ip link set {tap} up && "
            # The userspace datapath does not finish checksums that a veth leaves to its hardware.
            f"ip netns exec {name} ethtool -K eth0 tx off >/dev/null && "
            f"ip netns exec {name} sh -c '{inside}' && "
            f"ovs-vsctl --may-exist add-port br-int {tap} -- set interface {tap} external_ids:iface-id={port.id}"
        )
        if timeout:
            wait_for(f"OVN to call port {port.name} up", lambda: self.central.port_up(port.id), timeout)
        return VirtualMachine(self, name, port.id)

    @staticmethod
    def ways(port) -> list[str]:
        """What gives a machine its addresses and routes; again after its link has been down."""
        ways = []
        for address in port.addresses_with_length:
            nodad = " nodad" if ":" in address else ""
            ways.append(f"ip addr replace {address} dev eth0{nodad}")
        for gateway in port.gateways:
            family = "-6" if ":" in gateway else "-4"
            ways.append(f"ip {family} route replace default via {gateway} dev eth0")
        return ways

    def shut_down(self, machine: VirtualMachine) -> None:
        """The machine goes away with its interface; the Neutron port stays."""
        tap = f"tap{machine.port[:8]}"
        self.node.run(f"ovs-vsctl --if-exists del-port br-int {tap}; ip link del {tap}; ip netns del {machine.name}", check=False)

    def patch_port(self, localnet: str, bridge: str = "br-ex") -> str:
        """The patch port ovn-controller makes for a localnet port, once a port of that network is bound here."""
        name = f"patch-{localnet}-to-br-int"
        wait_for(f"{self.node.name}: {name} on {bridge}", lambda: name in self.node.run(f"ovs-vsctl list-ports {bridge}").split())
        return name

    def wiring(self, bridge: str = "br-ex", cookie: str = "0x3e7") -> dict[str, list[str]]:
        """What the kernel and OVS hold, one sorted list a kind: to show, and to compare before and after."""
        run = self.node.run

        def table(command: str) -> list[str]:
            return sorted(" ".join(line.split()) for line in run(command, check=False).splitlines() if line.strip())

        # `reset_counts` is how a flow was written, not what it does: by OpenFlow 1.0, as the upstream agent and ovs-ofctl do.
        dump = table(f"ovs-ofctl -O OpenFlow13 --no-stats dump-flows {bridge} 'cookie={cookie}/-1'")
        flows = sorted(line.replace(" reset_counts", "") for line in dump)
        numbers = [line for line in table("grep -v '^#' /etc/iproute2/rt_tables")]
        tables = [line.split()[0] for line in numbers if line.split()[-1] == bridge]
        return {
            "rules": table("ip -4 rule show pref 32000; ip -6 rule show pref 32000"),
            "routes": [
                f"table {number}: {route}"
                for number in tables
                for route in table(f"ip -4 route show table {number}; ip -6 route show table {number}")
            ],
            "neighbours": table(f"ip -4 neigh show dev {bridge} nud permanent; ip -6 neigh show dev {bridge} nud permanent"),
            "proxy": table(f"ip -6 neigh show proxy dev {bridge}; ip -4 neigh show proxy dev {bridge}"),
            "flows": flows,
        }


def start_cloud(lab: Lab, *names: str, gateways: tuple[str, ...] | None = None, mappings: str = "physnet1:br-ex",
                datapath: str = "netdev") -> tuple[Central, dict[str, Hypervisor]]:  # fmt: skip
    """Central services and hypervisors of a topology, started and connected. All may be gateways, or those that are named."""
    central = Central(lab["central"])
    central.start()
    hypervisors = {}
    for index, name in enumerate(names or ("hv1",), 1):
        tunnels = "tun0" if lab[name].succeeds("ip link show tun0") else None
        encap = f"10.255.0.{index}" if tunnels else f"172.17.0.{10 + index}"
        hypervisors[name] = Hypervisor(lab[name], central, uplink_for_tunnels=tunnels, encap_ip=encap, mappings=mappings,
                                       datapath=datapath, gateway=gateways is None or name in gateways)  # fmt: skip
        hypervisors[name].start()
    for name in hypervisors:
        wait_for(f"chassis {name} in the Southbound database", lambda: _has_chassis(central, name))
    return central, hypervisors


def _has_chassis(central: Central, hostname: str) -> bool:
    out = central.node.run("ovn-sbctl --format=json --columns=hostname list chassis")
    try:
        return any(row[0] == hostname for row in json.loads(out)["data"])
    except (ValueError, KeyError) as broken:
        raise LabError(f"ovn-sbctl answered {out!r}") from broken
