"""interop/run: runs scenarios, each in a process of its own, and says how they ended."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from . import images, preflight, sabotage, vm
from .engine import Engine
from .laboratory import Lab, guarded
from .pool import Pool, end_with_parent, longest_first, remember
from .scenario import Scenario, Stage, load
from .screen import paint
from .shell import Impossible, LabError
from .topology import Topology

FAILED = Path(__file__).resolve().parent.parent / ".failed"
ROOT = Path(__file__).resolve().parent.parent.parent


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["bench"]:
        from .figures import main as bench

        return bench(arguments[1:])
    options = parse(arguments)
    try:
        if options.one:
            return run_one(options.one, options.keep, Path(options.result) if options.result else None, options.sabotage)
        if options.clean:
            gone = Engine().reap(kept_too=True)
            print("removed: " + (", ".join(gone) or "nothing was left"))
            return 0
        if options.enter:
            return enter(*options.enter)
        if options.self_test:
            import unittest

            tests = unittest.defaultTestLoader.discover(str(Path(__file__).resolve().parent.parent / "tests"))
            return 0 if unittest.TextTestRunner().run(tests).wasSuccessful() else 1
        if options.containerfiles:
            return write_containerfiles()
        if options.names == ["demo"]:
            from .demo import main as demo

            return demo(options.keep)
        if options.sabotage is not None:
            return run_sabotaged(options)
        return run_many(options)
    except LabError as failure:
        print(f"interop/run: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="interop/run",
        description="Runs scenarios against real peers in containers. Names may be prefixes; none means all. "
        "Two names are special: demo, bench.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the scenarios and what they prove")
    parser.add_argument("--keep", action="store_true", help="leave the lab standing and print how to enter it")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="scenarios at once")
    parser.add_argument("--full", action="store_true", help="with the variants that are left out by default")
    parser.add_argument("--table", metavar="FILE", help="write the results as a Markdown page, and the README's table")
    parser.add_argument("--retry", action="store_true", help="what fails beside others gets one more chance, alone")
    parser.add_argument("--skip-if-impossible", action="store_true",
                        help="a machine that cannot run containers, or cannot get an image, is no failure")  # fmt: skip
    parser.add_argument("--without-vm", action="store_true", help="leave out what needs a kernel of its own, which is emulated and slow")
    parser.add_argument("--sabotage", nargs="?", const="", metavar="FAULT",
                        help=f"break something on purpose and see the right scenarios fail: {', '.join(sabotage.ALL)}; none means all")  # fmt: skip
    parser.add_argument("--clean", action="store_true", help="remove labs that were left standing")
    parser.add_argument("--enter", nargs=2, metavar=("RUN", "NODE"), help="a shell in a node of a lab that was left standing")
    parser.add_argument("--self-test", action="store_true", help="check the laboratory itself, without starting one")
    parser.add_argument("--containerfiles", action="store_true", help="write the images' recipes to interop/images")
    parser.add_argument("--one", metavar="NAME", help="this one alone, and print its steps and figures as they come")
    parser.add_argument("--result", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def choose(options: argparse.Namespace) -> list[Scenario]:
    default, every = load(options.full), load(full=True)
    if not options.names:
        return default
    chosen: list[Scenario] = []
    for name in options.names:
        found = [s for s in every if s.name == name] or [s for s in default if s.name.startswith(name)]
        if not found:
            raise LabError(f"no scenario is called '{name}'; `interop/run --list` names them")
        chosen += [s for s in found if s.name not in {c.name for c in chosen}]
    return chosen


def run_many(options: argparse.Namespace) -> int:
    chosen = choose(options)
    for scenario in chosen if options.without_vm else []:
        if scenario.topology().kernel and not scenario.skip:
            scenario.parameters = {**scenario.parameters, "skip": "left out: needs a kernel of its own (--without-vm)"}
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name:<44} {scenario.summary}" + (f" [skipped: {scenario.skip}]" if scenario.skip else ""))
        return 0
    started = time.monotonic()
    why, without = prepare(chosen)
    unable = {s.name: why or next((without[i] for i in images_of(s) if i in without), "") for s in chosen if not s.skip}
    results = [skipped(scenario, unable[scenario.name]) for scenario in chosen if unable.get(scenario.name)]
    for result in results[: 0 if why else None]:
        report(result)
    can = [scenario for scenario in longest_first(chosen) if not unable.get(scenario.name)]
    with guarded():
        results += Pool(options.jobs, options.keep).run([(scenario, "") for scenario in can], report)
        if options.retry:
            results = second_chance(results, can)
    results.sort(key=lambda result: result["name"])
    counts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in ("passed", "failed", "skipped")}
    if not why:
        remember(results)
        slowest(results)
    if options.table and not why:
        from .table import write

        write(Path(options.table), results, time.monotonic() - started, "make interop" if os.environ.get("MAKELEVEL") else "interop/run")
    if any(unable.values()):
        reasons = " | ".join(sorted(set(filter(None, unable.values()))))
        print(f"interop/run: this machine cannot run {sum(map(bool, unable.values()))} scenarios: {reasons}", file=sys.stderr)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()), flush=True)
    if counts["failed"] or len(results) < len(chosen):
        return 1
    return 1 if (any(unable.values()) or any(r.get("impossible") for r in results)) and not options.skip_if_impossible else 0


def images_of(scenario: Scenario) -> set[str]:
    """What must be there before a scenario starts: images, and a release's kernel for an image (`vm:IMAGE:RELEASE`)."""
    described = scenario.topology()
    wanted = {node.image for node in described.nodes}
    return wanted | ({f"vm:{name}:{vm.release(described.kernel)}" for name in wanted} if described.kernel else set())


def prepare(chosen: list[Scenario]) -> tuple[str, dict[str, str]]:
    """Removes what killed runs left, builds missing images. Why this machine cannot run anything (or an empty string), and
    the images that cannot be had, each with its reason."""
    shutil.rmtree(FAILED, ignore_errors=True)
    try:
        engine = preflight.check()
        leftovers = engine.reap()
        if leftovers:
            print(f"removed what earlier runs left behind: {', '.join(leftovers)}")
        wanted = set().union(*(images_of(scenario) for scenario in chosen if not scenario.skip))
        return "", preflight.images_for(engine, sorted(wanted), lambda text: print(text, flush=True))
    except Impossible as reason:
        return str(reason), {}


def skipped(scenario: Scenario, why: str) -> dict:
    return {"name": scenario.name, "summary": scenario.summary, "seconds": 0.0, "versions": {}, "log": "", "verdict": "skipped", "detail": why}


def second_chance(results: list[dict], scenarios: list[Scenario]) -> list[dict]:
    """What failed beside others, alone. Many failures are no accident and stay."""
    failed = [result["name"] for result in results if result["verdict"] == "failed"]
    if not failed or len(failed) > max(5, len(results) // 10):
        return results
    print(f"once more, alone: {', '.join(failed)}", flush=True)
    for name in failed:
        folder = FAILED / name.replace("/", "_")
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}.first-try"))
    again = Pool(1).run([(scenario, "") for scenario in scenarios if scenario.name in failed], report)
    for result in again:
        result["again"] = True
    passed = [result["name"] for result in again if result["verdict"] == "passed"]
    if passed:
        print(f"passed only at the second try (a defect of the scenario, or worse): {', '.join(passed)}", flush=True)
    return [result for result in results if result["name"] not in failed] + again


def slowest(results: list[dict]) -> None:
    ran = sorted((r for r in results if r["verdict"] != "skipped"), key=lambda r: -r["seconds"])
    if len(ran) > 10:
        print("slowest: " + ", ".join(f"{r['name']} {r['seconds']:.0f} s" for r in ran[:10]))


def run_sabotaged(options: argparse.Namespace) -> int:
    """Faults on purpose: passes when exactly the right scenarios fail, with messages that say what the leaf saw."""
    names = [name for name in (options.sabotage, *options.names) if name]
    unknown = [name for name in names if name not in sabotage.ALL]
    if unknown:
        raise LabError(f"no fault is called '{unknown[0]}'; there are: {', '.join(sabotage.ALL)}")
    faults = [sabotage.ALL[name] for name in names or sabotage.ALL]
    every = {scenario.name: scenario for scenario in load(full=True)}
    tasks = [(every[name], fault.name) for fault in faults for name in (*fault.red, *fault.green)]
    why, without = prepare([scenario for scenario, _ in tasks])
    if why or without:
        print(f"interop/run: this machine cannot run the scenarios: {why or ' | '.join(without.values())}", file=sys.stderr)
        print(f"0 as expected, 0 not, {len(tasks)} skipped")
        return 0 if options.skip_if_impossible else 1
    complaints: dict[tuple[str, str], str] = {}

    def judge(result: dict) -> None:
        fault = sabotage.ALL[result["sabotage"]]
        complaint = complaints[result["name"], fault.name] = fault.judge(result["name"], result)
        colour, word = "green", ("red" if result["name"] in fault.red else "green") + ", as it should be"
        if complaint:
            colour, word = "red", "NOT AS EXPECTED"
        print(f"{paint(colour, word)}: {result['name']} while {fault.what} ({result['seconds']:.1f} s)")
        for line in (complaint or (result["detail"] if result["verdict"] == "failed" else "")).splitlines()[:8]:
            print(f"     {line}")
        sys.stdout.flush()
        if complaint:
            report(result)

    with guarded():
        ran = Pool(options.jobs).run(tasks, judge, lambda name, fault: name in sabotage.ALL[fault].red)
        again = [(scenario, fault) for scenario, fault in tasks if complaints.get((scenario.name, fault))]
        if again and options.retry:
            print(f"once more, alone and without haste: {', '.join(scenario.name for scenario, _ in again)}", flush=True)
            Pool(1).run(again, judge)
    wrong = sum(map(bool, complaints.values()))
    print(f"{len(ran) - wrong} as expected, {wrong} not, 0 skipped")
    return 1 if wrong or len(ran) < len(tasks) else 0


def report(result: dict) -> None:
    colours = {"passed": ("green", "PASS"), "failed": ("red", "FAIL"), "skipped": ("yellow", "SKIP")}
    colour, word = colours[result["verdict"]]
    line = f"{paint(colour, word)} {result['name']:<44} {result['seconds']:6.1f} s"
    print(line + (f"  {result['detail']}" if result["verdict"] == "skipped" else ""), flush=True)
    if result["verdict"] == "failed":
        for text in result["detail"].splitlines()[:20]:
            print(f"     {text}")
        folder = FAILED / result["name"].replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.log").write_text(result["log"])
        print(f"     logs and captures: {os.path.relpath(folder)}", flush=True)
    elif "still standing" in result["log"]:
        print("     " + result["log"][result["log"].index("The lab '") :].replace("\n", "\n     "))


def run_one(name: str, keep: bool, result_file: Path | None, fault: str | None = None) -> int:
    """One scenario, in this process."""
    end_with_parent()
    scenario = next((s for s in load(full=True) if s.name == name), None)
    if scenario is None:
        raise LabError(f"no scenario is called '{name}'")
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.2f}  {text}", flush=True)

    verdict = {"verdict": "passed", "detail": "", "versions": {}}
    label = name.replace("/", "-")[:40]
    broken = sabotage.ALL[fault] if fault else None
    try:
        with guarded(), _lab(scenario.topology(), label, keep=keep, say=say, sabotage=broken) as lab:
            stage = Stage(scenario, lab, say)
            try:
                scenario.module.run(stage)
                stage.finish()
            except (LabError, AssertionError) as failure:
                verdict |= {"verdict": "failed", "detail": str(failure) or "assertion failed"}
            except KeyboardInterrupt:  # the time limit, or a person
                say(f"interrupted\n{lab.seen()}")
                lab.save(FAILED / name.replace("/", "_"))
                raise
            except Exception:  # noqa: BLE001 - a fault of the scenario is a failure with a trace
                verdict |= {"verdict": "failed", "detail": traceback.format_exc()}
            verdict["versions"] = stage.versions
            if verdict["verdict"] == "failed":
                verdict["detail"] += "\n" + lab.seen()
                say(f"FAILED: {verdict['detail']}")
                lab.save(FAILED / name.replace("/", "_"))
            if keep:
                print(lab.how_to_look())
    except Impossible as reason:
        verdict |= {"verdict": "skipped", "detail": " ".join(str(reason).split())[-400:], "impossible": True}
    except LabError as failure:
        verdict |= {"verdict": "failed", "detail": f"the lab could not be brought up: {failure}"}
    if result_file:
        result_file.write_text(json.dumps(verdict))
    return 0 if verdict["verdict"] == "passed" else 1


def _lab(described: Topology, *arguments, **options) -> Lab:
    return (vm.VmLab if described.kernel else Lab)(described, *arguments, **options)


def enter(run_id: str, node: str) -> int:
    """A shell in a node."""
    engine = Engine()
    pid = engine.command("inspect", "--format", "{{.State.Pid}}", f"obl-{run_id}.{node}")
    os.execvp("nsenter", ["nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p", "--", "env", "-i", "-C", "/",
                          "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr", "HOME=/root", f"TERM={os.environ.get('TERM', 'dumb')}",
                          f"PS1={node}# ", "bash", "--norc"])  # fmt: skip


def write_containerfiles() -> int:
    folder = Path(__file__).resolve().parent.parent / "images"
    folder.mkdir(exist_ok=True)
    for recipe in images.RECIPES.values():
        path = folder / f"{recipe.name}.Containerfile"
        path.write_text(recipe.containerfile())
        print(os.path.relpath(path))
    return 0
