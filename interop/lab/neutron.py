"""Writes what Neutron's ML2/OVN driver writes into the Northbound database, each call in one transaction.

There is no Neutron here: identifiers are made from names, so that two runs of a lab have the same rows.
"""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass, field
from typing import Any

from .ovn import Central
from .ovsdb import mapping, members, named

NAMESPACE = uuid.UUID("6f1d2f0e-3a77-4a57-9d0e-1b8a3c6f5e01")


def identifier(kind: str, name: str) -> str:
    """A UUID that is the same in every run."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}/{name}"))


def mac_of(name: str) -> str:
    raw = uuid.uuid5(NAMESPACE, f"mac/{name}").bytes
    return "fa:16:3e:" + ":".join(f"{octet:02x}" for octet in raw[:3])


@dataclass
class Network:
    """A Neutron network: one logical switch, with a localnet port if it is a provider network."""

    name: str
    subnets: list[str]
    physical_network: str | None = None
    vlan: int | None = None

    @property
    def id(self) -> str:
        return identifier("network", self.name)

    @property
    def switch(self) -> str:
        return f"neutron-{self.id}"

    @property
    def localnet(self) -> str:
        return f"provnet-{identifier('segment', self.name)}"

    def length_of(self, address: str) -> int:
        for subnet in self.subnets:
            if ipaddress.ip_address(address) in ipaddress.ip_network(subnet):
                return ipaddress.ip_network(subnet).prefixlen
        raise ValueError(f"{address} is in no subnet of network {self.name}")

    @property
    def gateways(self) -> list[str]:
        """Neutron's defaults: the first address for IPv4, the network address itself for IPv6."""
        nets = [ipaddress.ip_network(subnet) for subnet in self.subnets]
        return [str(net.network_address + 1 if net.version == 4 else net.network_address) for net in nets]


@dataclass
class Port:
    """A Neutron port."""

    name: str
    network: Network
    addresses: list[str]
    mac: str
    host: str | None
    device_owner: str = "compute:nova"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return identifier("port", self.name)

    @property
    def addresses_with_length(self) -> list[str]:
        return [f"{address}/{self.network.length_of(address)}" for address in self.addresses]

    @property
    def gateways(self) -> list[str]:
        families = {ipaddress.ip_address(address).version for address in self.addresses}
        return [gw for gw in self.network.gateways if ipaddress.ip_address(gw).version in families]


@dataclass
class Router:
    """A Neutron router with, possibly, an external gateway."""

    name: str
    external: Network | None = None
    gateway_addresses: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return identifier("router", self.name)

    @property
    def row_name(self) -> str:
        return f"neutron-{self.id}"

    @property
    def gateway_port_id(self) -> str:
        return identifier("port", f"{self.name}-gateway")

    @property
    def gateway_mac(self) -> str:
        return mac_of(f"{self.name}-gateway")


def row_name(text: str) -> str:
    """A name for a row within its transaction."""
    return "r" + text.replace("-", "_")


def insert(table: str, row: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {"op": "insert", "table": table, "row": row}
    if name:
        operation["uuid-name"] = name
    return operation


def attach(table: str, where_name: str, column: str, reference: Any, mutator: str = "insert") -> dict[str, Any]:
    return {
        "op": "mutate",
        "table": table,
        "where": [["name", "==", where_name]],
        "mutations": [[column, mutator, members([reference])]],
    }


class Neutron:
    """Emulates the writer. Every method commits one transaction."""

    def __init__(self, central: Central) -> None:
        self.central = central
        self._revision = 1
        self._rows: dict[str, list] = {}  # ports by name: the server scans whole tables for anything but a row's UUID

    def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.central.nb.transact(operations)

    # Networks ---------------------------------------------------------------------------------------------------

    def network(self, name: str, *subnets: str, physical_network: str | None = None, vlan: int | None = None) -> Network:
        network = Network(name, list(subnets), physical_network, vlan)
        switch_ids = {"neutron:network_name": name, "neutron:revision_number": "1", "neutron:mtu": "1442"}
        ports: list = []
        operations = []
        if physical_network:
            row: dict[str, Any] = {
                "name": network.localnet,
                "type": "localnet",
                "addresses": members(["unknown"]),
                "options": mapping({"network_name": physical_network, "mcast_flood": "false", "mcast_flood_reports": "true"}),
            }
            if vlan is not None:
                row["tag"] = vlan
            operations.append(insert("Logical_Switch_Port", row, "localnet"))
            ports.append(named("localnet"))
        switch = {
            "name": network.switch,
            "external_ids": mapping(switch_ids),
            "other_config": mapping({"mcast_snoop": "false", "vlan-passthru": "false"}),
            "ports": members(ports),
        }
        self.transact([*operations, insert("Logical_Switch", switch)])
        return network

    # Ports ------------------------------------------------------------------------------------------------------

    def make_port(self, network: Network, name: str, addresses: list[str], host: str | None = None, **extra) -> Port:
        """A port as a value, not yet written."""
        return Port(name, network, addresses, extra.pop("mac", None) or mac_of(name), host, extra=extra)

    def port_row(self, port: Port) -> dict[str, Any]:
        """The Logical_Switch_Port row of a virtual machine's port."""
        extra = port.extra
        ids = {
            "neutron:cidrs": " ".join(port.addresses_with_length),
            "neutron:device_id": identifier("server", port.name),
            "neutron:device_owner": port.device_owner,
            "neutron:network_name": port.network.switch,
            "neutron:port_name": port.name,
            "neutron:port_capabilities": "",
            "neutron:project_id": identifier("project", "demo").replace("-", ""),
            "neutron:revision_number": str(self._revision),
            "neutron:security_group_ids": identifier("security-group", "default"),
            "neutron:vnic_type": "normal",
            **extra.get("external_ids", {}),
        }
        options = {"mcast_flood_reports": "true", **extra.get("options", {})}
        if port.host:
            ids["neutron:host_id"] = port.host
            options["requested-chassis"] = port.host
        address = extra.get("lsp_addresses", [" ".join([port.mac, *port.addresses])])
        security = extra.get("port_security", [" ".join([port.mac, *port.addresses])])
        return {
            "name": port.id,
            "type": extra.get("type", ""),
            "addresses": members(address),
            "port_security": members(security),
            "enabled": True,
            "external_ids": mapping(ids),
            "options": mapping(options),
        }

    def create_ports(self, ports: list[Port]) -> None:
        """Any number of ports in one transaction."""
        operations: list[dict[str, Any]] = []
        by_switch: dict[str, list] = {}
        for port in ports:
            operations.append(insert("Logical_Switch_Port", self.port_row(port), row_name(port.id)))
            by_switch.setdefault(port.network.switch, []).append(named(row_name(port.id)))
        for switch, references in by_switch.items():
            operations.append(
                {
                    "op": "mutate",
                    "table": "Logical_Switch",
                    "where": [["name", "==", switch]],
                    "mutations": [["ports", "insert", members(references)]],
                }
            )
        for port, result in zip(ports, self.transact(operations)):
            self._rows[port.id] = result["uuid"]

    def _where(self, port: Port) -> list:
        row = self._rows.get(port.id)
        return [["_uuid", "==", row]] if row else [["name", "==", port.id]]

    def port(self, network: Network, name: str, *addresses: str, host: str | None = None, **extra) -> Port:
        port = self.make_port(network, name, list(addresses), host, **extra)
        self.create_ports([port])
        return port

    def update_ports(self, ports: list[Port]) -> None:
        """Rewrites the rows of ports whose values changed (host, addresses, …), in one transaction."""
        self._revision += 1
        self.transact(
            [
                {"op": "update", "table": "Logical_Switch_Port", "where": self._where(port),
                 "row": {key: value for key, value in self.port_row(port).items() if key != "name"}}
                for port in ports
            ]  # fmt: skip
        )

    def delete_ports(self, ports: list[Port]) -> None:
        self.transact(self.deletion(ports))

    def deletion(self, ports: list[Port]) -> list[dict[str, Any]]:
        """The operations that delete ports, for whoever wants to time the transaction alone."""
        by_switch: dict[str, list] = {}
        for port in ports:
            by_switch.setdefault(port.network.switch, []).append(self._rows.pop(port.id))
        return [
            {
                "op": "mutate",
                "table": "Logical_Switch",
                "where": [["name", "==", switch]],
                "mutations": [["ports", "delete", members(references)]],
            }
            for switch, references in by_switch.items()
        ]

    def delete_port(self, port: Port) -> None:
        self.delete_ports([port])

    def set_up(self, ports: list[Port], up: bool = True) -> None:
        """Writes `up` as northd would; only for benchmarks, where no real interface stands behind a port."""
        self.transact(
            [
                {"op": "update", "table": "Logical_Switch_Port", "where": self._where(port), "row": {"up": up}}
                for port in ports
            ]
        )

    # Routers ----------------------------------------------------------------------------------------------------

    def router(self, name: str, external: Network | None = None, *gateway: str, chassis: list[str] | None = None,
               snat: bool = True) -> Router:  # fmt: skip
        """A router, with an external gateway on `external` scheduled to `chassis` (system-ids, best first)."""
        router = Router(name, external, list(gateway))
        ids = {"neutron:router_name": name, "neutron:revision_number": "1", "neutron:availability_zone_hints": ""}
        row: dict[str, Any] = {"name": router.row_name, "enabled": True, "external_ids": mapping(ids)}
        operations: list[dict[str, Any]] = []
        if external:
            ids["neutron:gw_port_id"] = router.gateway_port_id
            row["external_ids"] = mapping(ids)
            row["options"] = mapping({"always_learn_from_arp_request": "false", "dynamic_neigh_routers": "true"})
            operations += self._gateway(router, external, chassis or [])
            row["ports"] = members([named("lrp")])
            routes = []
            for index, hop in enumerate(external.gateways):
                if not any(ipaddress.ip_address(hop).version == ipaddress.ip_address(a).version for a in gateway):
                    continue
                prefix = "::/0" if ":" in hop else "0.0.0.0/0"
                operations.append(
                    insert("Logical_Router_Static_Route", {"ip_prefix": prefix, "nexthop": hop}, f"route{index}")
                )
                routes.append(named(f"route{index}"))
            row["static_routes"] = members(routes)
        self.transact([*operations, insert("Logical_Router", row)])
        return router

    def _gateway(self, router: Router, external: Network, chassis: list[str]) -> list[dict[str, Any]]:
        lrp = f"lrp-{router.gateway_port_id}"
        cidrs = [f"{address}/{external.length_of(address)}" for address in router.gateway_addresses]
        operations: list[dict[str, Any]] = []
        chassis_rows = []
        for priority, name in zip(range(len(chassis), 0, -1), chassis):
            row = {"name": f"{lrp}_{name}", "chassis_name": name, "priority": priority}
            operations.append(insert("Gateway_Chassis", row, f"gc{priority}"))
            chassis_rows.append(named(f"gc{priority}"))
        lrp_ids = {
            "neutron:network_name": external.switch,
            "neutron:router_name": router.row_name,
            "neutron:subnet_ids": " ".join(identifier("subnet", subnet) for subnet in external.subnets),
            "neutron:is_ext_gw": "True",
            "neutron:revision_number": "1",
        }
        operations.append(
            insert(
                "Logical_Router_Port",
                {
                    "name": lrp,
                    "mac": router.gateway_mac,
                    "networks": members(cidrs),
                    "gateway_chassis": members(chassis_rows),
                    "external_ids": mapping(lrp_ids),
                    "options": mapping({"gateway_mtu": "1500"}),
                },
                "lrp",
            )
        )
        lsp_ids = {
            "neutron:cidrs": " ".join(cidrs),
            "neutron:device_id": router.id,
            "neutron:device_owner": "network:router_gateway",
            "neutron:network_name": external.switch,
            "neutron:port_name": "",
            "neutron:project_id": "",
            "neutron:revision_number": "1",
        }
        operations.append(self._router_lsp(router.gateway_port_id, lrp, lsp_ids, {"exclude-lb-vips-from-garp": "true", "nat-addresses": "router"}))
        operations.append(attach("Logical_Switch", external.switch, "ports", named("lsp")))
        return operations

    @staticmethod
    def _router_lsp(port_id: str, lrp: str, ids: dict[str, str], options: dict[str, str]) -> dict[str, Any]:
        row = {
            "name": port_id,
            "type": "router",
            "addresses": members(["router"]),
            "enabled": True,
            "external_ids": mapping(ids),
            "options": mapping({"router-port": lrp, **options}),
        }
        return insert("Logical_Switch_Port", row, "lsp")

    def router_interface(self, router: Router, network: Network, address: str | None = None) -> str:
        """Connects a tenant network to a router; returns the interface's address."""
        address = address or network.gateways[0]
        cidr = f"{address}/{network.length_of(address)}"
        port_id = identifier("port", f"{router.name}-{network.name}-{address}")
        lrp = f"lrp-{port_id}"
        lrp_ids = {
            "neutron:network_name": network.switch,
            "neutron:router_name": router.row_name,
            "neutron:subnet_ids": identifier("subnet", network.subnets[0]),
            "neutron:is_ext_gw": "False",
            "neutron:revision_number": "1",
        }
        lsp_ids = {
            "neutron:cidrs": cidr,
            "neutron:device_id": router.id,
            "neutron:device_owner": "network:router_interface",
            "neutron:network_name": network.switch,
            "neutron:port_name": "",
            "neutron:revision_number": "1",
        }
        lrp_row = {"name": lrp, "mac": mac_of(port_id), "networks": members([cidr]), "external_ids": mapping(lrp_ids)}
        self.transact(
            [
                insert("Logical_Router_Port", lrp_row, "lrp"),
                attach("Logical_Router", router.row_name, "ports", named("lrp")),
                self._router_lsp(port_id, lrp, lsp_ids, {}),
                attach("Logical_Switch", network.switch, "ports", named("lsp")),
            ]
        )
        return address

    def snat(self, router: Router, cidr: str) -> None:
        """Outgoing address translation of a subnet by the router's gateway address."""
        row = {"type": "snat", "external_ip": router.gateway_addresses[0], "logical_ip": cidr}
        self.transact([insert("NAT", row, "nat"), attach("Logical_Router", router.row_name, "nat", named("nat"))])

    # Floating addresses -------------------------------------------------------------------------------------------

    def floating_ip_row(self, router: Router, port: Port, address: str, distributed: bool = True) -> dict[str, Any]:
        """The NAT row of a floating address."""
        assert router.external
        mac = mac_of(f"fip-{address}")
        row: dict[str, Any] = {
            "type": "dnat_and_snat",
            "external_ip": address,
            "logical_ip": port.addresses[0],
            "logical_port": port.id,
            "external_ids": mapping(
                {
                    "neutron:fip_id": identifier("fip", address),
                    "neutron:fip_port_id": port.id,
                    "neutron:fip_external_mac": mac,
                    "neutron:fip_network_id": router.external.id,
                    "neutron:router_name": router.row_name,
                    "neutron:revision_number": "1",
                }
            ),
        }
        if distributed:
            row["external_mac"] = mac
        return row

    def floating_ip(self, router: Router, port: Port, address: str, distributed: bool = True) -> str:
        """Associates a floating address; with the MAC that makes it distributed, as Neutron does for a port that is up."""
        self.transact(
            [
                insert("NAT", self.floating_ip_row(router, port, address, distributed), "nat"),
                attach("Logical_Router", router.row_name, "nat", named("nat")),
                {
                    "op": "mutate",
                    "table": "Logical_Switch_Port",
                    "where": self._where(port),
                    "mutations": [
                        ["external_ids", "delete", members(["neutron:port_fip"])],
                        ["external_ids", "insert", mapping({"neutron:port_fip": address})],
                    ],
                },
            ]
        )
        return address

    def release_floating_ip(self, router: Router, address: str) -> None:
        self.transact(self.release(router, address))

    def release(self, router: Router, address: str) -> list[dict[str, Any]]:
        """The operations that remove a floating address."""
        rows = self.central.nb.select("NAT", [["external_ip", "==", address]], ["_uuid"])
        return [attach("Logical_Router", router.row_name, "nat", row["_uuid"], "delete") for row in rows]

    # Load balancers -----------------------------------------------------------------------------------------------

    def load_balancer(self, name: str, router: Router, network: Network, vip: str, backends: dict[str, str],
                      protocol: str = "tcp", vip_fip: str | None = None) -> Port:  # fmt: skip
        """An Octavia load balancer of the OVN provider: its VIP port (never bound) and the Load_Balancer row.
        `backends` maps a port number to `ip:port,ip:port`."""
        port = self.make_port(network, f"ovn-lb-vip-{identifier('lb', name)}", [vip])
        port.device_owner = "ovn-lb-vip"
        port.extra["lsp_addresses"] = []
        ids = {
            "enabled": "True",
            "lr_ref": router.row_name,
            "ls_refs": '{"%s": 1}' % network.switch,
            "neutron:vip": vip,
            "neutron:vip_port_id": port.id,
        }
        if vip_fip:
            ids["neutron:vip_fip"] = vip_fip
        host = f"[{vip}]" if ":" in vip else vip
        row = {
            "name": identifier("lb", name),
            "protocol": protocol,
            "vips": mapping({f"{host}:{number}": targets for number, targets in backends.items()}),
            "external_ids": mapping(ids),
        }
        self.transact(
            [
                insert("Logical_Switch_Port", self.port_row(port), "lsp"),
                attach("Logical_Switch", network.switch, "ports", named("lsp")),
                insert("Load_Balancer", row, "lb"),
                attach("Logical_Router", router.row_name, "load_balancer", named("lb")),
                attach("Logical_Switch", network.switch, "load_balancer", named("lb")),
            ]
        )
        return port
