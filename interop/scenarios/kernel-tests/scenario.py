"""The tests of the kernel's side, on Debian's own kernel: VLAN devices and VRFs are there, and it is older than many a builder's.

`make kernel-tests` builds them and says where they are; without that there is nothing to run.
"""

import os
import re
from pathlib import Path

from lab import vm
from lab.topology import Node, Topology

TESTS = [Path(file) for file in os.environ.get("OVN_BGPD_TESTS", "").split() if Path(file).exists()]
SKIP = vm.why_not() or ("" if TESTS else "OVN_BGPD_TESTS names no test programs (`make kernel-tests` does)")
TOPOLOGY = Topology(nodes=[Node("host")], kernel=True, files=tuple(TESTS))
TIME_LIMIT = 400


def run(s):
    for program in TESTS:
        # Limits of time are for real processors.
        said = s["host"].run(f"cd /tmp && /opt/{program.name} --test-threads=1 --nocapture 2>&1", check=False, timeout=300.0)
        result = re.search(r"test result: (\w+)\. (\d+) passed; (\d+) failed", said)
        failed = re.findall(r"^test (\S+) \.\.\..*FAILED$|^    (\S+)$", said, re.M)
        s.expect(result and result.group(1) == "ok", f"{program.name}: {failed}\n{said[-3000:]}")
        s.step(f"{program.name.rsplit('-', 1)[0]}: {result.group(2)} tests passed")
