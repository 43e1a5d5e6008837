"""`rules = "per-table"`: the whole demonstration with one rule a bridge, then the form is changed and changed back under running pings.

The pings are one into the cloud, which must find its way in either form, and one of the host's own, which must never be drawn into a bridge's
table: a rule for everything and a default route in that table stand together for a moment.
"""

import re

from lab import topology
from lab.demo import CONFIG, FIP, Demo
from lab.screen import Screen
from lab.shell import wait_for

TOPOLOGY = topology.first_light()
TIME_LIMIT = 180
WIRING = '\n[wiring]\nrules = "{}"\n'
PINGS = {"leaf1": (FIP, "into the cloud"), "hv1": ("10.0.1.1", "of the host itself")}


def run(s):
    screen = Screen()
    demo = Demo(s.lab, screen, CONFIG + WIRING.format("per-table"))
    demo.tell()
    failed = [f"{outcome.statement}: {outcome.detail}" for outcome in screen.outcomes if not outcome.passed]
    s.expect(not failed, "\n".join(failed))
    hv = s["hv1"]
    table = hv.run("awk '$2 == \"br-ex\" {print $1}' /etc/iproute2/rt_tables").strip()
    shape(s, hv, table, "per-table")

    for node, (address, _) in PINGS.items():
        s[node].start("ping", f"ping -n -i 0.01 {address}")
        answered(s, node, 20)
    for rules in ("per-prefix", "per-table", "per-prefix", "per-table"):
        demo.daemon.configure(CONFIG + WIRING.format(rules))
        said = demo.daemon.command("reload")
        s.expect("[wiring] rules" in said and "restart" not in said, f"reload said: {said}")
        wait_for(f"the wiring to be {rules}", lambda r=rules: is_shape(hv, table, r), 20.0)
        for node in PINGS:
            answered(s, node, 20)
    for node, (address, what) in PINGS.items():
        s[node].stop("ping", 2)
        said = s[node].log("ping").split("---")[-1]
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())
        s.step(f"{sent} pings {what} while the form changed four times, {sent - received} lost")
        # The last one may be under way when ping is told to stop.
        s.expect(sent - received <= 1, f"a gap: {said}")

    s.step("somebody puts a default route into the table: it does not draw the host's own traffic away")
    hv.run(f"ip route add default dev br-ex table {table} metric 7")
    s.expect(hv.ping("10.0.1.1"), "the host's own traffic is drawn away")
    s.expect(s["leaf1"].ping(FIP), "the address is not reached")


def answered(s, node, more):
    """Waits until the ping of a node has got some more answers."""
    before = s[node].log("ping").count("bytes from")
    wait_for(f"answers to {node}'s ping", lambda: s[node].log("ping").count("bytes from") >= before + more, 20.0)


def is_shape(hv, table, rules):
    """Rules for destinations, rules for everything and default routes in the table, as the form has them."""
    shown = hv.run("ip -4 rule show pref 32000; ip -6 rule show pref 32000").splitlines()
    everything = sum(" to " not in line for line in shown)
    defaults = hv.run(f"ip -4 route show table {table}; ip -6 route show table {table}").count("default")
    if rules == "per-table":
        return (len(shown), everything, defaults) == (2, 2, 0)
    return len(shown) > 0 and (everything, defaults) == (0, 2)


def shape(s, hv, table, rules):
    s.expect(is_shape(hv, table, rules), f"not {rules}: " + hv.run(f"ip rule; ip -6 rule; ip route show table {table}"))
