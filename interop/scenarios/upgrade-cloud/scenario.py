"""A new binary on a hypervisor: sessions, wiring and traffic go on, also while the Northbound database is away.

The new process knows nothing of the cloud until it has read the databases. Until then what the process before it has announced stays
announced, and what is wired stays wired; what has changed meanwhile is followed as soon as it is seen.
"""

import re
import time

from lab import neutron, ovn, topology
from lab.capture import Capture
from lab.demo import BIRD, CONFIG, FRR
from lab.shell import wait_for

TOPOLOGY = topology.first_light()
TIME_LIMIT = 180

PORT4, PORT6 = "203.0.113.10/32", "2001:db8:203::10/128"


def run(s):
    central, hypervisors = ovn.start_cloud(s.lab, "hv1")
    hypervisor, host = hypervisors["hv1"], s["hv1"]
    host.run("ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1")
    leaf1, leaf2 = s.frr("leaf1", text=FRR), s.bird("leaf2", text=BIRD)
    writer = neutron.Neutron(central)
    provider = writer.network("provider", "203.0.113.0/24", "2001:db8:203::/64", physical_network="physnet1")
    hypervisor.boot("web", writer.port(provider, "web", "203.0.113.10", "2001:db8:203::10", host="hv1"))
    spare = writer.port(provider, "spare", "203.0.113.77", host="hv1")
    hypervisor.boot("spare", spare)
    ours = s.ours("hv1", text=CONFIG)
    for leaf in (leaf1, leaf2):
        for prefix in (PORT4, PORT6, "203.0.113.77/32"):
            leaf.wait_route(prefix, 20.0)
    s.expect(s["leaf1"].ping("203.0.113.10"), "no ping before anything happened")
    time.sleep(3.0)

    s.step("two upgrades under traffic: nothing is said, nothing is wired anew, no packet is lost")
    before = hypervisor.wiring()
    host.start("monitor", "ip monitor route rule")
    with Capture(host, "eth1", "tcp port 179", "quiet1") as one, Capture(host, "eth2", "tcp port 179", "quiet2") as two:
        s["leaf1"].start("probe", "ping -n -q -i 0.01 -c 600 -W 1 203.0.113.10")
        for _ in range(2):
            s.say("  " + upgrade(s, host, ours))
            time.sleep(2.0)
        time.sleep(2.0)
    wait_for("ping to finish", lambda: "received" in s["leaf1"].log("probe"), 15.0)
    sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", s["leaf1"].log("probe")).groups()
    s.say(f"  {int(sent) - int(received)} of {sent} packets lost (100 a second)")
    s.equal(sent, received, "packets sent and received")
    host.stop("monitor")
    s.equal(host.log("monitor"), "", "what became of the kernel's routes and rules")
    s.equal(hypervisor.wiring(), before, "wiring")
    silent(s, one, two)

    s.step("an upgrade while the Northbound database is away: nothing is said, although nothing is known")
    central.stop_nb()
    time.sleep(0.5)
    with Capture(host, "eth1", "tcp port 179", "blind1") as one, Capture(host, "eth2", "tcp port 179", "blind2") as two:
        s.say("  " + upgrade(s, host, ours))
        time.sleep(4.0)
        s.expect(not ours.show("summary")["northbound"]["synced"], "it has read the database")
        host.run("ip addr add 172.30.9.9/32 dev lo")
    silent(s, one, two)
    s.equal(hypervisor.wiring(), before, "wiring")
    s.step("it is back, without one of the ports: that is withdrawn, the other was never missed")
    with Capture(host, "eth1", "tcp port 179", "back") as back:
        central.restart_nb()
        writer.delete_port(spare)
        for leaf in (leaf1, leaf2):
            leaf.wait_gone("203.0.113.77/32", 20.0)
            s.expect(PORT4 in leaf.routes() and PORT6 in leaf.routes(), f"{leaf.kind} lost a route")
        time.sleep(1.0)
    updates = [m for m in back.messages("ip.src == 10.0.1.2 || ipv6.src == fd00:1::2") if m[18] == 2]
    s.equal(len(updates), 1, "UPDATEs to leaf 1")
    s.expect(s["leaf1"].ping("203.0.113.10"), "no ping in the end")
    for entry in ours.show("neighbors"):
        s.equal((entry["established_count"], entry["lost_count"]), (1, 0), f"sessions with {entry['neighbor']}")


def upgrade(s, host, ours):
    said = ours.command("upgrade")
    s.expect("4 of 4 sessions taken over" in said, said)
    return said.splitlines()[0]


def silent(s, *captures):
    for capture in captures:
        said = capture.decode("bgp.type != 4 || tcp.flags.syn == 1 || tcp.flags.fin == 1 || tcp.flags.reset == 1", "_ws.col.Info")
        s.equal(said, [], f"what was said ({capture.name})")
        s.expect(capture.decode("bgp.type == 4", "frame.number"), f"no keepalive was seen ({capture.name})")
