"""An address that appears on lo (Pacemaker, keepalived) is on the wire in milliseconds, and withdrawn as fast when it leaves.

The times are from before `ip addr add` to the UPDATE in the leaf's capture. Loopback addresses proper are not announced, and
one that is configured as well stays when the interface loses it. Prefixes in files come and go by reload; a file with an error changes
nothing.
"""

import json
import time

from lab import topology

VARIANTS = {
    "frr-10": {"peer": "frr", "topology": {"image_b": "cloud"}},
    "bird-2.17": {"peer": "bird", "topology": {"image_b": "cloud"}},
}
TOPOLOGY = topology.pair
TIME_LIMIT = 60

ADDRESSES = ["198.51.100.10/32", "2001:db8:51::10/128"]
ANNOUNCED = {4: "bgp.nlri_prefix == {} || bgp.mp_reach_nlri_ipv4_prefix == {}", 6: "bgp.mp_reach_nlri_ipv6_prefix == {}"}
WITHDRAWN = {4: "bgp.withdrawn_prefix == {} || bgp.mp_unreach_nlri_ipv4_prefix == {}", 6: "bgp.mp_unreach_nlri_ipv6_prefix == {}"}


def run(s):
    host = s["host"]
    capture = s.capture("leaf", "eth1")
    leaf = s.peer(s.parameters["peer"])
    host.write("/lab/prefixes/first.txt", "# of the rack\n203.0.113.1/32\n2001:db8:f::1/128  # and IPv6\n")
    ours = s.ours()
    ours.wait_established("10.0.1.1")
    ours.wait_established("fd00:1::1")
    leaf.wait_route("172.30.1.1/32")
    time.sleep(1.0)  # nothing else is under way

    s.step("addresses come and go on lo")
    at = {}
    for address in ADDRESSES:
        at["add", address] = float(host.run(f"date +%s.%N; ip addr add {address} dev lo"))
        leaf.wait_route(address)
        time.sleep(0.2)
        at["del", address] = float(host.run(f"date +%s.%N; ip addr del {address} dev lo"))
        leaf.wait_gone(address)
    s.step("one that comes with a longer network is announced as a host route; twenty at once all arrive, and all leave")
    host.run("ip addr add 203.0.113.7/24 dev lo")
    leaf.wait_route("203.0.113.7/32")
    many = [f"198.51.100.{n}/32" for n in range(100, 120)]
    host.run("; ".join(f"ip addr add {address} dev lo" for address in many))
    for address in many:
        leaf.wait_route(address)
    host.run("; ".join(f"ip addr del {address} dev lo" for address in [*many, "203.0.113.7/24"]))
    for address in many:
        leaf.wait_gone(address)
    leaf.wait_gone("203.0.113.7/32")
    s.step("a prefix that is configured stays when the interface loses it; 127.0.0.1, ::1 and networks were never announced")
    host.run("ip addr add 172.30.1.1/32 dev lo")
    time.sleep(0.3)
    host.run("ip addr del 172.30.1.1/32 dev lo")
    time.sleep(0.5)
    s.equal(sorted(leaf.routes()), ["172.30.1.1/32", "2001:db8:f::1/128", "203.0.113.1/32"], "routes of the leaf")

    s.step("another file, and other lines in the first, by reload; then one with an error, which changes nothing; then none at all")
    host.write("/lab/prefixes/second.txt", "203.0.113.2/32\n")
    host.write("/lab/prefixes/first.txt", "2001:db8:f::1/128\n")
    ours.command("reload")
    leaf.wait_route("203.0.113.2/32")
    leaf.wait_gone("203.0.113.1/32")
    host.write("/lab/prefixes/first.txt", "203.0.113.3/32\n2001:db8:f::1/64\n")
    report = json.loads(ours.command("reload", "--json", check=False))
    s.expect(not report["accepted"] and "first.txt:2" in report["problems"][0], f"what the reload says of a broken file: {report}")
    time.sleep(0.5)
    s.equal(sorted(leaf.routes()), ["172.30.1.1/32", "2001:db8:f::1/128", "203.0.113.2/32"], "routes of the leaf after a broken file")
    host.run("rm /lab/prefixes/*.txt")
    ours.command("reload")
    for prefix in ("2001:db8:f::1/128", "203.0.113.2/32"):
        leaf.wait_gone(prefix)
    s.equal([n["lost_count"] for n in ours.show("neighbors")], [0, 0], "sessions lost")
    capture.stop()
    for address in ("127.0.0.1", "127.0.0.0", "203.0.113.0"):
        s.equal(capture.decode(f"bgp.nlri_prefix == {address}", "frame.number"), [], f"packets that announce {address}")

    s.step("how long it took until it was on the wire")
    for (what, address), since in at.items():
        plain = address.split("/")[0]
        found = (ANNOUNCED if what == "add" else WITHDRAWN)[6 if ":" in address else 4].format(plain, plain)
        # The leaf may tell us what it heard from us: only our own packets count.
        times = [float(t) - since for (t,) in capture.decode(f"(ip.src == 10.0.1.2 || ipv6.src == fd00:1::2) && ({found})", "frame.time_epoch")]
        s.equal(len(times), 1, f"UPDATEs with {address}, {what}")
        s.say(f"  ip addr {what} {address}: UPDATE at the leaf after {times[0] * 1000:.1f} ms")
        s.expect(0 < times[0] < 0.25, f"{address}, {what}: {times[0] * 1000:.0f} ms")
