"""A cable that damages, as it is told to, what its far end says: for UPDATEs that no leaf can be made to send.

`Link(…, faulty=True)` puts a node into the middle of a link (mangle.py). What a leaf sends to our host is changed there in transit: octets
of an UPDATE, never its length, so that neither end's TCP notices. The cable is clean until it is told otherwise, and switching it
cuts nothing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .laboratory import Node

DAMAGE = "damage.json"  # in the share of the node in the middle; mangle.py reads it for every segment


class Cable:
    """One such cable, by the node in its middle."""

    def __init__(self, middle: Node) -> None:
        self.middle = middle

    def damage(self, prefix: str, edits: list[tuple]) -> None:
        """From now on every UPDATE that announces the prefix is edited (see `mangle.EDITS`), and no other."""
        target = self.middle.share / DAMAGE
        written = target.with_suffix(".new")
        written.write_text(json.dumps({"prefix": prefix, "edits": edits}))
        os.replace(written, target)  # never half of it

    def clean(self) -> None:
        """From now on everything passes as it is."""
        (self.middle.share / DAMAGE).unlink(missing_ok=True)

    def damaged(self) -> list[bytes]:
        """The messages that were damaged so far, as they arrived; what TCP repeated counts once."""
        seen = {}
        for line in self.middle.log("mangle").splitlines():
            if line.startswith("{") and line.endswith("}"):
                said = json.loads(line)
                seen.setdefault((said["port"], said["sequence"]), bytes.fromhex(said["message"]))
        return list(seen.values())

    def complaints(self) -> str:
        """What the cable could not do, for the message of a failure."""
        return "".join(line for line in self.middle.log("mangle").splitlines(True) if not line.startswith(("{", "forwarding")))
