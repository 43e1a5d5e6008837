"""A new binary takes the sessions over: the leaf sees no message that is not a keepalive or news, and the kernel keeps its routes.

The daemon goes on in the binary that is on disk (`ovn-bgpd upgrade`), with TCP-MD5, numbered and unnumbered, over and over while
addresses come and go. What cannot take over is refused beforehand; what was handed over and cannot be read ends without a word, so
that graceful restart takes over; and a leaf that ends the session meanwhile has ended it.
"""

import json
import re
import threading
import time

from lab import topology
from lab.capture import Capture
from lab.daemon import binary
from lab.shell import wait_for
from lab.watch import Missing

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "frr-8": {"peer": "frr", "topology": {"image_b": "oldstable"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
    "bird-3.1": {"peer": "bird", "topology": {"image_b": "peers"}},
    "frr-10-bfd": {"peer": "frr", "bfd": True, "topology": {"image_b": "cloud"}},
    "frr-10-unnumbered": {"peer": "frr", "unnumbered": True, "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 150

STAYS = ["172.30.1.1/32", "f00d::1/128", "172.30.9.9/32", "f00d::9/128"]  # the latter two are addresses of lo
TIMES = 20  # upgrades under churn

# A binary that does something to what was handed over before the real one has it: a cut off state, or a long gap.
MEDDLER = """#!/bin/sh
if [ "$1" = run ]; then
    rest=${OVN_BGPD_STATE#*:}
    %s
fi
exec /lab/real "$@"
"""
CUT = 'head -c 1000 "/proc/self/fd/${rest%%:*}" >/lab/head; cat /lab/head >"/proc/self/fd/${rest%%:*}"'
GAP = "sleep 3"


def run(s):
    unnumbered = s.parameters.get("unnumbered", False)
    kind = "-unnumbered" if unnumbered else ""
    names = ["eth1"] if unnumbered else ["10.0.1.2", "fd00:1::2"]
    host, everything = s["host"], s.capture("host", "eth1")
    host.run("ip addr add 172.30.9.9/32 dev lo; ip addr add f00d::9/128 dev lo nodad")
    bfd = s.parameters.get("bfd", False)
    config = s.text(f"leaf{kind}.{s.parameters['peer']}.conf")
    leaf = s.frr(text=with_bfd(config), bfd=True) if bfd else s.peer(s.parameters["peer"], text=config)

    def text(change="", more=()):
        found = s.text(f"host{kind}.toml", CHANGE=change, PREFIXES=", ".join(f'"{p}"' for p in [*STAYS[:2], *more]))
        return found.replace("remote_as = 65001", 'remote_as = 65001\nbfd = "fabric"') + PROFILE if bfd else found

    ours = s.ours(text=text())
    daemon = Daemon(s, host, ours)
    for prefix in STAYS:
        leaf.wait_route(prefix, 20.0)
    for family in (4, 6):
        wait_for(f"IPv{family} default", lambda f=family: host.run(f"ip -{f} route show default proto bgp").strip(), 15.0)
    time.sleep(2.0)  # End-of-RIB both ways, and the kernel's routes judged
    before = {name: since(leaf, name) for name in names}
    failed = bfd_downs(leaf, ours) if bfd else {}

    s.step("three upgrades, nothing else: keepalives alone on the wire, no route missing, the kernel's routes untouched")
    host.start("routes", "ip monitor route")
    with Missing(leaf, STAYS) as watch, Capture(host, "eth1", "tcp port 179", "quiet") as quiet, Capture(host, "eth1", "icmp6", "advertised") as advertised:
        for n in range(1, 4):
            daemon.upgrade(n)
            time.sleep(1.0)
        time.sleep(3.5)  # a keepalive by itself
    host.stop("routes")
    unchanged(s, leaf, before)
    s.equal(sorted(watch.missed), [], f"prefixes the leaf missed, in {watch.looks} looks")
    s.equal(quiet.decode("bgp.type != 4 || tcp.flags.syn == 1 || tcp.flags.fin == 1 || tcp.flags.reset == 1", "frame.number", "_ws.col.Info"), [], "what was said")
    s.expect(quiet.decode("bgp.type == 4", "frame.number"), "no keepalive was seen")
    s.equal(host.log("routes"), "", "what became of the kernel's routes")
    s.equal(quiet.decode("bgp && !(tcp.option_kind == 19)", "frame.number"), [], "BGP packets without the MD5 option")

    if unnumbered:
        lifetimes = {line[0] for line in advertised.decode(f"icmpv6.type == 134 && ({of_us(host)})", "icmpv6.nd.ra.router_lifetime")}
        s.equal(lifetimes, {"30"}, "lifetimes in our router advertisements: 0 would end the session with BIRD")

    s.step("what comes and goes right after an upgrade comes through, and is all that is said")
    with Capture(host, "eth1", "tcp port 179", "news") as news:
        daemon.upgrade(4)
        host.run("ip addr add 172.30.9.10/32 dev lo; ip addr add f00d::10/128 dev lo nodad")
        for prefix in ("172.30.9.10/32", "f00d::10/128"):
            leaf.wait_route(prefix)
        daemon.upgrade(5)
        host.run("ip addr del 172.30.9.10/32 dev lo; ip addr del f00d::10/128 dev lo")
        for prefix in ("172.30.9.10/32", "f00d::10/128"):
            leaf.wait_gone(prefix)
    updates = [message for message in news.messages(of_us(host)) if message[18] == 2]
    s.equal(len(updates), 4, "UPDATEs of ours: each family once and once again")

    s.step(f"{TIMES} upgrades while addresses come and go: nothing that stays is missed, and what is there at the end is what should be")
    host.start("churn", ["sh", "-c", CHURN])
    gaps = []
    with Missing(leaf, STAYS) as watch:
        for n in range(6, 6 + TIMES):
            gaps.append(daemon.upgrade(n))
            time.sleep(0.2)
    host.stop("churn", 9)
    last = sorted(re.findall(r"(?:inet|inet6) ((?:172\.30\.8\.|f00d:8::)\S+)", host.run("ip addr show dev lo")))
    s.say(f"  nobody served the sessions for {min(gaps):.0f} to {max(gaps):.0f} ms; {watch.looks} looks at the leaf's table")
    s.equal(sorted(watch.missed), [], f"prefixes the leaf missed, in {watch.looks} looks")
    wait_for("the leaf to have the addresses that are left", lambda: sorted(p for p in leaf.routes() if re.match(r"172\.30\.8\.|f00d:8:", p)) == last, 10.0)
    unchanged(s, leaf, before)

    if bfd:
        s.equal(bfd_downs(leaf, ours), failed, "how often BFD went down, at the leaf and here")

    s.step("a binary that cannot take over is refused, and so is a configuration with an error: nothing happens")
    for what, script, mode in (("not executable", MEDDLER % ":", "644"), ("no program", "nonsense", "755"), ("another program", "#!/bin/sh\nexec cat \"$@\"\n", "755")):
        daemon.replace(script, mode)
        said = daemon.refused()
        s.say(f"  {what}: {said.strip().splitlines()[-1]}")
    s.step("a binary that agrees and is gone when it counts: everything goes on as before, and that is reported")
    daemon.replace("#!/bin/sh\n[ $1 = check ] && rm /lab/ovn-bgpd\nexec /lab/real \"$@\"\n", "755")
    report = json.loads(daemon.command("upgrade", "--json", check=False))
    s.equal((report["number"], report["failure"]["number"]), (5 + TIMES, 6 + TIMES), "upgrades so far, and the one that failed")
    s.expect("ENOENT" in report["failure"]["reason"], f"the reason is {report['failure']['reason']}")
    unchanged(s, leaf, before)
    daemon.restore()
    ours.configure(text() + "\n[nonsense]\n")
    s.expect("nonsense" in daemon.refused(), "the reason is not that of the configuration")
    unchanged(s, leaf, before)

    s.step("another configuration on disk: what it changes is done, a session it does not touch goes on")
    ours.configure(text(change="" if unnumbered else 'keepalive = "2s"', more=["203.0.113.7/32"]))
    report = daemon.ask(6 + TIMES)
    kept = {n["neighbor"].split("%")[-1]: n["kept"] for n in report["neighbors"]}
    s.equal(kept, {"eth1": True} if unnumbered else {"10.0.1.1": True, "fd00:1::1": False}, "sessions kept")
    leaf.wait_route("203.0.113.7/32")
    unchanged(s, leaf, {names[0]: before[names[0]]})
    leaf.wait_established(names[-1])
    leaf.wait_route(STAYS[1])

    s.step("a state that was cut off: the sessions end without a word, and graceful restart keeps the routes")
    time.sleep(2.0)
    with Missing(leaf, STAYS) as watch, Capture(host, "eth1", "tcp port 179", "cut") as cut:
        daemon.replace(MEDDLER % CUT, "755")
        report = daemon.ask(7 + TIMES)
        s.expect("cannot be read" in str(report.get("failure")), f"the report: {report}")
        for name in names:
            wait_for(f"another session with {name}", lambda n=name: since(leaf, n)[1:] != before[n][1:] and leaf.established(n), 30.0)
        time.sleep(2.0)
    s.equal(sorted(watch.missed), [], f"prefixes the leaf missed, in {watch.looks} looks")
    s.equal(cut.decode(f"bgp.type == 3 && ({of_us(host)})", "frame.number", "_ws.col.Info"), [], "NOTIFICATIONs of ours")

    s.step("the leaf ends the sessions in the gap: they are lost as any, and come back")
    daemon.replace(MEDDLER % GAP, "755")
    before = {name: since(leaf, name) for name in names}
    asked = threading.Thread(target=lambda: daemon.ask(8 + TIMES))
    asked.start()
    time.sleep(1.0)
    for name in names:
        clear(leaf, name)
    asked.join()
    for name in names:
        wait_for(f"another session with {name}", lambda n=name: since(leaf, n)[1:] != before[n][1:] and leaf.established(n), 30.0)
    for prefix in STAYS:
        leaf.wait_route(prefix)
    del everything


CHURN = """i=0
while :; do
    i=$(((i + 7) % 200))
    ip addr add 172.30.8.$i/32 dev lo 2>/dev/null || ip addr del 172.30.8.$i/32 dev lo
    ip addr add f00d:8::$i/128 dev lo nodad 2>/dev/null || ip addr del f00d:8::$i/128 dev lo
    sleep 0.02
done"""


PROFILE = """
[bfd.profiles.fabric]
transmit_interval = "300ms"
receive_interval = "300ms"
detect_multiplier = 3
"""


def with_bfd(config):
    """The leaf's configuration with BFD, 300 ms × 3."""
    return "bfd\n profile fabric\n  detect-multiplier 3\n  transmit-interval 300\n  receive-interval 300\n exit\nexit\n" + re.sub(
        r"( neighbor \S+) remote-as 64999\n", r"\g<0>\1 bfd\n\1 bfd profile fabric\n", config
    )


def bfd_downs(leaf, ours):
    wait_for("BFD to be up", lambda: all(b["state"] == "Up" for b in ours.show("bfd")), 10.0)
    theirs = {entry["peer"]: entry["session-down"] for entry in leaf.json("show bfd peers counters")}
    # What this process has counted goes on in the next.
    return theirs, {b["neighbor"]: b["down_count"] for b in ours.show("bfd")}


class Daemon:
    """The daemon's binary on disk, and asking it to go on in it; the command line has a binary of its own."""

    def __init__(self, s, host, ours):
        self.s, self.host, self.ours = s, host, ours
        self.real = binary()
        host.run("cp /lab/ovn-bgpd /lab/real")
        self.pid = host.daemon_pid(ours.name)

    def command(self, *words, check=True):
        return self.host.run(["/lab/real", "--socket", self.ours.socket, *words], check=check, timeout=90.0)

    def ask(self, number):
        report = json.loads(self.command("upgrade", "--json"))
        self.s.equal(report["number"], number, "upgrades so far")
        self.s.expect(self.host.alive(self.ours.name) and self.host.daemon_pid(self.ours.name) == self.pid, "it is another process")
        return report

    def upgrade(self, number):
        """One that keeps everything; the gap in ms."""
        report = self.ask(number)
        self.s.expect(report["neighbors"] and all(n["kept"] for n in report["neighbors"]), f"not all were kept: {report}")
        return report["gap_seconds"] * 1000

    def refused(self):
        said = self.command("upgrade", check=False)
        self.s.expect(said.startswith("refused"), f"it said {said!r}")
        return said

    def replace(self, script, mode):
        """Another file in the place of the binary, as a package manager does it."""
        self.host.write("/lab/new", script)
        self.host.run(f"chmod {mode} /lab/new && mv /lab/new /lab/ovn-bgpd")

    def restore(self):
        self.host.run("cp /lab/real /lab/new && mv /lab/new /lab/ovn-bgpd")


def since(leaf, name):
    """Since when the leaf has the session, and how often it came up, in its own words."""
    if leaf.kind == "FRR":
        entry = leaf.neighbor(name)
        return entry.get("bgpTimerUpEstablishedEpoch", 0), entry.get("connectionsEstablished"), entry.get("connectionsDropped")
    protocol = "host6" if ":" in name else "host4"
    return next((0, *line.split()[3:5]) for line in leaf.birdc("show protocols").splitlines() if line.startswith(protocol))


def unchanged(s, leaf, before):
    for name, (epoch, *rest) in before.items():
        now = since(leaf, name)
        # FRR takes the difference of two clocks that tick at different times.
        same = now[1:] == tuple(rest) and abs(now[0] - epoch) <= 1
        s.expect(same, f"{name}: since when the leaf has the session, and how often it came up: {now}, before {(epoch, *rest)}")


def clear(leaf, name):
    if leaf.kind == "FRR":
        leaf.vtysh(f"clear bgp {name}")
    else:
        leaf.birdc(f"restart {'host6' if ':' in name else 'host4'}")


def of_us(host):
    link_local = re.search(r"inet6 (fe80\S+)/", host.run("ip -6 addr show dev eth1 scope link")).group(1)
    return f"ip.src == 10.0.1.2 || ipv6.src == fd00:1::2 || ipv6.src == {link_local}"
