"""docs/interop.md and the README's table of compatibility, written from a run."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

from .scenario import Scenario, load

WORDS = {"passed": "yes", "failed": "**no**", "skipped": "not here"}
README = Path(__file__).resolve().parent.parent.parent / "README.md"
BEGIN, END = "<!-- from a run of make interop: begin -->", "<!-- from a run of make interop: end -->"
FEATURES = ("eBGP", "iBGP", "TCP MD5", "unnumbered", "IPv4 over IPv6", "graceful restart", "BFD")
# What the other side does not have, by the documentation of the version tried.
LACKS = {"BFD": ("GoBGP", "OpenBGPD", "ExaBGP")}
# Which scenario, and which value of a row of the matrix, shows what.
SHOWN_BY_SCENARIO = {"md5": "TCP MD5", "bfd": "BFD", "graceful-restart": "graceful restart", "graceful-helper": "graceful restart"}
SHOWN_BY_VALUE = {
    "ebgp": "eBGP", "rr": "iBGP", "md5": "TCP MD5", "unnumbered": "unnumbered", "v4over6": "IPv4 over IPv6", "bfd": "BFD",
}  # fmt: skip


def write(path: Path, results: list[dict], seconds: float, command: str) -> None:
    """The page, and the table in the README."""
    by_name = {scenario.name: scenario for scenario in load(full=True)}
    counts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in WORDS}
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    compatibility = peers(results, by_name)
    lines = [
        "# Interoperability",
        "",
        f"Written by `{command}` on {date} (Linux {platform.release().split('-')[0]}, {os.cpu_count()} processors, {seconds / 60:.0f} minutes): "
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped. Every row is a scenario of "
        "[`interop/scenarios`](../interop/scenarios), run against the peer's own package from Debian in a container; the peer's own view and "
        "the wire (tshark: no malformed message, in the matrix every attribute) are what is asserted. `make interop-sabotage` breaks "
        "things on purpose and sees the right ones fail.",
        "",
        "## Peers",
        "",
        *compatibility,
        "",
        LEGEND,
        "",
        "## The matrix",
        "",
        "Few rows that contain every pair of values; `make interop-full` runs all of them.",
        "",
        *matrix(results, by_name),
        "",
        "## Everything else",
        "",
        "| scenario | what it proves | with | result | seconds |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        if result["name"].split("/")[0] in ("plain", "matrix", "md5"):
            continue
        versions = ", ".join(sorted(set(result["versions"].values())))
        lines.append(f"| {result['name']} | {result['summary']} | {versions} | {verdict(result)} | {result['seconds']:.0f} |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"written: {os.path.relpath(path)}")
    into_readme([*compatibility, "", f"{LEGEND} From a run of `{command}` on {date}; [docs/interop.md](docs/interop.md) has every scenario."])


LEGEND = "“has none”: the peer does not know it; “not tried”: no scenario."


def into_readme(lines: list[str], readme: Path = README) -> None:
    """Replaces what stands between the two marks."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        print(f"{readme.name} has no marks for the table of compatibility; it is left alone")
        return
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(before + "\n".join([BEGIN, *lines, END]) + after)
    print(f"written: {readme.name}, between its marks")


def verdict(result: dict) -> str:
    word = WORDS[result["verdict"]] + (", at the second try" if result.get("again") else "")
    return f"{word}: {result['detail']}" if result["verdict"] == "skipped" else word


def shows(result: dict, by_name: dict[str, Scenario]) -> list[str]:
    """The features a scenario shows with its leaf."""
    scenario, _, variant = result["name"].partition("/")
    if scenario == "plain":
        return ["eBGP" if variant.startswith("ebgp-") else "iBGP"]
    if scenario == "matrix" and result["name"] in by_name:
        row = by_name[result["name"]].module.columns(by_name[result["name"]].parameters)
        return [SHOWN_BY_VALUE[value] for value in row.values() if value in SHOWN_BY_VALUE]
    return [SHOWN_BY_SCENARIO[scenario]] if scenario in SHOWN_BY_SCENARIO else []


def peers(results: list[dict], by_name: dict[str, Scenario]) -> list[str]:
    """A row for each version of a peer: yes if everything that shows a feature passed."""
    seen: dict[str, dict[str, set[str]]] = {}
    for result in results:
        peer = result["versions"].get("leaf")
        if not peer:
            continue
        for feature in shows(result, by_name):
            seen.setdefault(peer, {}).setdefault(feature, set()).add(result["verdict"])

    def cell(peer: str, feature: str) -> str:
        verdicts = seen[peer].get(feature, set())
        if "failed" in verdicts:
            return WORDS["failed"]
        if "passed" in verdicts:
            return WORDS["passed"]
        return "has none" if peer.split()[0] in LACKS.get(feature, ()) else "not tried"

    def order(peer: str) -> tuple:
        kind, _, version = peer.partition(" ")
        return (["FRR", "BIRD"].index(kind) if kind in ("FRR", "BIRD") else 2, kind, [int(n) for n in re.findall(r"\d+", version)])

    lines = ["| peer | " + " | ".join(FEATURES) + " |", "|---" * (len(FEATURES) + 1) + "|"]
    return lines + [f"| {peer} | " + " | ".join(cell(peer, feature) for feature in FEATURES) + " |" for peer in sorted(seen, key=order)]


def matrix(results: list[dict], by_name: dict[str, Scenario]) -> list[str]:
    lines: list[str] = []
    for result in results:
        scenario = by_name.get(result["name"])
        if scenario is None or not result["name"].startswith("matrix/"):
            continue
        row = scenario.module.columns(scenario.parameters)
        if not lines:
            names = list(row)
            lines += ["| " + " | ".join([*names, "result", "seconds"]) + " |", "|---" * (len(names) + 2) + "|"]
        values = dict(row)
        values["peer"] = ", ".join(sorted(set(result["versions"].values()))) or row["peer"]
        lines.append("| " + " | ".join([*values.values(), verdict(result), f"{result['seconds']:.0f}"]) + " |")
    return lines
