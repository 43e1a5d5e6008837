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
        """Neutron's defaults: the first address. For IPv6 some versions take the network address itself; here provider
        networks do, whose gateway is the kernel's proxy."""
        nets = [ipaddress.ip_network(subnet) for subnet in self.subnets]
        return [str(net.network_address + (net.version == 4 or not self.physical_network)) for net in nets]


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
    owner: "Router | None" = None  # a further gateway port's router

    @property
    def id(self) -> str:
        return self.owner.id if self.owner else identifier("router", self.name)

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
            "neutron:device_id": identifier("server", port.name) if port.device_owner else "",
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
        if requested := extra.get("requested", port.host):
            options["requested-chassis"] = requested
        address = extra.get("lsp_addresses", [" ".join([port.mac, *port.addresses])])
        security = extra.get("port_security", [" ".join([port.mac, *port.addresses])])
        row = {"up": extra["up"]} if "up" in extra else {}  # northd's to write, unless a scenario has put it to sleep
        return row | {
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

    def virtual_port(self, network: Network, name: str, address: str, parents: list[Port]) -> Port:
        """A port whose address others take (allowed address pairs): OVN binds it to the parent that claims it last."""
        options = {"virtual-ip": address, "virtual-parents": ",".join(parent.id for parent in parents)}
        for parent in parents:
            parent.extra.setdefault("pairs", []).append(address)
            parent.extra["port_security"] = [" ".join([parent.mac, *parent.addresses, *parent.extra["pairs"]])]
        port = self.make_port(network, name, [address], None, type="virtual", options=options, port_security=[])
        port.device_owner = ""
        self.create_ports([port])
        self.update_ports(parents)
        return port

    def move_port(self, port: Port, network: Network) -> None:
        """The port's row goes from one switch to another, in one transaction (as Neutron never does, but a script may)."""
        before = port.network.switch
        self._revision += 1
        port.network = network
        row = self._rows[port.id]
        self.transact(
            [
                attach("Logical_Switch", before, "ports", row, "delete"),
                attach("Logical_Switch", network.switch, "ports", row),
                {"op": "update", "table": "Logical_Switch_Port", "where": [["_uuid", "==", row]],
                 "row": {key: value for key, value in self.port_row(port).items() if key != "name"}},
            ]
        )  # fmt: skip

    def row_of(self, port: Port) -> list:
        """The reference to a port's row, for a transaction of the scenario's own."""
        return self._rows[port.id]

    def replace(self, table: str, name: str, **columns: Any) -> None:
        """Writes columns of a row."""
        self.transact([{"op": "update", "table": table, "where": [["name", "==", name]], "row": columns}])

    def set_keys(self, table: str, where: list, column: str, names: dict[str, str | None]) -> None:
        """Writes keys of a map column, or removes those given as None."""
        self.transact([self.keys_operation(table, where, column, names)])

    @staticmethod
    def keys_operation(table: str, where: list, column: str, names: dict[str, str | None]) -> dict[str, Any]:
        present = {key: value for key, value in names.items() if value is not None}
        mutations = [[column, "delete", members(list(names))]]
        if present:
            mutations.append([column, "insert", mapping(present)])
        return {"op": "mutate", "table": table, "where": where, "mutations": mutations}

    # Routers ----------------------------------------------------------------------------------------------------

    def router(self, name: str, external: Network | None = None, *gateway: str, chassis: list[str] | None = None,
               ha_group: bool = False) -> Router:  # fmt: skip
        """A router, with an external gateway on `external` scheduled to `chassis` (system-ids, best first): by
        Gateway_Chassis rows, or by an HA_Chassis_Group as newer Neutron does."""
        router = Router(name, external, list(gateway))
        ids = {"neutron:router_name": name, "neutron:revision_number": "1", "neutron:availability_zone_hints": ""}
        row: dict[str, Any] = {"name": router.row_name, "enabled": True, "external_ids": mapping(ids)}
        operations: list[dict[str, Any]] = []
        if external:
            ids["neutron:gw_port_id"] = router.gateway_port_id
            row["external_ids"] = mapping(ids)
            row["options"] = mapping({"always_learn_from_arp_request": "false", "dynamic_neigh_routers": "true"})
            operations += self._gateway(router, external, chassis or [], ha_group)
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

    def _gateway(self, router: Router, external: Network, chassis: list[str], ha_group: bool) -> list[dict[str, Any]]:
        lrp = f"lrp-{router.gateway_port_id}"
        cidrs = [f"{address}/{external.length_of(address)}" for address in router.gateway_addresses]
        operations, scheduling = self._scheduling(lrp, chassis, ha_group)
        lrp_ids = {
            "neutron:network_name": external.switch,
            "neutron:router_name": router.row_name,
            "neutron:subnet_ids": " ".join(identifier("subnet", subnet) for subnet in external.subnets),
            "neutron:is_ext_gw": "True",
            "neutron:revision_number": "1",
        }
        row = {
            "name": lrp,
            "mac": router.gateway_mac,
            "networks": members(cidrs),
            "external_ids": mapping(lrp_ids),
            "options": mapping({"gateway_mtu": "1500"}),
            **scheduling,
        }
        operations.append(insert("Logical_Router_Port", row, "lrp"))
        lsp_ids = {
            "neutron:cidrs": " ".join(cidrs),
            "neutron:device_id": router.id,
            "neutron:device_owner": "network:router_gateway",
            "neutron:network_name": external.switch,
            "neutron:port_name": "",
            "neutron:project_id": "",
            "neutron:revision_number": "1",
        }
        options = {"exclude-lb-vips-from-garp": "true", "nat-addresses": "router"}
        operations.append(self._router_lsp(router.gateway_port_id, lrp, lsp_ids, options))
        operations.append(attach("Logical_Switch", external.switch, "ports", named("lsp")))
        return operations

    @staticmethod
    def _scheduling(lrp: str, chassis: list[str], ha_group: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows that say which chassis may host a gateway port, and the port's column that refers to them."""
        operations: list[dict[str, Any]] = []
        rows = []
        table = "HA_Chassis" if ha_group else "Gateway_Chassis"
        for priority, name in zip(range(len(chassis), 0, -1), chassis):
            row = {"chassis_name": name, "priority": priority}
            if not ha_group:
                row["name"] = f"{lrp}_{name}"
            operations.append(insert(table, row, f"gc{priority}"))
            rows.append(named(f"gc{priority}"))
        if not ha_group:
            return operations, {"gateway_chassis": members(rows)}
        operations.append(insert("HA_Chassis_Group", {"name": f"ha-{lrp}", "ha_chassis": members(rows)}, "group"))
        return operations, {"ha_chassis_group": named("group")}

    def another_gateway(self, router: Router, name: str, external: Network, *addresses: str, chassis: list[str]) -> Router:
        """A further gateway port of a router (newer Neutron has several); as a value that names its port."""
        other = Router(name, external, list(addresses))
        other.owner = router
        operations = self._gateway(other, external, chassis, True)
        self.transact([*operations, attach("Logical_Router", router.row_name, "ports", named("lrp"))])
        return other

    def delete_gateway(self, router: Router) -> None:
        """Takes a gateway port from its router, and its peer from the external network."""
        nb, port = self.central.nb, router.gateway_port_id
        assert router.external
        lrp = nb.select("Logical_Router_Port", [["name", "==", f"lrp-{port}"]], ["_uuid"])[0]["_uuid"]
        lsp = nb.select("Logical_Switch_Port", [["name", "==", port]], ["_uuid"])[0]["_uuid"]
        self.transact(
            [
                attach("Logical_Switch", router.external.switch, "ports", lsp, "delete"),
                attach("Logical_Router", router.row_name, "ports", lrp, "delete"),
            ]
        )

    def reschedule(self, router: Router, chassis: list[str]) -> None:
        """Other priorities for the chassis of a router's HA_Chassis_Group: a planned fail-over."""
        nb = self.central.nb
        group = nb.select("HA_Chassis_Group", [["name", "==", f"ha-lrp-{router.gateway_port_id}"]], ["ha_chassis"])[0]
        listed = group["ha_chassis"][1] if group["ha_chassis"][0] == "set" else [group["ha_chassis"]]
        operations = []
        for row in listed:
            name = nb.select("HA_Chassis", [["_uuid", "==", row]], ["chassis_name"])[0]["chassis_name"]
            priority = len(chassis) - chassis.index(name)
            operations.append({"op": "update", "table": "HA_Chassis", "where": [["_uuid", "==", row]], "row": {"priority": priority}})
        self.transact(operations)

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

    def router_interface(self, router: Router, network: Network, address: str | None = None,
                         scopes: dict[int, str] | None = None) -> str:  # fmt: skip
        """Connects a tenant subnet to a router (that of `address`, else the first); returns the interface's address.
        `scopes` are the address scopes of its subnet pools by IP version."""
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
            **{f"neutron:subnet_pool_addr_scope{version}": scope for version, scope in (scopes or {}).items()},
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

    def remove_interface(self, router: Router, network: Network, address: str | None = None) -> None:
        """Disconnects it."""
        port_id = identifier("port", f"{router.name}-{network.name}-{address or network.gateways[0]}")
        lsp = self.central.nb.select("Logical_Switch_Port", [["name", "==", port_id]], ["_uuid"])[0]["_uuid"]
        lrp = self.central.nb.select("Logical_Router_Port", [["name", "==", f"lrp-{port_id}"]], ["_uuid"])[0]["_uuid"]
        self.transact(
            [
                attach("Logical_Switch", network.switch, "ports", lsp, "delete"),
                attach("Logical_Router", router.row_name, "ports", lrp, "delete"),
            ]
        )

    def snat(self, router: Router, cidr: str) -> None:
        """Outgoing address translation of a subnet by the router's gateway address."""
        row = {"type": "snat", "external_ip": router.gateway_addresses[0], "logical_ip": cidr}
        self.transact([insert("NAT", row, "nat"), attach("Logical_Router", router.row_name, "nat", named("nat"))])

    def no_snat(self, router: Router, cidr: str) -> None:
        """SNAT is disabled for a subnet."""
        rows = self.central.nb.select("NAT", [["type", "==", "snat"], ["logical_ip", "==", cidr]], ["_uuid"])
        self.transact([attach("Logical_Router", router.row_name, "nat", row["_uuid"], "delete") for row in rows])

    # Floating addresses -------------------------------------------------------------------------------------------

    def floating_ip_row(self, router: Router, port: Port, address: str, distributed: bool = True, member: bool = False,
                        fixed: str = "") -> dict[str, Any]:  # fmt: skip
        """The NAT row of a floating address; that of a load balancer's `member` names no port, so that the gateway has it."""
        assert router.external
        mac = mac_of(f"fip-{address}")
        row: dict[str, Any] = {
            "type": "dnat_and_snat",
            "external_ip": address,
            "logical_ip": fixed or port.addresses[0],
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
        if member:
            del row["logical_port"]
        elif distributed:
            row["external_mac"] = mac
        return row

    def floating_ip(self, router: Router, port: Port, address: str, distributed: bool = True, member: bool = False,
                    fixed: str = "") -> str:  # fmt: skip
        """Associates a floating address; with the MAC that makes it distributed, as Neutron does for a port that is up."""
        self.transact(
            [
                insert("NAT", self.floating_ip_row(router, port, address, distributed, member, fixed), "nat"),
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

    def give_mac(self, address: str) -> None:
        """The port of a floating address has come up: Neutron adds the MAC that makes it distributed."""
        where = [["external_ip", "==", address]]
        self.transact([{"op": "update", "table": "NAT", "where": where, "row": {"external_mac": mac_of(f"fip-{address}")}}])

    def distribute(self, router: Router, distributed: bool) -> None:
        """The mode of the cloud changes: Neutron writes the flag and, in its maintenance, the MAC of every floating IP; without
        it, the gateway port that translates."""
        flag = {"neutron:fip-distributed": str(distributed)}
        where = [["name", "==", f"lrp-{router.gateway_port_id}"]]
        gateway = self.central.nb.select("Logical_Router_Port", where, ["_uuid"])[0]["_uuid"]
        operations = [self.keys_operation("NB_Global", [], "external_ids", flag)]
        for row in self.central.nb.select("NAT", [["type", "==", "dnat_and_snat"]], ["_uuid", "external_ids", "logical_port"]):
            mac = dict(row["external_ids"][1]).get("neutron:fip_external_mac", "")
            wanted = [mac] if distributed and row["logical_port"] != ["set", []] else []
            where = [["_uuid", "==", row["_uuid"]]]
            columns = {"external_mac": members(wanted), "gateway_port": members([] if wanted else [gateway])}
            operations.append({"op": "update", "table": "NAT", "where": where, "row": columns})
        self.transact(operations)

    # Load balancers -----------------------------------------------------------------------------------------------

    def load_balancer(self, name: str, router: Router, network: Network, vip: str, backends: dict[str, str],
                      protocol: str = "tcp", vip_fip: str | None = None, row: str = "",
                      members_on: tuple[Network, ...] = ()) -> Port:  # fmt: skip
        """An Octavia load balancer of the OVN provider: its VIP port (never bound) and the Load_Balancer row.
        `backends` maps a port number to `ip:port,ip:port`. `row` names a second row of the same VIP (another protocol)."""
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
        values = {
            "name": identifier("lb", row or name),
            "protocol": protocol,
            "vips": vips_of(vip, backends),
            "external_ids": mapping(ids),
        }
        operations = []
        if not self.central.nb.select("Logical_Switch_Port", [["name", "==", port.id]], ["_uuid"]):
            operations.append(insert("Logical_Switch_Port", self.port_row(port), "lsp"))
            operations.append(attach("Logical_Switch", network.switch, "ports", named("lsp")))
        # Not on a provider network's switch: OVN would translate there what the router has to.
        networks = [network] if not network.physical_network else []
        results = self.transact([*operations, *self._attached(values, router, [*networks, *members_on])])
        if operations:
            self._rows[port.id] = results[0]["uuid"]
        return port

    @staticmethod
    def _attached(row: dict[str, Any], router: Router, networks: list[Network]) -> list[dict[str, Any]]:
        """A Load_Balancer row on its router and on the switches of its VIP and members."""
        attachments = [attach("Logical_Switch", network.switch, "load_balancer", named("lb")) for network in networks]
        return [insert("Load_Balancer", row, "lb"), attach("Logical_Router", router.row_name, "load_balancer", named("lb")), *attachments]

    def set_balancer(self, name: str, vips: dict[str, dict[str, str]], **keys: str | None) -> None:
        """Rewrites what a load balancer serves: address → port → backends; and keys of external_ids (`neutron:` left out)."""
        where = [["name", "==", identifier("lb", name)]]
        entries: dict[str, str] = {}
        for address, backends in vips.items():
            entries |= dict(vips_of(address, backends)[1])
        operations = [{"op": "update", "table": "Load_Balancer", "where": where, "row": {"vips": mapping(entries)}}]
        if keys:
            names = {f"neutron:{key}": value for key, value in keys.items()}
            operations.append(self.keys_operation("Load_Balancer", where, "external_ids", names))
        self.transact(operations)

    def delete_balancer(self, row_name: str) -> None:
        """Deletes a Load_Balancer row by its name, wherever it is attached."""
        nb = self.central.nb
        row = nb.select("Load_Balancer", [["name", "==", row_name]], ["_uuid"])[0]["_uuid"]
        detach = [["load_balancer", "delete", members([row])]]
        self.transact([{"op": "mutate", "table": table, "where": [], "mutations": detach} for table in ("Logical_Router", "Logical_Switch")]
                      + [{"op": "delete", "table": "Load_Balancer", "where": [["_uuid", "==", row]]}])  # fmt: skip

    def port_forward(self, router: Router, address: str, number: int, target: str, protocol: str = "tcp") -> str:
        """A port of a floating IP, forwarded to `target` (`ip:port`); returns the row's name."""
        assert router.external
        fip = identifier("fip", address)
        row = {
            "name": f"pf-floatingip-{fip}-{protocol}",
            "protocol": protocol,
            "vips": vips_of(address, {str(number): target}),
            "external_ids": mapping(
                {
                    "neutron:device_owner": "port_forwarding_plugin",
                    "neutron:fip_id": fip,
                    "neutron:router_name": router.row_name,
                    "neutron:revision_number": "1",
                }
            ),
            "options": mapping({"hairpin_snat_ip": address}),
        }
        self.transact([insert("Load_Balancer", row, "lb"), attach("Logical_Router", router.row_name, "load_balancer", named("lb"))])
        return str(row["name"])


def vips_of(address: str, backends: dict[str, str]) -> list:
    """A `vips` column: port → `ip:port,…`."""
    host = f"[{address}]" if ":" in address else address
    return mapping({f"{host}:{number}": targets for number, targets in backends.items()})
