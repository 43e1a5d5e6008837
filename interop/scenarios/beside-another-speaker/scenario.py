"""FRR runs on the same host and has port 179: both sessions come up. With `listen = []` in silence, without it the port is named."""

from lab import topology

TOPOLOGY = topology.pair()
TIME_LIMIT = 60


def run(s):
    s.capture("host", "eth1")
    leaf = s.frr()
    other = s.frr("host", "host.frr.conf")
    leaf.wait_established("fd00:1::2")
    s.step("told not to listen")
    ours = s.ours(LISTEN="[]")
    ours.wait_established("10.0.1.1")
    leaf.wait_route("172.30.1.1/32")
    s.expect("not listening" not in ours.node.log(ours.name) and "in use" not in ours.node.log(ours.name), "it tried to listen")
    ours.stop()
    s.step("told to listen: the port is named, and our own session comes up all the same")
    ours.configure(s.text("host.toml", LISTEN='["0.0.0.0", "::"]'))
    ours.start()
    ours.wait_established("10.0.1.1")
    log = ours.node.log(ours.name)
    s.expect("179" in log and "in use" in log, f"the log does not name the port:\n{log}")
    s.expect(leaf.established("fd00:1::2") and other.established("fd00:1::1"), "the other speaker's session suffered")
    s.equal(leaf.neighbor("fd00:1::2")["connectionsDropped"], 0, "times it was dropped")
