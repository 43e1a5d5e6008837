"""What must be on the wire for a row of the matrix, as tshark decodes it."""

ATTRIBUTE = "bgp.update.path_attribute."
REACH = ATTRIBUTE + "mp_reach_nlri.next_hop."


def check(s, row, capture):
    mac = s["host"].run("cat /sys/class/net/eth1/address").strip()
    opens(s, row, capture, f"eth.src == {mac} && bgp.type == 1")
    updates(s, row, capture, f"eth.src == {mac} && bgp.type == 2")
    signed(s, row, capture)
    if row["bfd"] == "bfd":
        found = capture.decode(f"eth.src == {mac} && bfd", "ip.ttl", "ipv6.hlim")
        s.expect(found, "no BFD packet of ours on the wire")
        s.equal(values(found), {"255"}, "TTL or hop limit of our BFD packets (RFC 5881, section 5)")


def values(rows):
    """Every value in any column, each once."""
    return {value for row in rows for column in row for value in column.split(",") if value}


def opens(s, row, capture, ours):
    found = capture.decode(ours, "bgp.open.version", "bgp.open.myas", "bgp.open.holdtime", "bgp.open.identifier")
    s.expect(found, "no OPEN of ours on the wire")
    s.equal({tuple(line) for line in found}, {("4", "64999", "9", "10.0.1.2")}, "version, AS, hold time, identifier in our OPEN")
    s.equal(values(capture.decode(ours, "bgp.cap.4as")), {"64999"}, "the four-octet AS number in our OPEN (RFC 6793)")
    families = {afi for afi, word in (("1", "v4"), ("2", "6")) if word in row["families"]}
    s.equal(values(capture.decode(ours, "bgp.cap.mp.afi")), families, "families (AFI) in our OPEN")
    if row["families"] == "v4over6":
        s.expect("5" in values(capture.decode(ours, "bgp.cap.type")), "our OPEN lacks the extended next hop capability (RFC 8950)")


def updates(s, row, capture, ours):
    announcing = f"{ours} && {ATTRIBUTE}origin"
    s.expect(capture.decode(announcing, "frame.number"), "no announcement of ours on the wire")

    def seen(field):
        return values(capture.decode(announcing, field))

    internal = row["kind"] == "rr"
    s.equal(seen(ATTRIBUTE + "origin"), {"0"}, "ORIGIN on the wire (0: IGP)")
    s.equal(seen(ATTRIBUTE + "as_path_segment.as4"), set() if internal else {"64999"}, "AS_PATH on the wire")
    s.equal(seen(ATTRIBUTE + "multi_exit_disc"), set(), "MED on the wire")
    local = seen(ATTRIBUTE + "local_pref")
    s.equal(local, {"100"} if internal else set(), "LOCAL_PREF on the wire")
    s.equal(seen(ATTRIBUTE + "next_hop"), {"10.0.1.2"} if row["families"] == "v4" else set(), "NEXT_HOP on the wire")
    if row["families"] != "v4":
        hops = {hop for hop in seen(REACH + "ipv6") if not hop.startswith("fe80:")}
        if row["link"] == "numbered":
            s.equal(hops, {"fd00:1::2"}, "global next hop in MP_REACH_NLRI on the wire")


def signed(s, row, capture):
    wanted = row["auth"] == "md5"
    wrong = capture.decode("bgp && tcp.option_kind == 19" if not wanted else "bgp && !(tcp.option_kind == 19)", "frame.number")
    s.equal(wrong, [], f"BGP segments {'without' if wanted else 'with'} the MD5 option (frames)")
