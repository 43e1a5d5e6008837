"""Databases, bridge and vswitch go and come back: nothing is withdrawn for lack of news, and nothing stays broken.

The Northbound database is stopped (the leaf must not lose a route), changed while we could not see it (followed when it is
back), vswitchd is killed (flows return), br-ex flaps (routes and neighbours return), and somebody deletes a rule by hand.
"""

import signal
import time

from lab import neutron, ovn, topology
from lab.demo import BIRD, CONFIG, FRR
from lab.shell import LabError, wait_for

TOPOLOGY = topology.first_light()
TIME_LIMIT = 180


def run(s):
    central, hypervisors = ovn.start_cloud(s.lab, "hv1")
    hypervisor = hypervisors["hv1"]
    s["hv1"].run("ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1")
    leaf1, leaf2 = s.frr("leaf1", text=FRR), s.bird("leaf2", text=BIRD)
    writer = neutron.Neutron(central)
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    web = writer.port(provider, "web", "203.0.113.10", "2001:db8:203::10", host="hv1")
    hypervisor.boot("web", web)
    ours = s.ours("hv1", text=CONFIG)
    for leaf in (leaf1, leaf2):
        leaf.wait_route("203.0.113.10/32", 20.0)
        leaf.wait_route("2001:db8:203::10/128")
    s.expect(s["leaf1"].ping("203.0.113.10"), "no ping before anything happened")
    before = settled(hypervisor)

    s.step("the Northbound database is away for 3 s: nothing changes")
    central.stop_nb()
    time.sleep(3.0)
    s.equal(hypervisor.wiring(), before, "wiring while the database is away")
    for leaf in (leaf1, leaf2):
        s.expect("203.0.113.10/32" in leaf.routes(), f"{leaf.kind} lost the route because the database was away")
    s.step("it comes back: still nothing changes, and a new port is followed")
    central.restart_nb()
    spare = writer.port(provider, "spare", "203.0.113.77", host="hv1")
    hypervisor.boot("spare", spare)
    leaf1.wait_route("203.0.113.77/32", 20.0)
    s.step("we lose sight of it, a port is deleted, we see it again: the port is withdrawn")
    central.stop_nb()
    time.sleep(0.5)
    # The daemon is frozen while the deletion is written, so that it can only learn of it from a new dump.
    ours.node.kill(ours.name, signal.SIGSTOP)
    central.restart_nb()
    writer.delete_port(spare)
    ours.node.kill(ours.name, signal.SIGCONT)
    leaf1.wait_gone("203.0.113.77/32", 20.0)
    leaf2.wait_gone("203.0.113.77/32")
    same(hypervisor, before, "after the port has gone")

    s.step("vswitchd is killed and started again: the flows return")
    s["hv1"].stop("ovs-vswitchd", signal.SIGKILL)
    hypervisor.start_vswitchd()
    s["hv1"].run("ip link set br-ex up", check=False)
    same_kinds(hypervisor, before, ("rules", "routes", "neighbours"), "after vswitchd has come back")
    wait_for("flows of ours", lambda: len(hypervisor.wiring()["flows"]) == len(before["flows"]), 20.0)
    s.expect(s["leaf1"].ping("203.0.113.10", timeout=15.0), "no ping after vswitchd has come back")

    s.step("br-ex goes down and up: what the kernel forgot returns")
    before = settled(hypervisor)
    s["hv1"].run("ip link set br-ex down; ip link set br-ex up")
    same(hypervisor, before, "after br-ex has flapped")
    s.expect(s["leaf1"].ping("203.0.113.10", timeout=10.0), "no ping after br-ex has flapped")

    s.step("somebody deletes a rule, a route and a neighbour: they return")
    s["hv1"].run("ip rule del to 203.0.113.10 pref 32000; ip neigh del 203.0.113.10 dev br-ex; ip route del 203.0.113.10 table br-ex")
    same(hypervisor, before, "after somebody deleted things")
    for leaf in (leaf1, leaf2):
        s.expect("203.0.113.10/32" in leaf.routes(), f"{leaf.kind} lost the route in the end")


def settled(hypervisor):
    """The wiring, once two looks agree."""
    last = {}

    def look():
        nonlocal last
        now = hypervisor.wiring()
        agreed, last = now == last and now, now
        return agreed

    return wait_for("the wiring to settle", look, 10.0, 0.3)


def same(hypervisor, before, when):
    same_kinds(hypervisor, before, tuple(before), when)


def same_kinds(hypervisor, before, kinds, when):
    try:
        wait_for("", lambda: all(hypervisor.wiring()[kind] == before[kind] for kind in kinds), 20.0)
    except LabError as late:
        now = hypervisor.wiring()
        lines = [f"{kind}: was {before[kind]}, is {now[kind]}" for kind in kinds if before[kind] != now[kind]]
        raise LabError(f"the wiring differs {when}:\n" + "\n".join(lines)) from late
