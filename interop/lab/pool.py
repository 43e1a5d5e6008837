"""Scenarios in child processes, several at a time, each with a time limit."""

from __future__ import annotations

import concurrent.futures
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .engine import CACHE, claim, owner_tag, release
from .scenario import Scenario
from .shell import patience

DURATIONS = CACHE / "durations.json"
GRACE = 30.0  # seconds beyond a scenario's own limit, for the lab to come up and to be taken down


def longest_first(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """By what the last run took, so that no long one starts last; what was never run counts as half its limit."""
    try:
        known = json.loads(DURATIONS.read_text())
    except (OSError, ValueError):
        known = {}
    return sorted(scenarios, key=lambda s: -known.get(s.name, s.time_limit / 2))


def remember(results: list[dict]) -> None:
    """For the next run's order."""
    try:
        known = json.loads(DURATIONS.read_text())
    except (OSError, ValueError):
        known = {}
    known |= {result["name"]: round(result["seconds"], 1) for result in results if result["verdict"] == "passed"}
    part = DURATIONS.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(known, indent=0, sort_keys=True))
    part.rename(DURATIONS)


class Pool:
    """Runs scenarios, `jobs` at a time; ctrl-C lets each child clean up before it ends."""

    def __init__(self, jobs: int, keep: bool = False) -> None:
        self.jobs = max(1, jobs)
        self.keep = keep
        self._children: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, tasks: list[tuple[Scenario, str]], report: Callable[[dict], None], hasty: Callable = lambda *_: False) -> list[dict]:
        """Every scenario with its sabotage (mostly none); `report` is called as they end. Where `hasty` says so of a
        scenario and its sabotage, limits are expected to run out, and are shorter."""
        results: list[dict] = []
        answers = claim(f"results-{owner_tag()}")
        # Virtual machines want both processors and gigabytes: one at a time, beside the others.
        heavy = [scenario.topology().kernel for scenario, _ in tasks]
        lanes = (self.jobs - 1, 1) if any(heavy) and self.jobs > 1 else (self.jobs, 1)
        with concurrent.futures.ThreadPoolExecutor(lanes[0]) as light, concurrent.futures.ThreadPoolExecutor(lanes[1]) as machines:
            waiting = [
                (machines if heavy[number] and self.jobs > 1 else light).submit(
                    self._child, scenario, fault, answers / f"{number}.json", hasty(scenario.name, fault)
                )
                for number, (scenario, fault) in enumerate(tasks)
            ]
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
            finally:
                if not self._stopping:
                    release(answers)
        return sorted(results, key=lambda result: result["name"])

    def _child(self, scenario: Scenario, fault: str, answer: Path, hasty: bool) -> dict | None:
        result = {"name": scenario.name, "sabotage": fault, "summary": scenario.summary, "seconds": 0.0, "versions": {}, "log": ""}
        if scenario.skip:
            return result | {"verdict": "skipped", "detail": scenario.skip}
        if self._stopping:
            return None
        command = [sys.executable, str(Path(__file__).resolve().parent.parent / "run"), "--one", scenario.name, "--result", str(answer)]
        environment = {**os.environ, **({"LAB_HASTE": "0.6"} if hasty else {})}
        started = time.monotonic()
        child = subprocess.Popen(
            command + (["--keep"] if self.keep else []) + (["--sabotage", fault] if fault else []),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, env=environment | {"LAB_PARENT": str(os.getpid())},
        )  # fmt: skip
        with self._lock:
            self._children.add(child)
        try:
            output, late = self._wait(child, scenario.time_limit + GRACE)
        finally:
            with self._lock:
                self._children.discard(child)
        result |= {"verdict": "failed", "detail": f"the scenario's process ended with {child.returncode}"}
        if answer.exists():
            result |= json.loads(answer.read_text())
        if late:
            result |= {"verdict": "failed", "detail": late + "; the last it said: " + (output.strip().splitlines() or ["nothing"])[-1]}
        return result | {"log": output, "seconds": time.monotonic() - started}

    @staticmethod
    def _wait(child: subprocess.Popen, limit: float) -> tuple[str, str]:
        """What the child printed, and what there is to say if it was late. A lab that does not even clean up is killed;
        its containers are removed by whoever starts next."""
        started = time.monotonic()
        for more in (lambda: limit, lambda: limit * (patience() - 1) + 0.1):
            try:
                return child.communicate(timeout=more())[0], ""
            except subprocess.TimeoutExpired:
                continue
        late = f"not finished within {time.monotonic() - started:.0f} s"
        for number, seconds in ((signal.SIGTERM, 60), (signal.SIGKILL, 10)):
            try:
                os.killpg(child.pid, number) if number == signal.SIGKILL else child.send_signal(number)
                return child.communicate(timeout=seconds)[0], late
            except (subprocess.TimeoutExpired, ProcessLookupError):
                continue
        return "", late


def end_with_parent() -> None:
    """In a child: a runner that is killed takes its scenarios with it, and each still cleans up."""
    parent = os.environ.get("LAB_PARENT")
    if parent:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGTERM)
