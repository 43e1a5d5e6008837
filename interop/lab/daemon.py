"""ovn-bgpd itself, in a node."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from .laboratory import Node
from .shell import LabError, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT_SOCKET = "/run/ovn-bgpd/ovn-bgpd.sock"


def binary() -> Path:
    """The daemon under test: OVN_BGPD, else the release build, else the debug build."""
    named = os.environ.get("OVN_BGPD")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for candidate in [Path(named)] if named else [target / "release/ovn-bgpd", target / "debug/ovn-bgpd"]:
        if candidate.exists():
            return candidate
    raise LabError("ovn-bgpd is not built: `make build` (or set OVN_BGPD to the binary)")


class OvnBgpd:
    """The daemon with one configuration file; its own view through `show --json`."""

    kind = "ovn-bgpd"
    try_this = "ovn-bgpd show summary"  # what a person types who looks around

    def __init__(self, node: Node, name: str = "ovn-bgpd") -> None:
        self.node = node
        self.name = name
        self.config_path = f"/lab/{name}.toml"
        # The one daemon of a node has the default socket, so that whoever enters a lab may type `ovn-bgpd show summary`.
        self.socket = DEFAULT_SOCKET if name == "ovn-bgpd" else f"/run/{name}.sock"
        node.speakers.append(self)

    def install(self) -> None:
        """Puts the binary into the node, unless it is there already."""
        self.node.install(binary())

    def configure(self, config: str) -> None:
        self.install()
        if "[api]" not in config and self.socket != DEFAULT_SOCKET:
            config += f'\n[api]\nsocket = "{self.socket}"\n'
        if self.node.sabotage:
            config = self.node.sabotage.configuration(config)
        self.node.write(self.config_path, config)

    def start(self, config: str | None = None, wait: bool = True) -> None:
        if config is not None:
            self.configure(config)
        self.node.run(["ovn-bgpd", "check", "--config", self.config_path])
        self.node.start(self.name, f"ovn-bgpd run --config {self.config_path}")
        if wait:
            try:
                wait_for(f"{self.node.name}: {self.name} to answer", lambda: self.show("summary") is not None)
            except LabError as failure:
                raise LabError(f"{failure}\n{self.node.log(self.name)[-2000:]}") from failure

    def stop(self) -> None:
        self.node.stop(self.name)

    def kill(self) -> None:
        self.node.stop(self.name, signal.SIGKILL)

    def command(self, *words: str, check: bool = True) -> str:
        return self.node.run(["ovn-bgpd", "--socket", self.socket, *words], check=check)

    def show(self, what: str):
        """`show WHAT --json`, decoded."""
        out = self.command("show", what, "--json")
        try:
            return json.loads(out)
        except ValueError as broken:
            raise LabError(f"{self.node.name}: `ovn-bgpd show {what} --json` printed {out[:400]!r}") from broken

    def established(self, neighbor: str) -> bool:
        for entry in self.show("neighbors"):
            if entry.get("neighbor") == neighbor or entry.get("interface") == neighbor:
                return str(entry.get("state", "")).lower() == "established"
        return False

    def view(self) -> str:
        """Our sessions, in a line, for the message of a failure."""
        if not self.node.alive(self.name):
            return f"{self.node.name} (ovn-bgpd) is not running; its last words: {self.node.log(self.name)[-300:]}"
        sessions = [
            " ".join(str(entry[key]) for key in ("neighbor", "interface", "state", "last_error", "last_reset") if entry.get(key))
            for entry in self.show("neighbors")
        ]
        return f"{self.node.name} (ovn-bgpd) sees: " + ("; ".join(sessions) or "no neighbour")

    def wait_established(self, neighbor: str, timeout: float = 30.0) -> None:
        wait_for(f"{self.node.name} (ovn-bgpd): session with {neighbor}", lambda: self.established(neighbor), timeout)

    def wait_learned(self, prefix: str, timeout: float = 10.0) -> dict:
        """The route we learned, as `show learned` prints it."""

        def look():
            return next((entry for entry in self.show("learned") if entry.get("prefix") == prefix), None)

        return wait_for(f"{self.node.name} (ovn-bgpd): {prefix} learned", look, timeout)

    def resident_kib(self) -> int:
        return int(self.node.status(self.name, "VmRSS").split()[0])
