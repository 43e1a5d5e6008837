"""configs/lab as its README says: two plain speakers of ours, leaf and host, exchange routes.

The three commands are taken from configs/lab/README.md and run in a container that has nothing else.
"""

import shlex

from lab import topology
from lab.daemon import ROOT, OvnBgpd
from lab.shell import wait_for

TOPOLOGY = topology.Topology(nodes=[topology.Node("box")])


def run(s):
    box = s["box"]
    OvnBgpd(box).install()
    s.step("configs/lab is copied into the box")
    for file in sorted((ROOT / "configs" / "lab").iterdir()):
        box.write(f"/configs/lab/{file.name}", file.read_text(), 0o755 if file.name == "up" else None)
    text = (ROOT / "configs" / "lab" / "README.md").read_text()
    commands = text.split("```")[1].strip().splitlines()
    s.equal(len(commands), 3, "commands in the README")
    for number, command in enumerate(commands):
        s.step(command)
        if command.endswith("&"):
            box.start(f"command-{number}", command.rstrip("& "))
        else:
            box.run(command)
    leaf, host = (lambda *words, n=name: box.run(["ovn-bgpd", "--socket", f"/run/ovn-bgpd-{n}.sock", *words]) for name in ("leaf", "host"))
    s.step("each learns what the other announces, and nothing else")
    for view, wanted in ((leaf, ["172.30.1.1/32", "f00d::1/128"]), (host, ["0.0.0.0/0", "::/0"])):
        wait_for(f"{wanted} to be learned", lambda v=view, w=wanted: learned(v) == w, 20.0)
    s.step("the host drains: the leaf loses its routes at once, the session stays")
    host("drain")
    wait_for("the leaf to forget", lambda: learned(leaf) == [], 5.0)
    box.run(shlex.split("/configs/lab/up down"))


def learned(view):
    import json

    return sorted(entry["prefix"] for entry in json.loads(view("show", "learned", "--json")))
