"""TCP-AO (RFC 5925) with BIRD and between two of ours, both algorithms, where the kernel has it; where not, all stay down and say so.

`ours-…` and `bird-…` run on a kernel that has it (Debian's backports) under qemu: every segment is signed with the key agreed, a wrong
or missing key gives no session and is named, an unsigned connection gets no answer, another key takes a reload on both sides.
`containers` runs on whatever kernel this is. FRR has no TCP-AO.
"""

from lab import topology, vm
from lab.shell import LabError, wait_for

KERNEL = {"kernel": "trixie-backports"}
VARIANTS = {
    "containers": {"peer": "ours", "topology": {}},
    "ours-backports-kernel": {"peer": "ours", "topology": KERNEL, "skip": vm.why_not(), "time_limit": 240},
    "bird-2.17-backports-kernel": {"peer": "bird", "topology": KERNEL, "skip": vm.why_not(), "time_limit": 240},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60
SECRET, OTHER = "between-us", "and-nobody-else"
UNNUMBERED = '[[bgp.neighbors]]\ninterface = "eth1"\npeer_group = "leaf"\ntcp_ao = {}'
# Our neighbours, and the key identifiers of our segments and of theirs.
NUMBERED = {"10.0.1.1": ("1", "2"), "fd00:1::1": ("3", "4")}


def run(s):
    story = Story(s)
    story.starts()
    if story.kernel_has_it():
        story.wrong_keys()
        story.works()
        story.stranger()
        story.another_key()
        story.wire()
    else:
        story.kernel_cannot()


class Story:
    def __init__(self, s):
        self.s = s
        self.bird = s.parameters["peer"] == "bird"
        self.more = "" if self.bird else UNNUMBERED
        self.neighbors = [*NUMBERED] + ([] if self.bird else ["eth1"])

    def configuration(self, key):
        return self.s.text("host.toml", KEY=key, MORE=self.more)

    def reload(self, key):
        self.ours.configure(self.configuration(key))
        self.ours.command("reload")

    def entries(self):
        return self.ours.show("neighbors")

    def starts(self):
        s = self.s
        self.capture = s.capture("host", "eth1")
        if self.bird:
            self.leaf = s.bird(PASSWORD=SECRET)
        else:
            self.leaf = s.ours("leaf", "leaf.toml", PASSWORD=SECRET)
        self.ours = s.ours(text=self.configuration(f'password = "{OTHER}"'))
        for entry in self.entries():
            s.equal((entry["security"]["ao"], entry["security"]["md5"]), (True, False), f"how {entry['neighbor']} is signed")

    def kernel_has_it(self):
        reason = wait_for("a word about the first attempt", lambda: self.entries()[0]["last_reason"], 40.0)
        missing = "built without TCP-AO" in reason
        self.s.expect(not (missing and self.s.lab.topology.kernel), f"this kernel should have TCP-AO, but: {reason}")
        return not missing

    def kernel_cannot(self):
        s = self.s
        s.step("this kernel has no TCP-AO: all stay down and say so, and nothing is sent unsigned instead")
        numbered = lambda: [e for e in self.entries() if e["neighbor"] in NUMBERED]  # noqa: E731 - nobody is discovered who cannot be dialled
        wait_for("every neighbour to say so", lambda: all("built without TCP-AO" in str(e["last_reason"]) for e in numbered()), 30.0)
        s["leaf"].run(["bash", "-c", "exec 3<>/dev/tcp/10.0.1.2/179; timeout 5 cat <&3 | wc -c > /lab/heard"], timeout=20.0)
        s.equal(s["leaf"].run("cat /lab/heard").strip(), "0", "octets for a neighbour that does not sign")
        self.capture.stop()
        s.equal(self.capture.decode("bgp", "frame.number"), [], "BGP packets")

    def named(self, more_than=0):
        def look():
            return all(
                e["security"]["signature_failures"] > more_than and "password the same on both sides" in str(e["last_reason"])
                for e in self.entries()
                if e["neighbor"] in NUMBERED
            )

        try:
            wait_for("`show neighbors` to ask for the passwords", look, 40.0)
        except LabError as late:
            raise LabError(f"{late}: {[(e['neighbor'], e['security'], e['last_reason']) for e in self.entries()]}") from late
        up = [name for name in self.neighbors if self.ours.established(name)]
        self.s.equal(up, [], "sessions without the right key")

    def wrong_keys(self):
        s = self.s
        s.step("another secret than the leaf's: no session, and the passwords are asked for")
        self.named()
        s.step("none on our side: the same")
        failures = max(e["security"]["signature_failures"] for e in self.entries())
        self.ours.configure("\n".join(line for line in self.configuration("").splitlines() if not line.startswith("tcp_ao")) + "\n")
        self.ours.command("reload")
        self.named(failures)

    def up(self):
        for name in self.neighbors:
            self.ours.wait_established(name, 60.0)
        for mine in ("10.0.1.2", "fd00:1::2"):
            if self.bird:
                self.leaf.wait_established(mine)
                for prefix in ("172.30.1.1/32", "f00d::1/128"):
                    self.leaf.wait_route(prefix)
            else:
                wait_for(f"the leaf's session with {mine}", lambda m=mine: self.leaf.established(m), 20.0)
        for prefix in ("0.0.0.0/0", "::/0"):
            self.ours.wait_learned(prefix)

    def works(self):
        self.s.step("the same secret, by reload: sessions, and routes both ways")
        self.reload(f'password = "{SECRET}"')
        self.up()

    def stranger(self):
        s = self.s
        s.step("from the leaf's own address, but unsigned: no connection")
        before = self.dropped("TCPAORequired")
        s.expect(not s["leaf"].succeeds(["timeout", "4", "bash", "-c", "exec 3<>/dev/tcp/10.0.1.2/179"]), "an unsigned connection came about")
        s.expect(self.dropped("TCPAORequired") > before, "the kernel did not count what it dropped")

    def dropped(self, name):
        names, values = (line.split() for line in self.s["host"].run("grep ^TcpExt /proc/net/netstat").splitlines())
        return int(dict(zip(names, values, strict=True))[name])

    def another_key(self):
        s = self.s
        s.step("another secret on both sides: the sessions come back with it")
        self.reload(f'password = "{OTHER}"')
        if self.bird:
            self.leaf.configure(s.text("leaf.bird.conf", PASSWORD=OTHER))
            for name in ("host4", "host6"):
                self.leaf.birdc(f"restart {name}")
        else:
            self.leaf.configure(s.text("leaf.toml", PASSWORD=OTHER))
            self.leaf.command("reload")
        self.up()

    def wire(self):
        s = self.s
        self.capture.stop()
        s.step("every BGP segment carries the option, with a MAC of 96 bits and the key's identifiers")
        s.equal(self.capture.decode("bgp && !(tcp.option_kind == 29)", "frame.number"), [], "BGP packets without TCP-AO")
        for neighbor, (sent, received) in NUMBERED.items():
            ip = "ipv6" if ":" in neighbor else "ip"
            for side, (mine, other) in (("dst", (sent, received)), ("src", (received, sent))):
                seen = self.capture.decode(f"bgp && {ip}.{side} == {neighbor}", "tcp.options.ao.keyid", "tcp.options.ao.rnextkeyid", "tcp.options.ao.mac")
                s.expect(seen, f"nothing with {ip}.{side} == {neighbor}")
                found = {(key, following, len(mac.replace(":", "")) // 2) for key, following, mac in seen}
                s.equal(found, {(mine, other, 12)}, f"KeyID, RNextKeyID and octets of the MAC, {ip}.{side} == {neighbor}")
        for secret in (SECRET, OTHER):
            s.expect(secret not in self.ours.node.log(self.ours.name), "a secret is in the log")
            s.expect(secret not in self.ours.command("show", "neighbors", "--json"), "a secret is in `show neighbors`")
