"""Root file systems from Debian's packages alone.

`mmdebstrap` makes a tar of a release with a list of packages, the engine imports it. The image's tag is the hash of its
recipe, so a changed recipe is a new image and an unchanged one is found in the cache. The same recipes stand as
Containerfiles in interop/images/ for people who have a registry (`interop/run --containerfiles` writes them).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .engine import CACHE, Engine
from .shell import Impossible, LabError, run

TOOLS = ("iproute2", "iputils-ping", "tcpdump", "procps", "ethtool")


@dataclass(frozen=True)
class Recipe:
    """One image: a Debian release and packages."""

    name: str
    suite: str
    packages: tuple[str, ...]
    # For apt. A suite in development is signed for a week or so; a mirror that is not that fresh will do for a laboratory.
    apt: tuple[str, ...] = ()

    @property
    def all_packages(self) -> tuple[str, ...]:
        return (*self.packages, *TOOLS)

    @property
    def tag(self) -> str:
        words = " ".join((self.suite, *self.all_packages, "v1"))
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def reference(self) -> str:
        return f"localhost/ovn-bgpd-lab/{self.name}:{self.tag}"

    def mmdebstrap(self, tar: Path, mirror: str) -> list[str]:
        """The command that makes the root file system."""
        return [
            "mmdebstrap", "--quiet", "--variant=minbase",
            '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Retries "5"',
            *(f"--aptopt={option}" for option in self.apt),
            *(f"--dpkgopt=path-exclude={path}" for path in LEAN),
            f"--include={','.join(self.all_packages)}",
            self.suite, str(tar), mirror,
        ]  # fmt: skip

    def containerfile(self) -> str:
        return (
            f"# {self.name}: written by `interop/run --containerfiles` from interop/lab/images.py\n"
            f"FROM docker.io/library/debian:{self.suite}-slim\n"
            "RUN printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \\\n"
            " && apt-get update \\\n"
            " && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\\n"
            f"      {' '.join(self.all_packages)} \\\n"
            " && rm -rf /var/lib/apt/lists/*\n"
        )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # OVS 3.5, OVN 25.03, FRR 10.3, BIRD 2.17: what the demo and most scenarios need.
        Recipe("cloud", "trixie", ("openvswitch-switch", "ovn-central", "ovn-host", "frr", "bird2")),
        # BIRD 3.1, GoBGP 3.36, OpenBGPD 8.8, ExaBGP 4.2.
        Recipe("peers", "trixie", ("bird3", "gobgpd", "openbgpd", "exabgp")),
        # FRR 8.4, BIRD 2.0.12, OVS 3.1, OVN 23.03.
        Recipe("oldstable", "bookworm", ("openvswitch-switch", "ovn-central", "ovn-host", "frr", "bird2")),
        # FRR 10.4 or newer: what that of Debian 13 does not know yet, capability 77.
        Recipe("next", "forky", ("frr",), apt=('Acquire::Check-Valid-Until "false"',)),
    )
}

# Only what is never needed at run time.
LEAN = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def ensure(engine: Engine, name: str, say=lambda text: None) -> str:
    """The reference of the image called `name`, built first if the cache does not have it."""
    recipe = RECIPES[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once build an image once
        if engine.has_image(recipe.reference):
            return recipe.reference
        say(f"building image {name} ({recipe.suite}: {' '.join(recipe.packages)}) …")
        try:
            _build(engine, recipe)
        except LabError as failure:
            say(f"building image {name} failed, once more: {str(failure)[-600:]}")
            try:
                _build(engine, recipe)
            except LabError as again:
                raise Impossible(f"image {name} ({recipe.suite}) could not be built, twice: {str(again)[-600:]}") from again
        return recipe.reference


def _build(engine: Engine, recipe: Recipe) -> None:
    """Under the image's lock: nobody else is building it, so what is half done was left by a killed run."""
    # In /tmp, not in the cache: apt's own user has to reach it.
    scratch = Path(tempfile.gettempdir()) / f"ovn-bgpd-lab-{hashlib.sha256(str(CACHE).encode()).hexdigest()[:8]}-{recipe.name}"
    run(["rm", "-rf", "--one-file-system", str(scratch)], timeout=120.0)
    for old in CACHE.glob(f"{recipe.name}-*.tar"):
        old.unlink()
    free = shutil.disk_usage(CACHE).free
    if free < 2 << 30:
        raise LabError(f"{CACHE} has {free >> 20} MiB left; an image needs 2048 MiB while it is built")
    scratch.mkdir(mode=0o755)
    tar = CACHE / f"{recipe.name}-{recipe.tag}.tar"
    try:
        _bootstrap(recipe, tar, scratch)
        engine.import_image(tar, recipe.reference)
    finally:
        tar.unlink(missing_ok=True)
        run(["rm", "-rf", "--one-file-system", str(scratch)], timeout=120.0)


def mirror() -> str:
    """The mirror that was named, else that of this machine's own packages."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    apt = Path("/etc/apt")
    for file in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        text = file.read_text() if file.is_file() else ""
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        found = re.search(r"\bhttps?://\S+/debian/?(?=\s|$)", "\n".join(lines))
        if found:
            return found.group()
    raise LabError("no Debian mirror in /etc/apt/sources.list(.d): set DEBIAN_MIRROR")


def _bootstrap(recipe: Recipe, tar: Path, scratch: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed (`make deps` installs it)")
    run(recipe.mmdebstrap(tar, mirror()), timeout=1200.0, env={**os.environ, "TMPDIR": str(scratch)})
