"""What a scenario is, and what it is handed.

A scenario is a folder below interop/scenarios with a `scenario.py`:

    '''One line: what it proves. The rest of the docstring is for the reader.'''
    TOPOLOGY = topology.pair()          # or a function of the variant's parameters
    VARIANTS = {"frr-10": {...}, …}     # optional: the same steps with different parameters
    FULL = {…}                          # optional: more variants, run by --full only
    TIME_LIMIT = 60                     # seconds, for the whole scenario
    SKIP = ""                           # a reason, if it cannot be run now

    def run(s):                         # s: Stage
        …

Peers' configuration files lie in the same folder and are filled in by `s.text`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from .capture import Capture
from .daemon import OvnBgpd
from .laboratory import Lab, Node
from .peers import Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer
from .shell import LabError

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"


@dataclass
class Scenario:
    """One runnable thing: a module and, possibly, a variant of it."""

    name: str
    module: ModuleType
    folder: Path
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (self.module.__doc__ or "").strip().splitlines()[0]

    @property
    def skip(self) -> str:
        return self.parameters.get("skip") or getattr(self.module, "SKIP", "")

    @property
    def time_limit(self) -> float:
        return float(self.parameters.get("time_limit") or getattr(self.module, "TIME_LIMIT", 60))

    def topology(self):
        described = self.module.TOPOLOGY
        return described(**self.parameters.get("topology", {})) if callable(described) else described


def load(full: bool = False) -> list[Scenario]:
    """Every scenario, variants expanded, in alphabetical order."""
    found = []
    for path in sorted(SCENARIOS.glob("*/scenario.py")):
        spec = importlib.util.spec_from_file_location(f"scenario_{path.parent.name.replace('-', '_')}", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        name = path.parent.name
        variants = dict(getattr(module, "VARIANTS", {}))
        if full:
            variants |= getattr(module, "FULL", {})
        if not variants:
            found.append(Scenario(name, module, path.parent))
        for variant, parameters in variants.items():
            found.append(Scenario(f"{name}/{variant}", module, path.parent, dict(parameters)))
    return found


class Stage:
    """Handed to a scenario: the lab, its files, and a place to say what is going on."""

    def __init__(self, scenario: Scenario, lab: Lab, say: Callable[[str], None]) -> None:
        self.scenario = scenario
        self.lab = lab
        self.say = say
        self.parameters = scenario.parameters
        self.versions: dict[str, str] = {}
        self._captures: list[Capture] = []

    def __getitem__(self, node: str) -> Node:
        return self.lab[node]

    def step(self, text: str) -> None:
        self.say(f"· {text}")

    def text(self, file: str, **values: Any) -> str:
        """A file of the scenario's folder, `@NAME@` replaced by values."""
        text = (self.scenario.folder / file).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        if "@" in text and (left := [word for word in text.split() if word.startswith("@") and word.endswith("@") and len(word) > 2]):
            raise LabError(f"{file}: nobody filled in {left}")
        return text

    def ours(self, node: str = "host", file: str = "host.toml", name: str = "ovn-bgpd", start: bool = True,
             text: str | None = None, **values: Any) -> OvnBgpd:  # fmt: skip
        """Our daemon in a node, started with a file of the folder (or a text)."""
        daemon = OvnBgpd(self.lab[node], name)
        daemon.configure(text or self.text(file, **values))
        if start:
            daemon.start()
        return daemon

    def frr(self, node: str = "leaf", file: str = "leaf.frr.conf", bfd: bool = False, text: str | None = None,
            **values: Any) -> Frr:  # fmt: skip
        peer = Frr(self.lab[node])
        peer.start(text or self.text(file, **values), bfd=bfd)
        self.versions[node] = f"FRR {peer.version()}"
        return peer

    def bird(self, node: str = "leaf", file: str = "leaf.bird.conf", text: str | None = None, **values: Any) -> Bird:
        peer = Bird(self.lab[node])
        peer.start(text or self.text(file, **values))
        self.versions[node] = f"BIRD {peer.version()}"
        return peer

    def peer(self, kind: str, node: str = "leaf", file: str = "", text: str | None = None, **values: Any) -> Peer:
        """Any peer by its name, started with `leaf.<kind>.*` of the folder (or a text)."""
        if text is not None:
            values["text"] = text
        if kind == "frr":
            return self.frr(node, file or f"{node}.frr.conf", **values)
        if kind == "bird":
            return self.bird(node, file or f"{node}.bird.conf", **values)
        known = {"gobgp": (GoBgp, "toml"), "openbgpd": (OpenBgpd, "conf"), "exabgp": (ExaBgp, "conf")}
        make, ending = known[kind]
        peer = make(self.lab[node])
        peer.start(text or self.text(file or f"{node}.{kind}.{ending}", **values))
        self.versions[node] = f"{peer.kind} {peer.version()}"
        return peer

    def capture(self, node: str, interface: str, expression: str = "tcp port 179 or udp port 3784") -> Capture:
        """A capture that is stopped, and looked at for malformed messages, when the scenario ends."""
        if self.lab.sabotage and self.lab.sabotage.wire:
            node, interface = self.lab.far_end(node, interface)  # a fault is on the cable: look at what arrives
        capture = Capture(self.lab[node], interface, expression)
        capture.start()
        self._captures.append(capture)
        return capture

    def finish(self) -> None:
        """The wire must be clean in every scenario that captures it."""
        for capture in self._captures:
            capture.stop()
            count = capture.assert_well_formed()
            self.say(f"· {capture.node.name}/{capture.file.name}: {count} packets with BGP in them, none malformed")

    @staticmethod
    def expect(condition: object, message: str) -> None:
        """An assertion whose message says what was seen."""
        if not condition:
            raise LabError(message)

    @staticmethod
    def equal(seen: object, wanted: object, what: str) -> None:
        if seen != wanted:
            raise LabError(f"{what}: expected {wanted!r}, but it is {seen!r}")
