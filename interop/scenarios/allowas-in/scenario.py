"""Two hosts of one AS below a leaf of another: `allowas_in` by count and by `origin`, changed by reload under a session that stays.

A route of ours with NO_EXPORT stays at the leaf. The leaf hands on what the other host announces, and has routes of its own with our AS
in the path once, twice and three times. Graceful restart stays on: without it FRR 8 sends no End-of-RIB, and before that it answers no
refresh.
"""

from lab.shell import LabError, wait_for
from lab.topology import Link, Node, Topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image": "cloud"}},
}
TIME_LIMIT = 90
PATHS = {
    "172.30.1.2/32": "65001 64999",  # of the other host
    "198.51.100.1/32": "65001 64999 65009",  # passed through our AS, is not from there
    "198.51.100.2/32": "65001 64999 64999",
    "198.51.100.3/32": "65001 64999 65009 64999 64999",
    "198.51.100.9/32": "65001",
}
OTHER, TRANSIT, TWICE, THRICE, PLAIN = PATHS
OURS, NEAR = "172.30.1.1/32", "172.30.1.5/32"


def TOPOLOGY(image):  # noqa: N802 - the runner's name for it
    return Topology(
        nodes=[Node("host"), Node("host2"), Node("leaf", image)],
        links=[Link("host:eth1 10.0.1.2/30", "leaf:eth1 10.0.1.1/30"), Link("host2:eth1 10.0.2.2/30", "leaf:eth2 10.0.2.1/30")],
    )


def run(s):
    s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    values = {"OWN": "10.0.1.2", "LEAF": "10.0.1.1", "PREFIX": f'"{OURS}", "{NEAR}"'}
    ours = s.ours(ALLOWAS_IN="false", **values)
    second = s.ours("host2", ALLOWAS_IN='"origin"', OWN="10.0.2.2", LEAF="10.0.2.1", PREFIX=f'"{OTHER}"')
    ours.wait_established("10.0.1.1", 45.0)
    for prefix in (OURS, NEAR, OTHER):
        leaf.wait_route(prefix, 30.0)
    s.step("what we mark with NO_EXPORT the leaf tells nobody; the rest arrives at the other host")
    s.expect(second.wait_learned(OURS, 20.0)["selected"], f"our route at the other host: {second.show('learned')}")
    s.equal([e for e in second.show("learned") if e["prefix"] == NEAR], [], "what the other host has of a route with NO_EXPORT")

    def learned():
        # FRR tells us our own route, too.
        return {entry["prefix"]: entry for entry in ours.show("learned") if entry["prefix"] not in (OURS, NEAR)}

    def used_are(wanted, what):
        def look():
            seen = learned()
            return set(seen) == set(PATHS) and {prefix for prefix, entry in seen.items() if entry["selected"]} == wanted

        try:
            wait_for(what, look, 20.0)
        except LabError as late:
            raise LabError(f"{late}: {[(e['prefix'], e['as_path'], e['selected'], e['reason']) for e in ours.show('learned')]}") from late
        for prefix, entry in learned().items():
            if prefix in wanted:
                s.equal(entry["as_path"], PATHS[prefix], f"AS path of {prefix}")
            else:
                s.expect("own AS" in entry["reason"], f"{prefix} is refused because {entry['reason']!r}")

    s.step("not allowed: whatever has our AS in its path is refused, and says so")
    used_are({PLAIN}, "only the plain route to be used")
    for value, wanted, what in (
        ("1", {PLAIN, OTHER, TRANSIT}, "once is allowed"),
        ("2", {PLAIN, OTHER, TRANSIT, TWICE}, "twice is allowed"),
        ('"origin"', {PLAIN, OTHER, TWICE, THRICE}, "what originated in our AS is allowed, however often; what passed through it is not"),
        ("3", set(PATHS), "three times are allowed"),
        ("false", {PLAIN}, "nothing is allowed any more"),
    ):
        s.step(f"allowas_in = {value}: {what}")
        ours.configure(s.text("host.toml", ALLOWAS_IN=value, **values))
        report = ours.command("reload")
        s.expect("refresh" in report and "reset" not in report.replace("0 reset", ""), f"what the reload says: {report}")
        used_are(wanted, what)
    s.equal((ours.show("neighbors")[0]["lost_count"], ours.show("neighbors")[0]["established_count"]), (0, 1), "sessions lost and established")
