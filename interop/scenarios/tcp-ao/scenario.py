"""TCP-AO (RFC 5925) between two of ours where the kernel has it; where it has not, both stay down and say what is missing.

FRR has no TCP-AO, and BIRD's is no help on a kernel without it. Never is a connection that is not signed taken for one that is.
"""

from lab import topology
from lab.shell import wait_for

TOPOLOGY = topology.pair()
TIME_LIMIT = 60


def run(s):
    capture = s.capture("host", "eth1")
    one = s.ours("host", ASN=64999, OWN="10.0.1.2", PEER="10.0.1.1", SEND=1, RECEIVE=2)
    other = s.ours("leaf", ASN=65001, OWN="10.0.1.1", PEER="10.0.1.2", SEND=2, RECEIVE=1)
    pairs = ((one, "10.0.1.1"), (other, "10.0.1.2"))

    def entry(ours, neighbor):
        return next(entry for entry in ours.show("neighbors") if entry["neighbor"] == neighbor)

    for ours, neighbor in pairs:
        s.equal((entry(ours, neighbor)["security"]["ao"], entry(ours, neighbor)["security"]["md5"]), (True, False), "how it is signed")

    def outcome():
        if all(ours.established(neighbor) for ours, neighbor in pairs):
            return "up"
        missing = all("built without TCP-AO" in str(entry(ours, neighbor)["last_reason"]) for ours, neighbor in pairs)
        return "missing" if missing else None

    seen = wait_for("a session, or the word that the kernel cannot", outcome, 30.0)
    if seen == "up":
        s.step("this kernel has TCP-AO: every segment is signed")
        capture.stop()
        s.equal(capture.decode("bgp && !(tcp.option_kind == 29)", "frame.number"), [], "BGP packets without TCP-AO")
        return
    s.step("this kernel has no TCP-AO: nothing is sent unsigned instead")
    s["leaf"].run(["bash", "-c", "exec 3<>/dev/tcp/10.0.1.2/179; timeout 5 cat <&3 | wc -c > /lab/heard"], timeout=20.0)
    s.equal(s["leaf"].run("cat /lab/heard").strip(), "0", "octets for a neighbour that does not sign")
    capture.stop()
    s.equal(capture.decode("bgp", "frame.number"), [], "BGP packets")
