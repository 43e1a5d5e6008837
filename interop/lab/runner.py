"""interop/run: runs scenarios, each in a process of its own, and says how they ended."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from . import images
from .engine import RUNS, Engine
from .laboratory import Lab, guarded
from .scenario import Scenario, Stage, load
from .screen import paint
from .shell import LabError
from .topology import Topology
from .vm import VmLab

FAILED = Path(__file__).resolve().parent.parent / ".failed"
ROOT = Path(__file__).resolve().parent.parent.parent


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["bench"]:
        from .figures import main as bench

        return bench(arguments[1:])
    options = parse(arguments)
    try:
        if options.one:
            return run_one(options.one, options.keep, Path(options.result) if options.result else None)
        if options.clean:
            gone = Engine().reap(kept_too=True)
            print("removed: " + (", ".join(gone) or "nothing was left"))
            return 0
        if options.enter:
            return enter(*options.enter)
        if options.containerfiles:
            return write_containerfiles()
        if options.names == ["demo"]:
            from .demo import main as demo

            return demo(options.keep)
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
    parser.add_argument("--table", metavar="FILE", help="write the results as a Markdown page")
    parser.add_argument("--clean", action="store_true", help="remove labs that were left standing")
    parser.add_argument("--enter", nargs=2, metavar=("RUN", "NODE"), help="a shell in a node of a lab that was left standing")
    parser.add_argument("--containerfiles", action="store_true", help="write the images' recipes to interop/images")
    parser.add_argument("--one", help=argparse.SUPPRESS)
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
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name:<44} {scenario.summary}" + (f" [skipped: {scenario.skip}]" if scenario.skip else ""))
        return 0
    shutil.rmtree(FAILED, ignore_errors=True)
    engine = Engine()
    leftovers = engine.reap()
    if leftovers:
        print(f"removed what earlier runs left behind: {', '.join(leftovers)}")
    wanted = {node.image for scenario in chosen if not scenario.skip for node in scenario.topology().nodes}
    for image in sorted(wanted):
        images.ensure(engine, image, print)
    started = time.monotonic()
    with guarded():
        results = Pool(options.jobs, options.keep).run(chosen)
    counts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in ("passed", "failed", "skipped")}
    if options.table:
        from .table import write

        write(Path(options.table), results, time.monotonic() - started)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()), flush=True)
    return 1 if counts["failed"] or len(results) < len(chosen) else 0


class Pool:
    """Runs scenarios in child processes, `jobs` at a time; ctrl-C lets each child clean up before it ends."""

    def __init__(self, jobs: int, keep: bool) -> None:
        self.jobs = max(1, jobs)
        self.keep = keep
        self._children: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, scenarios: list[Scenario]) -> list[dict]:
        results: list[dict] = []
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            waiting = [pool.submit(self._child, scenario) for scenario in scenarios]
            try:
                for future in concurrent.futures.as_completed(waiting):
                    result = future.result()
                    if result:
                        results.append(result)
                        report(result)
            except KeyboardInterrupt:
                self._stopping = True
                with self._lock:
                    for child in self._children:
                        child.send_signal(signal.SIGTERM)
                for future in waiting:
                    future.cancel()
                raise
        return sorted(results, key=lambda result: result["name"])

    def _child(self, scenario: Scenario) -> dict | None:
        result = {"name": scenario.name, "summary": scenario.summary, "seconds": 0.0, "versions": {}, "log": ""}
        if scenario.skip:
            return result | {"verdict": "skipped", "detail": scenario.skip}
        if self._stopping:
            return None
        RUNS.mkdir(exist_ok=True)
        answer = RUNS / f"result-{os.getpid()}-{scenario.name.replace('/', '_')}.json"
        command = [sys.executable, str(Path(__file__).resolve().parent.parent / "run"), "--one", scenario.name, "--result", str(answer)]
        started = time.monotonic()
        child = subprocess.Popen(
            command + (["--keep"] if self.keep else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        with self._lock:
            self._children.add(child)
        try:
            output, _ = child.communicate(timeout=scenario.time_limit + 30)
            late = ""
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate(timeout=60)
            late = f"not finished within {scenario.time_limit + 30:g} s"
        finally:
            with self._lock:
                self._children.discard(child)
        result |= {"verdict": "failed", "detail": late or f"the scenario's process ended with {child.returncode}"}
        if answer.exists():
            result |= json.loads(answer.read_text())
            answer.unlink()
        return result | {"log": output, "seconds": time.monotonic() - started}


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


def run_one(name: str, keep: bool, result_file: Path | None) -> int:
    """One scenario, in this process."""
    scenario = next((s for s in load(full=True) if s.name == name), None)
    if scenario is None:
        raise LabError(f"no scenario is called '{name}'")
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.2f}  {text}", flush=True)

    verdict = {"verdict": "passed", "detail": "", "versions": {}}
    label = name.replace("/", "-")[:40]
    try:
        with guarded(), _lab(scenario.topology(), label, keep=keep, say=say) as lab:
            stage = Stage(scenario, lab, say)
            try:
                scenario.module.run(stage)
                stage.finish()
            except (LabError, AssertionError) as failure:
                verdict |= {"verdict": "failed", "detail": str(failure) or "assertion failed"}
            except Exception:  # noqa: BLE001 - a fault of the scenario is a failure with a trace
                verdict |= {"verdict": "failed", "detail": traceback.format_exc()}
            verdict["versions"] = stage.versions
            if verdict["verdict"] == "failed":
                say(f"FAILED: {verdict['detail']}")
                lab.save(FAILED / name.replace("/", "_"))
            if keep:
                print(lab.how_to_look())
    except LabError as failure:
        verdict |= {"verdict": "failed", "detail": f"the lab could not be brought up: {failure}"}
    if result_file:
        result_file.write_text(json.dumps(verdict))
    return 0 if verdict["verdict"] == "passed" else 1


def _lab(described: Topology, *arguments, **options) -> Lab:
    return (VmLab if described.kernel else Lab)(described, *arguments, **options)


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
