"""`reload` says per neighbour nothing, refresh, reset, add or remove, and FRR and BIRD see just that; a dry run or a broken file changes nothing.

One neighbour's options change, the other session must never notice. The leaf tells: FRR by its counters of connections dropped and of
ROUTE-REFRESH messages received, BIRD by since when its sessions are up and by what it logs.
"""

import json

from lab import topology
from lab.shell import wait_for

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 90
FIRST = {"DESCRIPTION": "leaf", "IN": "all", "HOLD": "9s", "PREFIXES": '"172.30.1.1/32"'}


def run(s):
    capture = s.capture("host", "eth1")
    leaf = s.peer(s.parameters["peer"])
    ours = s.ours(**FIRST)
    for mine, theirs in (("10.0.1.2", "10.0.1.1"), ("fd00:1::2", "fd00:1::1")):
        leaf.wait_established(mine)
        ours.wait_established(theirs)
    leaf.wait_route("172.30.1.1/32")
    ours.wait_learned("198.51.100.0/24")
    start = seen(leaf)

    def change(name, **values):
        """Puts the changed file in place, compares the dry run with the real thing, returns what it says of 10.0.1.1."""
        before = seen(leaf)
        ours.configure(s.text("host.toml", **(FIRST | values)))
        dry = json.loads(ours.command("reload", "--dry-run", "--json"))
        s.expect(dry["dry_run"] and dry["accepted"], f"{name}: {dry}")
        s.equal(seen(leaf), before, f"{name}: what the leaf saw of a dry run")
        real = json.loads(ours.command("reload", "--json"))
        s.equal(real["neighbors"], dry["neighbors"], f"{name}: the dry run and the reload differ")
        FIRST.update(values)
        actions = {n["neighbor"]: n["action"] for n in real["neighbors"]}
        s.equal(actions["fd00:1::1"], "nothing", f"{name}: the neighbour whose options did not change")
        s.say(f"  {name}: {actions['10.0.1.1']}")
        return actions["10.0.1.1"], before

    s.step("nothing: a description, and another prefix to announce")
    action, before = change("description and prefixes", DESCRIPTION="leaf 1 in rack 7", PREFIXES='"172.30.1.1/32", "203.0.113.7/32"')
    s.equal(action, "nothing", "the action")
    leaf.wait_route("203.0.113.7/32")
    s.equal(seen(leaf), before, "what the leaf saw")

    s.step("refresh: another inbound prefix list")
    action, before = change("prefix_list_in", IN="only-default")
    s.equal(action, "refresh", "the action")
    wait_for("198.51.100.0/24 to be refused", lambda: "198.51.100.0/24" not in accepted(ours), 10.0)
    action, _ = change("prefix_list_in back", IN="all")
    s.equal(action, "refresh", "the action")
    wait_for("198.51.100.0/24 again", lambda: "198.51.100.0/24" in accepted(ours), 10.0)
    after = seen(leaf)
    s.equal(after["10.0.1.2"]["dropped"], before["10.0.1.2"]["dropped"], "connections dropped for a refresh")
    # One for each change, where something had been refused that might be accepted now: FRR tells us our own route all the time.
    asked = [0, 0] if leaf.kind == "FRR" else [0]
    s.equal(subtypes(capture, "10.0.1.2"), asked, "subtypes of the ROUTE-REFRESH messages we sent: requests")
    marks = lambda: subtypes(capture, "10.0.1.1") == sorted([1, 2] * len(asked))  # noqa: E731
    wait_for("the leaf to have marked what it repeated (RFC 7313)", marks, 10.0, 0.5)
    if leaf.kind == "FRR":
        s.equal(after["10.0.1.2"]["refreshes"] - before["10.0.1.2"]["refreshes"], len(asked), "ROUTE-REFRESH messages the leaf received")

    s.step("reset: another hold time")
    action, before = change("hold_time", HOLD="30s")
    s.equal(action, "reset", "the action")
    wait_for("the session to have been dropped", lambda: seen(leaf)["10.0.1.2"]["dropped"] != before["10.0.1.2"]["dropped"], 10.0)
    leaf.wait_established("10.0.1.2")
    if leaf.kind == "FRR":
        s.equal(seen(leaf)["10.0.1.2"]["dropped"], before["10.0.1.2"]["dropped"] + 1, "connections dropped for a reset")
    leaf.wait_route("172.30.1.1/32")

    s.step("a broken file: refused with its place, nothing changes; then by SIGHUP")
    before, running = seen(leaf), ours.show("neighbors")
    ours.node.run(f"sed -i 's/^hold_time = \"30s\"/hold_tmie = \"3s\"/' {ours.config_path}")
    s.expect(not ours.node.succeeds(["ovn-bgpd", "--socket", ours.socket, "reload"]), "a broken file was accepted")
    report = json.loads(ours.command("reload", "--json", check=False))
    s.expect(not report["accepted"] and "hold_tmie" in report["problems"][0] and ":" in report["problems"][0], f"{report}")
    ours.node.kill(ours.name, 1)
    wait_for("the log to say so", lambda: "stays in force" in ours.node.log(ours.name), 5.0)
    s.equal(seen(leaf), before, "what the leaf saw")
    s.equal(timers(ours.show("neighbors")), timers(running), "the timers in force")

    s.step("a good file by SIGHUP")
    ours.configure(s.text("host.toml", **(FIRST | {"PREFIXES": '"172.30.1.1/32"'})))
    ours.node.kill(ours.name, 1)
    leaf.wait_gone("203.0.113.7/32")
    s.equal(seen(leaf), before, "what the leaf saw")
    s.equal(before["fd00:1::2"]["dropped"], start["fd00:1::2"]["dropped"], "times the other session was dropped, in all")

    s.step("a neighbour is removed, and added again: the leaf hears Peer De-configured, the other session notices nothing")
    text = s.text("host.toml", **(FIRST | {"PREFIXES": '"172.30.1.1/32"'}))
    head, second, rest = text[: text.index("[[bgp")], text[text.rindex("[[bgp") : text.index("[prefix")], text[text.index("[prefix") :]
    for action, config in (("remove", head + second + rest), ("add", text)):
        ours.configure(config)
        report = json.loads(ours.command("reload", "--json"))
        actions = {n["neighbor"]: n["action"] for n in report["neighbors"]}
        s.equal(actions, {"10.0.1.1": action, "fd00:1::1": "nothing"}, "what the reload does")
        if action == "remove":
            wait_for("the leaf to have lost the session", lambda: not leaf.established("10.0.1.2"), 5.0)
            leaf.wait_gone("172.30.1.1/32")
            s.equal([n["neighbor"] for n in ours.show("neighbors")], ["fd00:1::1"], "neighbours left")
            log = leaf.node.log("bgpd" if leaf.kind == "FRR" else "bird")
            words = "6/3 (Cease/Peer" if leaf.kind == "FRR" else "Received: Peer de-configured"
            s.expect(words in log, f"the leaf's words:\n{log[-1500:]}")
    leaf.wait_route("172.30.1.1/32", 30.0)
    ours.wait_learned("198.51.100.0/24")
    s.equal(seen(leaf)["fd00:1::2"]["dropped"], start["fd00:1::2"]["dropped"], "times the other session was dropped, in all")


def seen(leaf):
    """Per session, what the leaf can tell of our reloads."""
    found = {}
    if leaf.kind == "BIRD":
        lines = leaf.birdc("show protocols").splitlines()
        since = {line.split()[0]: line.split()[4] for line in lines if line.startswith("host")}
        return {address: {"dropped": since[name], "refreshes": 0} for address, name in (("10.0.1.2", "host4"), ("fd00:1::2", "host6"))}
    for address in ("10.0.1.2", "fd00:1::2"):
        neighbor = leaf.neighbor(address)
        found[address] = {"dropped": neighbor["connectionsDropped"], "refreshes": neighbor["messageStats"]["routeRefreshRecv"]}
    return found


def subtypes(capture, source):
    lines = capture.decode(f"bgp.type == 5 && ip.src == {source}", "bgp.route_refresh.subtype")
    return sorted(int(word, 0) for line in lines for word in line[0].split(",") if word)


def accepted(ours):
    return {entry["prefix"] for entry in ours.show("learned") if entry["selected"]}


def timers(neighbors):
    """As configured, without what is left of each."""
    return [{key: value for key, value in n["timers"].items() if key != "running"} for n in neighbors]
