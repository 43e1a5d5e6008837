"""The leaf's configuration for a row of the matrix, for the speakers that can do some of it: GoBGP, OpenBGPD, ExaBGP."""

PASSWORD = "between-us"


def ends(row):
    """Our address and the leaf's."""
    return ("10.0.1.2", "10.0.1.1") if row["families"] == "v4" else ("fd00:1::2", "fd00:1::1")


def own_as(row):
    return "64999" if row["kind"] == "rr" else "65001"


def families(row):
    return [family for family, word in (("ipv4", "v4"), ("ipv6", "6")) if word in row["families"]]


def gobgp(row):
    mine, theirs = ends(row)
    lines = [
        "[global.config]", f"  as = {own_as(row)}", '  router-id = "10.0.1.1"', f'  local-address-list = ["{theirs}"]',
        "[[neighbors]]", "  [neighbors.config]", f'    neighbor-address = "{mine}"', "    peer-as = 64999",
    ]  # fmt: skip
    if row["auth"] == "md5":
        lines.append(f'    auth-password = "{PASSWORD}"')
    lines += ["  [neighbors.timers.config]", "    hold-time = 9", "    keepalive-interval = 3", "    connect-retry = 5"]
    if row["kind"] == "rr":
        lines += ["  [neighbors.route-reflector.config]", "    route-reflector-client = true", '    route-reflector-cluster-id = "10.0.1.1"']
    for family in families(row):
        lines += ["  [[neighbors.afi-safis]]", "    [neighbors.afi-safis.config]", f'      afi-safi-name = "{family}-unicast"']
    return "\n".join(lines) + "\n"


def openbgpd(row):
    mine, theirs = ends(row)
    words = [f"remote-as 64999", f"local-address {theirs}"]
    words += [f"announce {name} {'unicast' if family in families(row) else 'none'}" for family, name in (("ipv4", "IPv4"), ("ipv6", "IPv6"))]
    if row["families"] == "v4over6":
        words.append("announce extended nexthop yes")
    if row["auth"] == "md5":
        words.append(f"tcp md5sig password {PASSWORD}")
    if row["kind"] == "rr":
        words += ["route-reflector"]
    networks = [f"network {'0.0.0.0/0' if family == 'ipv4' else '::/0'}" for family in families(row)]
    return "\n".join([
        f"AS {own_as(row)}", "router-id 10.0.1.1", "holdtime 9", f"listen on {theirs}", "fib-update no", *networks,
        f"neighbor {mine} {{", *(f"  {word}" for word in words), "}", "allow from any", "allow to any",
    ]) + "\n"  # fmt: skip


def exabgp(row):
    mine, theirs = ends(row)
    over6 = row["families"] == "v4over6"
    words = ["router-id 10.0.1.1;", f"local-address {theirs};", f"local-as {own_as(row)};", "peer-as 64999;", "hold-time 9;"]
    if row["auth"] == "md5":
        words.append(f'md5-password "{PASSWORD}";')
    if over6:
        words += ["capability { nexthop enable; }", "nexthop { ipv4 unicast ipv6; }"]
    words.append("family { " + " ".join(f"{family} unicast;" for family in families(row)) + " }")
    words.append("api { processes [ lab ]; neighbor-changes; receive { parsed; update; } }")
    routes = [f"route {'0.0.0.0/0' if family == 'ipv4' else '::/0'} next-hop {theirs};" for family in families(row)]
    words.append("static { " + " ".join(routes) + " }")
    return "\n".join([
        "process lab {", "  run /lab/events.sh;", "  encoder json;", "}", f"neighbor {mine} {{", *(f"  {word}" for word in words), "}",
    ]) + "\n"  # fmt: skip
