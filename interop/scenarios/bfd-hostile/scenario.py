"""Strangers at port 3784: another BFD daemon that has it, and a flood of 10,000 packets a second. Both are named, and move no session."""

import json

from lab import topology
from lab.shell import wait_for

TOPOLOGY = topology.pair
TIME_LIMIT = 120

# In the leaf: so many packets a second of each kind for so many seconds; the last line says how many were sent.
FLOOD = """
import socket, struct, sys, time
seconds, rate = 8, 10000
def packet(ttl):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    return made
near, far = packet(255), packet(64)
words = lambda first, mine, yours: struct.pack("!6I", first, mine, yours, 1000000, 1000000, 0)
ours = int(sys.argv[1])
kinds = [
    (near, words(0x20400318, 7, 7)),                   # of no session
    (near, words(0x20400318, 7, ours)[:23]),           # an octet short
    (near, words(0x204003ff, 7, ours)),                # its Length says more than there is
    (near, words(0x20c00318, 7, 0) + bytes(1400)),     # far too long, and Up for no session
    (far, words(0x20400318, 7, ours)),                 # "Down" for our session, from too far away
    (near, words(0x40400318, 7, ours)),                # another version
    (near, words(0x20410318, 7, ours)),                # multipoint
    (near, words(0x20400018, 7, ours)),                # no multiplier
    (near, words(0x20400318, 0, ours)),                # no discriminator
    (near, words(0x20440318, 7, ours)),                # authentication that is not there
]
started, sent = time.monotonic(), 0
while time.monotonic() - started < seconds:
    while sent < (time.monotonic() - started) * rate:
        for origin, octets in kinds:
            origin.sendto(octets, ("10.0.1.2", 3784))
            sent += 1
    time.sleep(0.001)
print(sent)
"""


def run(s):
    s.step("FRR's bfdd has the port on this host: said in the log, in `show bfd` and in `show summary`")
    s["host"].run("mkdir -p /run/frr /var/tmp/frr && chown frr:frr /run/frr /var/tmp/frr")
    s["host"].start("zebra", "/usr/lib/frr/zebra")
    wait_for("zebra", lambda: s["host"].succeeds("test -S /run/frr/zserv.api"))
    s["host"].start("bfdd", "/usr/lib/frr/bfdd")
    wait_for("bfdd to have the port", lambda: ":3784 " in s["host"].run("ss -Hlnu"))
    s.frr(bfd=True)
    ours = s.ours()
    said = wait_for("`show bfd` to say so", lambda: next((b["diagnostic"] for b in ours.show("bfd") if "3784" in b["diagnostic"]), None))
    s.expect("another BFD daemon" in said, f"it says {said!r}")
    s.expect(any("3784" in warning for warning in ours.show("summary")["warnings"]), "nothing in `show summary`")
    s.expect("another BFD daemon" in s["host"].log("ovn-bgpd"), "nothing in the log")
    s.step("it goes away: we listen, and the session comes up")
    s["host"].stop("bfdd")
    wait_for("the session", lambda: settled(ours), 30.0)
    # FRR takes no BGP while its own BFD session is down.
    ours.wait_established("10.0.1.1", 60.0)
    s.step("a flood: 10,000 packets a second, each broken in another way")
    before = session(ours)
    sent = int(s["leaf"].run(["python3", "-c", FLOOD, str(before["local_discriminator"])], timeout=60.0).split()[-1])
    after = session(ours)
    s.equal((after["state"], after["up_count"], after["down_count"]), ("Up", before["up_count"], before["down_count"]), "the session")
    s.expect(ours.established("10.0.1.1"), "BGP went down")
    rules = ours.show("summary")["bfd"]["packets_discarded"]
    refused = sum(rules.values())
    s.say(f"  {sent} sent, {refused} refused: {json.dumps(rules)}")
    s.expect(refused >= sent * 0.9, f"{sent} were sent, but only {refused} counted")
    s.equal(len(rules), 10, "rules that were broken")
    sent, late = packets(after, before)
    s.expect(late * 20 <= sent, f"{late} of {sent} of our own packets left the jitter window meanwhile")


def packets(after, before):
    grown = {key: after[key] - before[key] for key in ("packets_in_window", "packets_too_soon", "packets_too_late")}
    return sum(grown.values()), grown["packets_too_soon"] + grown["packets_too_late"]


def session(ours):
    return ours.show("bfd")[0]


def settled(ours):
    return session(ours)["state"] == "Up" and session(ours)["transmit_interval_ms"] == 300
