"""Somebody deletes what we made, bridges flap, switches restart, mappings and patch ports go: repaired as soon as it is heard of.

For each deleted rule, route, neighbour and flow the kernel's own messages (and the flow's age) say how long it was missing;
pings run through the rest. An address whose wiring is really gone is withdrawn until it is back. What others have made stays.
"""

import signal
import time

from lab import topology
from lab.cloud import Cloud
from lab.shell import wait_for
from lab.watch import Monitor

TOPOLOGY = topology.below_a_leaf("hv1")
TIME_LIMIT = 180

WEB4, WEB6 = "203.0.113.10", "2001:db8:203::10"
# Not at the next audit, which comes after 300 s: a busy machine may take its time, but not that much.
AT_ONCE = 5000.0
FOREIGN = "ip rule add to 192.0.2.99 pref 32000 lookup 199; ip route add 192.0.2.99 dev br-ex table 199; " \
          "ip neigh add 192.0.2.99 dev br-ex lladdr 02:00:00:00:00:99 nud permanent; " \
          "ovs-ofctl add-flow br-ex cookie=0x99,priority=900,udp,tp_dst=9999,actions=drop"  # fmt: skip


def run(s):
    cloud = Cloud(s, "hv1", leaf="frr", mappings="physnet1:br-ex")
    writer, host, node = cloud.neutron, cloud.hosts["hv1"], s["hv1"]
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    web = writer.port(provider, "web", WEB4, WEB6, host="hv1")
    host.boot("web", web)
    cloud.at("hv1", WEB4, WEB6)
    cloud.pinged(WEB4, WEB6)
    node.run(FOREIGN)
    patch = host.patch_port(provider.localnet)
    kernel = Monitor(node, "route", "rule", "neigh", "address")

    s.step("somebody deletes rules, routes, neighbours, addresses and flows")
    table = node.run("ip rule show pref 32000").split(WEB4)[1].split()[1]
    with cloud.watched("all of them deleted", untouched=True, port=WEB4, port6=WEB6):
        for family, address in (("-4", WEB4), ("-6", WEB6)):
            deletions = {
                "rule": (f"ip {family} rule del to {address} pref 32000", rf"32000: .*to {address} "),
                "route": (f"ip {family} route del {address} table {table}", rf"^{address} dev br-ex table "),
                "neighbour": (f"ip {family} neigh del {address} dev br-ex", rf"^{address} dev br-ex "),
            }
            for what, (command, pattern) in deletions.items():
                begin = time.time()
                node.run(command)
                # A neighbour that goes is no longer called permanent, and an ordinary one may come before it is back.
                returned = rf"^{address} dev br-ex .*PERMANENT" if what == "neighbour" else ""
                repaired(cloud, f"{what} of {address}", kernel.repaired(pattern, begin, returned))
        for address in ("169.254.1.1/32", "fd53:d91e:400:7f17::1:1/128"):
            begin = time.time()
            node.run(f"ip addr del {address} dev br-ex")
            repaired(cloud, f"address {address}", kernel.repaired(rf"br-ex +inet6? {address} ", begin))
        for path in ("ipv4/conf/br-ex/proxy_arp", "ipv6/conf/br-ex/proxy_ndp"):
            node.sysctl(f"net/{path}", 0)
            begin = time.time()
            wait_for(f"{path} to be on", lambda path=path: node.run(f"cat /proc/sys/net/{path}").strip() == "1", 20.0, 0.005)
            repaired(cloud, path, 1000.0 * (time.time() - begin))
        node.run("ovs-ofctl -O OpenFlow13 del-flows br-ex cookie=0x3e7/-1")
        # Deleted some milliseconds before the command has ended.
        begin = time.time()
        repaired(cloud, "flows of br-ex", max(0.0, flows_made(node) - 1000.0 * begin))
    with cloud.watched("the tables flushed", port=WEB4, port6=WEB6):
        begin = time.time()
        node.run(f"ip -4 route flush table {table}; ip -6 route flush table {table}; ip neigh flush dev br-ex nud permanent")
        for address in (WEB4, WEB6):
            repaired(cloud, f"route of {address}, all flushed", kernel.repaired(rf"^{address} dev br-ex table ", begin))

    s.step("the bridge flaps, gets another MAC address, and its patch port another number")
    with cloud.watched("br-ex flaps", port=WEB4, port6=WEB6):
        node.run("ip link set br-ex down; ip link set br-ex up")
        cloud.at("hv1", WEB4, WEB6)
    with cloud.watched("another MAC address on br-ex", port=WEB4, port6=WEB6):
        node.run("ovs-vsctl set bridge br-ex other-config:hwaddr=02:00:00:00:ab:cd")
        wait_for("flows with the new MAC", lambda: "02:00:00:00:ab:cd" in flows(node))
    with cloud.watched("another port number", port=WEB4, port6=WEB6):
        node.run(f"ovs-vsctl set interface {patch} ofport_request=77")
        wait_for("flows of the new port", lambda: "in_port=77" in flows(node, "--no-names"))

    s.step("vswitchd is killed and started again")
    with cloud.watched("vswitchd killed and restarted", port=WEB4, port6=WEB6):
        node.stop("ovs-vswitchd", signal.SIGKILL)
        host.start_vswitchd()
        cloud.at("hv1", WEB4, WEB6)
        wait_for("flows", lambda: flows(node).count("mod_dl_dst") + flows(node).count("set_field") >= 2)
    # The foreign flow went with vswitchd; the rest of what others have made with the bridge's device.
    node.run(FOREIGN, check=False)

    s.step("the patch port goes, and comes late")
    node.kill("ovn-controller", signal.SIGSTOP)
    with cloud.removed("patch port gone", "port", WEB4, WEB6):
        node.run(f"ovs-vsctl del-port br-ex {patch}")
    with cloud.added("patch port late", "port", "hv1", WEB4, WEB6):
        node.kill("ovn-controller", signal.SIGCONT)
    cloud.pinged(WEB4, WEB6)

    s.step("the bridge mapping goes and comes")
    with cloud.removed("mapping removed", "port", WEB4, WEB6):
        node.run("ovs-vsctl remove open_vswitch . external_ids ovn-bridge-mappings")
    with cloud.added("mapping added", "port", "hv1", WEB4, WEB6):
        node.run("ovs-vsctl set open_vswitch . external_ids:ovn-bridge-mappings=physnet1:br-ex")
    cloud.pinged(WEB4, WEB6)

    s.step("the bridge itself goes and comes")
    with cloud.removed("br-ex deleted", "port", WEB4, WEB6):
        node.run("ovs-vsctl del-br br-ex")
    with cloud.added("br-ex there again", "port", "hv1", WEB4, WEB6):
        host.add_bridge("br-ex")
    cloud.pinged(WEB4, WEB6)

    s.step("the table of routing tables is away while we start")
    node.run(FOREIGN)
    cloud.ours["hv1"].stop()
    node.run("rm /etc/iproute2/rt_tables")
    cloud.ours["hv1"].start()
    cloud.at("hv1", WEB4, WEB6)
    cloud.pinged(WEB4, WEB6)
    s.expect("br-ex" in node.run("cat /etc/iproute2/rt_tables"), "rt_tables does not name br-ex")

    s.step("what others have made is still there")
    for command, wanted in (("ip rule", "to 192.0.2.99 lookup 199"), ("ip route show table 199", "192.0.2.99 dev br-ex"),
                            ("ip neigh show dev br-ex", "192.0.2.99 lladdr 02:00:00:00:00:99"), ("ovs-ofctl dump-flows br-ex", "cookie=0x99")):  # fmt: skip
        s.expect(wanted in node.run(command), f"`{command}` has lost {wanted!r}")


def repaired(cloud, what, milliseconds):
    cloud.say(what, "deleted by somebody", f"repaired after {milliseconds:.0f} ms")
    cloud.s.expect(milliseconds < AT_ONCE, f"{what}: repaired only after {milliseconds:.0f} ms")


def flows(node, *options):
    return node.run(["ovs-ofctl", "-O", "OpenFlow13", *options, "dump-flows", "br-ex", "cookie=0x3e7/-1"], check=False)


def flows_made(node):
    """When the youngest of our flows was made, in milliseconds, once both are there."""

    def look():
        ages = [float(part.split("duration=")[1].split("s,")[0]) for part in flows(node).splitlines() if "duration=" in part]
        return len(ages) >= 2 and 1000.0 * (time.time() - min(ages))

    return wait_for("flows of ours", look, 20.0, 0.02)
