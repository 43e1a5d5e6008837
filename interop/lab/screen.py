"""What a person reads: titles, commands with their output, checks, and the table at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from .shell import LabError

COLOURS = {"green": "32", "red": "31", "yellow": "33", "blue": "1;34", "dim": "2", "bold": "1"}


def paint(colour: str, text: str) -> str:
    """Colours only for a terminal, and only if nobody asked for none."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


@dataclass
class Outcome:
    """One checked statement."""

    statement: str
    passed: bool
    detail: str
    seconds: float


class Screen:
    """Prints steps as they happen and remembers what was checked."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._step = 0
        self.started = time.monotonic()

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def note(self, text: str) -> None:
        self.say(paint("dim", f"  {text}"))

    def step(self, title: str, why: str = "") -> None:
        self._step += 1
        self.say()
        self.say(paint("blue", f"━━ {self._step}. {title}"))
        if why:
            self.say(f"   {why}")

    def show(self, where: str, command: str, output: str, most: int = 14) -> None:
        """A command as one would type it, and the first lines of what it answered."""
        self.say()
        self.say(f"  {paint('bold', where)}# {command}")
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        for line in lines[:most]:
            self.say(f"    {line}")
        if len(lines) > most:
            self.note(f"  … {len(lines) - most} more lines")
        if not lines:
            self.note("  (nothing)")

    def check(self, statement: str, condition: Callable[[], object]) -> bool:
        """Checks a statement: an exception or a false value makes it red; the run goes on."""
        started = time.monotonic()
        detail = ""
        try:
            passed = bool(condition())
        except LabError as failure:
            passed, detail = False, str(failure)
        except AssertionError as failure:
            passed, detail = False, str(failure) or "assertion failed"
        seconds = time.monotonic() - started
        self.outcomes.append(Outcome(statement, passed, detail, seconds))
        mark = paint("green", "✔") if passed else paint("red", "✘")
        self.say(f"  {mark} {statement} {paint('dim', f'({seconds:.2f} s)')}")
        for line in detail.splitlines()[:12]:
            self.say(paint("red", f"      {line}"))
        return passed

    def summary(self) -> bool:
        """The table at the end; true when everything is green."""
        failed = [outcome for outcome in self.outcomes if not outcome.passed]
        self.say()
        self.say(paint("blue", "━━ Summary"))
        for outcome in self.outcomes:
            word = paint("green", "ok  ") if outcome.passed else paint("red", "FAIL")
            self.say(f"  {word} {outcome.statement}")
        good = len(self.outcomes) - len(failed)
        text = f"{good} of {len(self.outcomes)} statements hold; {time.monotonic() - self.started:.0f} s"
        self.say("  " + paint("red" if failed or not self.outcomes else "green", text))
        return bool(self.outcomes) and not failed
