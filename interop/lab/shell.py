"""Running commands and waiting: everything that can hang has a time limit, everything that fails says what it said."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any


class LabError(Exception):
    """Something in the laboratory did not do what it was asked to; the text says who and what it answered."""


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
            timeout=timeout,
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
    """Polls until `condition` answers something true and returns it; a `LabError` raised by it counts as "not yet"."""
    deadline = time.monotonic() + timeout
    last = ""
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = ""
        except LabError as not_yet:
            last = str(not_yet)
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {timeout:g} s" + (f"; last answer: {last}" if last else ""))
        time.sleep(interval)
