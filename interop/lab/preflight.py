"""Whether this machine can run the laboratory at all – asked before anything is built, so that the answer is one sentence.

What is found wanting here is a fact about the machine (no namespaces, no engine, no packages to be had), not about what is
tested: `interop/run` counts every scenario as skipped with that reason, and fails unless told `--skip-if-impossible`.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil

from . import images, vm
from .engine import Engine, claim, release
from .shell import Impossible, LabError, run

TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "tshark": "tshark"}


def check() -> Engine:
    """The engine, after everything was tried that a scenario needs but an image."""
    if os.geteuid() != 0:
        raise Impossible("not root: the lab creates network namespaces")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise Impossible(f"{tool} is not installed (`make deps` installs {package})")
    _try("no network namespaces", ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"])
    _try("no veth pairs", ["unshare", "--net", "ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1"])
    _try("no bridges", ["unshare", "--net", "ip", "link", "add", "lab0", "type", "bridge"])
    try:
        engine = Engine()
        engine.command("info")
    except LabError as failure:
        raise Impossible(_first(f"the container engine does not answer: {failure}")) from failure
    return engine


def images_for(engine: Engine, wanted: list[str], say=lambda text: None) -> dict[str, str]:
    """Builds what is missing. The images (and kernels, `vm:IMAGE:RELEASE`) that cannot be had, each with its reason."""
    missing: dict[str, str] = {}

    def get(name: str) -> None:
        try:
            if not name.startswith("vm:"):
                images.ensure(engine, name, say)
            elif (image := name.split(":")[1]) not in missing:
                vm.prepare(engine, image, name.split(":")[2], say)
            else:
                missing[name] = missing[image]
        except (LabError, OSError) as reason:
            missing[name] = _first(str(reason))

    # Two at once: one fetches while the other unpacks. A kernel's root file system is made from an image, so afterwards.
    for group in ([n for n in wanted if n in images.RECIPES], [n for n in wanted if n not in images.RECIPES]):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(get, group))
    have = [name for name in wanted if name not in missing and name in images.RECIPES]
    if have:
        _container(engine, images.RECIPES[have[0]].reference)
    return missing


def _container(engine: Engine, reference: str) -> None:
    """One container starts, and a command enters it."""
    name = f"obl-preflight-{os.getpid()}"
    share = claim(name)
    try:
        pid = engine.start(name, reference, name, share)
        run(["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "--", "true"])
    except LabError as failure:
        raise Impossible(_first(f"{engine.name} cannot start a container: {failure}")) from failure
    finally:
        engine.remove([name])
        release(share)


def _try(what: str, command: list[str]) -> None:
    try:
        run(command)
    except LabError as failure:
        raise Impossible(_first(f"{what}: {failure}")) from failure


def _first(text: str) -> str:
    """In one line, as reasons are printed."""
    return " ".join(text.split())[:600]
