"""A host whose kernel heeds router advertisements (`accept_ra`): the leaf's give it a default route of its own. Warned of; ours wins.

An interface that is set to ignore them gets no warning, and no second default.
"""

import json

from lab.shell import wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {"frr-10": {"peer": "frr"}, "bird-2.17": {"peer": "bird"}}
TOPOLOGY = Topology(nodes=[Node("host", forwarding=False), Node("leaf")], links=[Link("host:eth1", "leaf:eth1")])
TIME_LIMIT = 60
WARNING = "the kernel accepts router advertisements here"


def run(s):
    host = s["host"]
    host.sysctl("net/ipv6/conf/eth1/accept_ra", 1)
    s.capture("host", "eth1")
    s.peer(s.parameters["peer"])
    ours = s.ours()
    ours.wait_established("eth1", 45.0)
    wait_for("both defaults", lambda: {"ra", "bgp"} <= {route["protocol"] for route in defaults(host)}, 30.0)
    s.step("two IPv6 defaults, the kernel's own behind ours; said in the log, with what to do")
    metric = {route["protocol"]: route["metric"] for route in defaults(host)}
    s.expect(metric["bgp"] < metric["ra"], f"metrics: {metric}")
    s.equal(json.loads(host.run("ip -j -6 route get 2001:db8::1"))[0]["metric"], metric["bgp"], "metric of the route that is used")
    log = host.log(ours.name)
    s.expect(WARNING in log and "net.ipv6.conf.eth1.accept_ra = 0" in log, f"no warning in the log:\n{log[-1500:]}")

    s.step("as the warning says: nothing competes, and nothing is said")
    ours.stop()
    host.sysctl("net/ipv6/conf/eth1/accept_ra", 0)
    host.run("ip -6 route flush proto ra; ip -6 route flush default proto bgp")
    said = len(log)
    ours.start()
    ours.wait_established("eth1", 45.0)
    wait_for("our default", lambda: defaults(host), 30.0)
    s["leaf"].run("sleep 2")  # the leaf has answered our solicitation by now
    s.equal([route["protocol"] for route in defaults(host)], ["bgp"], "IPv6 defaults")
    s.expect(WARNING not in host.log(ours.name)[said:], "a warning without a reason")


def defaults(host):
    return json.loads(host.run("ip -j -6 route show default") or "[]")
