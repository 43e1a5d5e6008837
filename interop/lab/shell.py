"""Running commands and waiting: everything that can hang has a time limit, everything that fails says what it said."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any


class LabError(Exception):
    """Something in the laboratory did not do what it was asked to; the text says who and what it answered."""


class Impossible(LabError):
    """This machine cannot run containers, or not this image: the text says precisely why. No fault of what is tested."""


def patience() -> float:
    """By how much to stretch a time limit: a machine with more runnable processes than processors is late for everything.

    1 on an idle machine, at most 4. Limits only say when to give up waiting for a condition, so stretching them costs
    nothing where all is well. LAB_HASTE shortens them all, for runs in which most are expected to run out."""
    try:
        return min(4.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))) * float(os.environ.get("LAB_HASTE", 1))
    except (OSError, ValueError):
        return 1.0


def run(
    command: list[str],
    *,
    check: bool = True,
    timeout: float = 60.0,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `command` in a session of its own, so that ctrl-C reaches us and not half of the children."""
    try:
        done = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout * max(1.0, patience()),
            env=env,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"no answer within {timeout:g} s: {shlex.join(command)}") from late
    except FileNotFoundError as missing:
        raise LabError(f"{command[0]} is not installed (`make deps` installs what the lab needs)") from missing
    if check and done.returncode != 0:
        said = "\n".join(part for part in (done.stdout.strip(), done.stderr.strip()) if part)
        raise LabError(f"exit {done.returncode}: {shlex.join(command)}\n{said}")
    return done


def wait_for(what: str, condition: Callable[[], Any], timeout: float = 20.0, interval: float = 0.05) -> Any:
    """Polls until `condition` answers something true and returns it; a `LabError` raised by it counts as "not yet".

    `timeout` is for an idle machine (see `patience`); a scenario that asserts how long something takes measures it."""
    started = time.monotonic()
    last = ""
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = ""
        except LabError as not_yet:
            last = str(not_yet)
        waited = time.monotonic() - started
        if waited >= timeout * patience():
            raise LabError(f"{what}: not within {waited:.0f} s" + (f"; last answer: {last}" if last else ""))
        time.sleep(interval)
