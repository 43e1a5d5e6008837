"""Podman or docker. Only commands and options that both have; what differs stands in a configuration of our own.

Containers carry two labels: the run they belong to, and who started it (process id and its start time). A run that was
killed leaves containers behind whose owner is gone; the next start removes them. Nothing else on the machine is touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from .shell import LabError, run

# Resolved: several checkouts may share one cache by a symbolic link, and then one store must have one name.
CACHE = (Path(__file__).resolve().parent.parent / ".cache").resolve()
RUNS = Path(__file__).resolve().parent.parent / ".runs"
LABEL_RUN = "ovn-bgpd.lab.run"
LABEL_OWNER = "ovn-bgpd.lab.owner"
LABEL_RUNS = "ovn-bgpd.lab.runs"  # the checkout's directory of runs: checkouts may share a store, but not their runs

# The options used, by command: what both engines have. A test compares it with what the installed ones say they know.
USED = {
    "run": ("--detach", "--name", "--hostname", "--label", "--privileged", "--network", "--tmpfs", "--volume"),
    "ps": ("--all", "--filter", "--format"),
    "inspect": ("--format",),
    "images": ("-q",),
    "rm": ("--force",),
    "create": (),
    "export": ("--output",),
    "import": (),
    "info": (),
}

# PID 1 of every node: reaps whatever is orphaned and leaves at once when told to.
PID1 = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"


def owner_tag(pid: int | None = None) -> str:
    """`pid-starttime` of a process: unlike the bare id it is not reused."""
    pid = pid or os.getpid()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{pid}-gone"
    fields = stat.rsplit(")", 1)[1].split()
    return f"{pid}-{'gone' if fields[0] in 'ZX' else fields[19]}"


def owner_alive(tag: str) -> bool:
    pid = tag.split("-", 1)[0]
    return pid.isdigit() and owner_tag(int(pid)) == tag


def replace(path: Path, text: str) -> None:
    """Writes a file in one piece: another run may be reading it."""
    if not path.exists() or path.read_text() != text:
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.rename(path)


class Engine:
    """The container engine named by CONTAINER_ENGINE, else podman if it is there, else docker."""

    def __init__(self) -> None:
        self.name = os.environ.get("CONTAINER_ENGINE") or ("podman" if shutil.which("podman") else "docker")
        if shutil.which(self.name) is None:
            raise LabError(f"container engine '{self.name}' is not installed (`make deps` installs podman)")
        if os.geteuid() != 0:
            raise LabError("the lab creates network namespaces and needs root: run it as root")
        self._env = dict(os.environ)
        if self.name == "podman" and "CONTAINERS_CONF" not in os.environ:
            self._configure_podman()

    def _configure_podman(self) -> None:
        """A store of our own below interop/.cache, and settings that also work where limits may not be raised and
        cgroups are of the first version."""
        home = CACHE / "podman"
        home.mkdir(parents=True, exist_ok=True)
        volatile = f"/run/ovn-bgpd-lab-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"
        replace(
            home / "containers.conf",
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=4000:4000"]\n'
            "[engine]\n"
            'runtime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\n'
            f'tmp_dir = "{volatile}/tmp"\n',
        )
        replace(
            home / "storage.conf",
            f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/store"\nrunroot = "{volatile}/run"\n',
        )
        self._env["CONTAINERS_CONF"] = str(home / "containers.conf")
        self._env["CONTAINERS_STORAGE_CONF"] = str(home / "storage.conf")

    def command(self, *words: str, check: bool = True, timeout: float = 120.0) -> str:
        return run([self.name, *words], check=check, timeout=timeout, env=self._env).stdout.strip()

    def has_image(self, reference: str) -> bool:
        return bool(self.command("images", "-q", reference))

    def import_image(self, tar: Path, reference: str) -> None:
        self.command("import", str(tar), reference, timeout=600.0)

    def start(self, name: str, image: str, run_id: str, share: Path) -> int:
        """Starts an idle, privileged container without network and returns the process id of its init."""
        try:
            return self._start(name, image, run_id, share)
        except LabError:
            # Engines under load do fail now and then (a time limit, a lock); nothing has happened in the container yet.
            self.remove([name])
            return self._start(name, image, run_id, share)

    def _start(self, name: str, image: str, run_id: str, share: Path) -> int:
        self.command(
            "run", "--detach", "--name", name, "--hostname", name.rsplit(".", 1)[-1],
            "--label", f"{LABEL_RUN}={run_id}", "--label", f"{LABEL_OWNER}={owner_tag()}", "--label", f"{LABEL_RUNS}={RUNS}",
            "--privileged", "--network", "none", "--tmpfs", "/run:rw,mode=755",
            "--volume", f"{share}:/lab", image, "/bin/sh", "-c", PID1,
        )  # fmt: skip
        return int(self.command("inspect", "--format", "{{.State.Pid}}", name))

    def containers(self) -> list[tuple[str, str, str]]:
        """Every container of this checkout's labs, and of checkouts that are gone: name, run, owner."""
        look = 'index .Labels "%s"' if self.name == "podman" else '.Label "%s"'
        pattern = "\t".join(["{{.Names}}", *("{{%s}}" % (look % label) for label in (LABEL_RUN, LABEL_OWNER, LABEL_RUNS))])
        listed = self.command("ps", "--all", "--filter", f"label={LABEL_RUN}", "--format", pattern)
        found = []
        for line in listed.splitlines():
            name, run_id, owner, runs = (line.split("\t") + ["", "", ""])[:4]
            if runs == str(RUNS) or not Path(runs).exists():
                found.append((name, run_id, owner))
        return found

    def remove(self, names: list[str]) -> None:
        if names:
            self.command("rm", "--force", *(["--time", "0"] if self.name == "podman" else []), *names, check=False)

    def remove_run(self, run_id: str) -> None:
        self.remove([name for name, run_of, _ in self.containers() if run_of == run_id])

    def reap(self, kept_too: bool = False) -> list[str]:
        """Removes what runs left behind whose owner is gone: containers, then directories that have none.
        Runs left standing on purpose stay, unless `kept_too`."""
        gone = []
        for name, run_id, owner in self.containers():
            kept = (RUNS / run_id / "kept").exists()
            if (kept and kept_too) or (not kept and not owner_alive(owner)):
                gone.append((name, run_id))
        self.remove([name for name, _ in gone])
        left = {run_id for _, run_id in gone}
        for path in RUNS.glob("*"):
            if path.suffix == OWNER or (path / "kept").exists() and not kept_too:
                continue
            if path.name in left or not owner_alive(_owner_file(path).read_text() if _owner_file(path).exists() else ""):
                release(path)
        return sorted(left)


OWNER = ".owner"


def _owner_file(path: Path) -> Path:
    return path.with_name(path.name + OWNER)


def claim(name: str) -> Path:
    """A directory of ours below interop/.runs. Who owns it is written first: nobody sees it without."""
    path = RUNS / name
    RUNS.mkdir(exist_ok=True)
    _owner_file(path).write_text(owner_tag())
    path.mkdir(exist_ok=True)
    return path


def release(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    _owner_file(path).unlink(missing_ok=True)
