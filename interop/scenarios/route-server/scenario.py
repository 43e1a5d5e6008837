"""Behind a route server (RFC 7947): its AS is in no path, the next hop is another member. Refused, until `enforce_first_as` is off.

Then the route is used as it was meant: by the member itself, in the kernel, too. Ours arrives at the member in the same way.
"""

import json

from lab.shell import wait_for
from lab.topology import Node, Segment, Topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image": "peers"}},
}
TIME_LIMIT = 60
THEIRS, OURS = "172.30.1.9/32", "172.30.1.1/32"


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("rs", image), Node("host"), Node("other")],
        segments=[Segment("lan", "rs:lan 10.0.5.1/24", "host:eth1 10.0.5.2/24", "other:eth1 10.0.5.3/24")],
    )


def run(s):
    s.capture("host", "eth1")
    s.peer(s.parameters["peer"], "rs")
    other = s.peer("bird", "other")
    ours = s.ours(FIRST_AS="")
    ours.wait_established("10.0.5.1", 45.0)

    s.step("a path that does not begin with the route server's AS is refused, with the reason")
    refused = ours.wait_learned(THEIRS, 30.0)
    s.expect(not refused["selected"] and "begin" in refused["reason"], f"it says: {refused}")
    s.equal(routes(s), [], "what the kernel has")

    s.step("enforce_first_as = false, by reload: used, by the other member itself")
    ours.configure(s.text("host.toml", FIRST_AS="enforce_first_as = false"))
    ours.command("reload")
    used = wait_for("the route in use", lambda: next((e for e in ours.show("learned") if e["prefix"] == THEIRS and e["installed"]), None), 20.0)
    s.equal((used["as_path"], used["next_hops"]), ("65009", ["10.0.5.3"]), "path and next hop")
    s.equal(routes(s), [("10.0.5.3", "eth1")], "what the kernel has")
    seen = other.wait_route(OURS, 20.0)
    s.equal((seen.as_path, seen.next_hops), ("64999", ["10.0.5.2"]), "ours, at the other member")
    s.equal(ours.show("neighbors")[0]["lost_count"], 0, "sessions lost")


def routes(s):
    """Next hop and device of the member's route in the kernel."""
    return [(route.get("gateway"), route["dev"]) for route in json.loads(s["host"].run(f"ip -j route show {THEIRS}") or "[]")]
