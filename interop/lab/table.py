"""docs/interop.md, written from a run."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

from .scenario import load

WORDS = {"passed": "yes", "failed": "**no**", "skipped": "not yet"}


def write(path: Path, results: list[dict], seconds: float) -> None:
    """One table for plain speakers by peer, one for the matrix, one for everything else."""
    by_name = {scenario.name: scenario for scenario in load(full=True)}
    counts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in WORDS}
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    lines = [
        "# Interoperability",
        "",
        f"Written by `make interop` on {date} (Linux {platform.release()}, {seconds / 60:.1f} minutes): "
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped. Every row is a scenario of "
        "[`interop/scenarios`](../interop/scenarios), run against the peer's own package from Debian in a container; the peer's own view and "
        "the wire (tshark: no malformed message) are what is asserted.",
        "",
        "## Peers",
        "",
        "| peer | eBGP | iBGP | TCP MD5 |",
        "|---|---|---|---|",
        *peers(results),
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
    print(f"written: {path}")


def verdict(result: dict) -> str:
    word = WORDS[result["verdict"]]
    return f"{word}: {result['detail']}" if result["verdict"] == "skipped" else word


def peers(results: list[dict]) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        scenario, _, variant = result["name"].partition("/")
        if scenario == "plain":
            column, _, peer = variant.partition("-")
        elif scenario == "md5":
            column, peer = "md5", variant
        else:
            continue
        row = rows.setdefault(peer, {})
        row[column] = verdict(result)
        row["version"] = ", ".join(sorted(set(result["versions"].values()))) or row.get("version", peer)
    return [
        f"| {row.get('version', peer)} | {row.get('ebgp', '–')} | {row.get('ibgp', '–')} | {row.get('md5', '–')} |"
        for peer, row in sorted(rows.items())
    ]


def matrix(results: list[dict], by_name: dict) -> list[str]:
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
