"""A laboratory on a kernel of its own: Debian's kernel under qemu, for what this machine's kernel lacks (8021q, vrf, dummy, the
kernel datapath of OVS).

    TOPOLOGY = topology.first_light(kernel=True)      # in a scenario: the same nodes, but inside one virtual machine
    Topology(…, kernel="trixie-backports")            # with the kernel of another release (see `STABLE`)

Nothing is emulated but the processor (`-accel tcg`: no nested virtualisation is needed). The root file system is the image that
containers use, unpacked into memory by the kernel (an initramfs); a node is a set of namespaces in there. An agent at the second
serial port runs commands and answers with their output. The first serial port is the boot log, kept when a scenario fails.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import re
import shlex
import shutil
import socket
import stat
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any, BinaryIO

from . import images
from .engine import CACHE, Engine
from .laboratory import Lab, Node, uninterrupted
from .shell import Impossible, LabError, patience, run, wait_for

QEMU = "qemu-system-x86_64"
PACKAGE = "linux-image-cloud-amd64"
# What PACKAGE stands for: one package until Linux 7.2, since then one for each part of it.
PARTS = re.compile(r"linux-(?:image|binary|modules|base)-\d\S*-cloud-amd64")
# The release whose kernel `kernel=True` means.
STABLE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MODULES = (
    "8021q", "bridge", "cmac", "dummy", "geneve", "nf_conntrack_netlink", "openvswitch", "sch_netem", "tun", "veth", "vport-geneve", "vrf",
)  # fmt: skip
INIT = Path(__file__).resolve().parent.parent / "vm" / "init"
BOOT_LOG = "boot.log"
# As long as this no answer may come: two processors shared with others, and emulated ones on top of them.
BOOTING = 120.0
MEMORY = 2560  # MiB


def why_not() -> str:
    """Why there can be no such laboratory on this machine; empty if there can."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is not installed (Debian: apt-get install --no-install-recommends qemu-system-x86)"
    if shutil.which("apt-get") is None:
        return "Debian's kernel package is fetched with apt-get, which is not there"
    return ""


def release(kernel: bool | str) -> str:
    """The Debian release a topology's `kernel` is from."""
    return kernel if isinstance(kernel, str) else STABLE


def prepare(engine: Engine, image: str, suite: str, say) -> None:
    """Everything but the machine itself; `Impossible` if it cannot be had here."""
    why = why_not()
    free = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
    if free and int(free.group(1)) < MEMORY * 1024 * 1.3:
        why = f"{int(free.group(1)) >> 10} MiB of memory are available, a virtual machine needs {MEMORY}"
    if why:
        raise Impossible(why)
    try:
        _root(engine, image, suite, say)
    except Impossible:
        raise
    except (LabError, OSError) as failure:
        raise Impossible(f"no root file system for a virtual machine: {' '.join(str(failure).split())[:400]}") from failure


# Kernel and root file system ------------------------------------------------------------------------------------------


class Apt:
    """apt with one release and nothing else: neither this machine's sources nor what is installed here."""

    def __init__(self, home: Path, suite: str) -> None:
        for folder in ("lists/partial", "archives/partial"):
            (home / folder).mkdir(parents=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (home / "sources.list").write_text(f"deb {signed}{images.mirror()} {suite} main\n")
        options = {
            "APT::Architecture": "amd64", "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": "5",
            "Dir::Etc::SourceList": home / "sources.list", "Dir::Etc::SourceParts": "/dev/null", "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": home / "lists", "Dir::State::Status": "/dev/null", "Dir::Cache": home, "Dir::Cache::Archives": home / "archives",
        }  # fmt: skip
        self._home = home
        self._options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        run(["apt-get", "-q", *self._options, "update"], timeout=300.0)

    def parts(self, package: str, wanted: re.Pattern[str]) -> set[str]:
        """What a package needs, and that in turn, as far as it has one of the names wanted."""
        found: set[str] = set()
        queue = {package}
        while queue:
            said = run(["apt-cache", *self._options, "depends", "--important", queue.pop()]).stdout
            new = {name for name in re.findall(r"Depends: (\S+)", said) if wanted.fullmatch(name)} - found
            found |= new
            queue |= new
        return found

    def unpack(self, packages: set[str], target: Path) -> None:
        folder = shlex.quote(str(self._home / "archives"))
        run(["sh", "-c", f"cd {folder} && apt-get -q {shlex.join(self._options)} download {shlex.join(sorted(packages))}"], timeout=600.0)
        for archive in (self._home / "archives").glob("*.deb"):
            run(["dpkg-deb", "-x", str(archive), str(target)])


def _fetch_kernel(suite: str, say) -> Path:
    """A release's newest kernel for virtual machines with the modules we need, from the images' archive, unpacked once."""
    home = CACHE / f"kernel-{suite}"
    if (home / "vmlinuz").exists():
        return home
    part = CACHE / f"kernel-{suite}.part"
    shutil.rmtree(part, ignore_errors=True)
    apt = Apt(part / "apt", suite)
    packages = apt.parts(PACKAGE, PARTS)
    if not packages:
        raise LabError(f"{suite} has no package {PACKAGE}")
    say(f"fetching {', '.join(sorted(packages))} from {suite} …")
    apt.unpack(packages, part)
    shutil.rmtree(part / "apt")
    modules = next(path for path in (part / "usr/lib/modules", part / "lib/modules") if path.exists())
    (version,) = (path.name for path in modules.iterdir())
    image = next(path for path in (part / "boot" / f"vmlinuz-{version}", modules / version / "vmlinuz") if path.exists())
    image.rename(part / "vmlinuz")
    (part / "version").write_text(version)
    if modules.parent != part / "lib":
        modules.parent.rename(part / "lib")
    run(["depmod", "-b", str(part), version])
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)
    return home


def _module_files(home: Path, version: str) -> list[Path]:
    """The modules with what they depend on, and the lists modprobe reads."""
    base = home / "lib/modules" / version
    needs: dict[str, list[str]] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
    by_name = {Path(file).name.split(".")[0].replace("-", "_"): file for file in needs}
    wanted, queue = set(), [by_name[name.replace("-", "_")] for name in MODULES if name.replace("-", "_") in by_name]
    while queue:
        file = queue.pop()
        if file not in wanted:
            wanted.add(file)
            queue += needs[file]
    lists = [path for path in base.iterdir() if path.is_file() and path.name.startswith("modules.")]
    return [base / file for file in sorted(wanted)] + lists


class Archive:
    """Writes the "newc" cpio format, which the kernel unpacks into its first root file system."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", owner: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.strip("/").encode() + b"\0"
        fields = (self._inode, mode, *owner, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self._out.write(b"070701" + "".join(f"{field:08x}" for field in fields).encode() + path)
        self._pad(110 + len(path))
        self._out.write(data)
        self._pad(len(data))

    def _pad(self, length: int) -> None:
        self._out.write(b"\0" * (-length % 4))

    def folders(self, path: str) -> None:
        """The folders above a file."""
        parts = path.strip("/").split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            self.add("/".join(parts[:depth]), stat.S_IFDIR | 0o755)

    def add_tar(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            owner, bits = (member.uid, member.gid), member.mode & 0o7777
            if member.isdir():
                self.add(member.name, stat.S_IFDIR | bits, owner=owner)
            elif member.issym():
                self.add(member.name, stat.S_IFLNK | 0o777, member.linkname.encode(), owner)
            elif member.isfile() or member.islnk():
                source = tar.extractfile(member)
                self.add(member.name, stat.S_IFREG | bits, source.read() if source else b"", owner)

    def end(self) -> None:
        self.add("TRAILER!!!", 0)


def _root(engine: Engine, image: str, suite: str, say) -> tuple[Path, Path]:
    """Kernel, and the root file system as an archive that it unpacks; both made once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    reference = images.ensure(engine, image, say)
    with open(CACHE / "vm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = _fetch_kernel(suite, say)
        version = (home / "version").read_text()
        archive = CACHE / f"vm-{image}.{suite}.{images.RECIPES[image].tag}-{version}.cpio"
        if not archive.exists():
            say(f"making a root file system for kernel {version} …")
            for old in CACHE.glob(f"vm-{image}.{suite}.*.cpio"):
                old.unlink()
            part = archive.with_suffix(".part")
            with open(part, "wb") as out:
                _write_root(engine, reference, home, version, Archive(out))
            part.rename(archive)
    return home / "vmlinuz", archive


def _write_root(engine: Engine, reference: str, home: Path, version: str, archive: Archive) -> None:
    container = engine.command("create", reference, "true").splitlines()[-1]
    tar = CACHE / "vm-root.tar"
    try:
        engine.command("export", container, "--output", str(tar), timeout=300.0)
        with tarfile.open(tar) as source:
            archive.add_tar(source)
    finally:
        engine.remove([container])
        tar.unlink(missing_ok=True)
    seen = set()
    for file in _module_files(home, version):
        name = "usr/" + str(file.relative_to(home))
        if str(Path(name).parent) not in seen:
            seen.add(str(Path(name).parent))
            archive.folders(name)
        archive.add(name, stat.S_IFREG | 0o644, file.read_bytes())
    archive.end()


# The machine ----------------------------------------------------------------------------------------------------------


class Machine:
    """A running virtual machine and the agent in it."""

    def __init__(self, directory: Path, kernel: Path, root: Path, files: dict[str, Path]) -> None:
        self.directory = directory
        self.log_file = directory / BOOT_LOG
        self._next_id = 0
        initrd = directory / "initrd"
        with open(initrd, "wb") as out:
            with open(root, "rb") as base:
                shutil.copyfileobj(base, out, 1 << 24)
            out.write(b"\0" * (-out.tell() % 512))
            own = Archive(out)
            own.add("sbin/vm-init", stat.S_IFREG | 0o755, INIT.read_bytes())
            for name, file in files.items():
                own.folders(name)
                own.add(name, stat.S_IFREG | 0o755, file.read_bytes())
            own.end()
        here, there = socket.socketpair()
        command = [
            # A runner that is killed takes the machine with it.
            "setpriv", "--pdeathsig", "KILL",
            QEMU, "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "qemu64,+rdrand", "-smp", "2", "-m", str(MEMORY),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-chardev", f"file,id=log,path={self.log_file}", "-serial", "chardev:log",
            "-chardev", f"socket,id=agent,fd={there.fileno()}", "-serial", "chardev:agent",
            "-kernel", str(kernel), "-initrd", str(initrd),
            "-append", "console=ttyS0 rdinit=/sbin/vm-init rootfstype=tmpfs panic=-1 quiet loglevel=4",
        ]  # fmt: skip
        with open(directory / "qemu.log", "wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(there.fileno(),), start_new_session=True
            )
        there.close()
        self._socket = here
        self._buffer = b""

    def wait_booted(self) -> None:
        """Until the agent says hello."""
        try:
            hello = self._line(BOOTING * patience())
        except LabError as failure:
            raise Impossible(str(failure)) from failure  # nothing of what is tested has started yet
        if hello != b"ready":
            raise LabError(f"the virtual machine's agent said {hello!r}")

    def execute(self, words: list[str], stdin: str | None, timeout: float) -> tuple[int, str, str]:
        """Exit status, standard output and error of a command in the machine."""
        self._next_id += 1
        request = {"id": self._next_id, "argv": words, "stdin": stdin or "", "timeout": timeout}
        self._socket.settimeout(timeout + 30.0)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self._line(timeout + 30.0))
            if answer["id"] == self._next_id:
                return answer["status"], *(base64.b64decode(answer[k]).decode(errors="replace") for k in ("out", "err"))

    def _line(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                chunk = self._socket.recv(1 << 16)
            except TimeoutError as late:
                raise LabError(f"the virtual machine did not answer within {timeout:g} s; it said:\n{self.said()}") from late
            if not chunk:
                raise LabError(f"the virtual machine ended; it said:\n{self.said()}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip()

    def said(self) -> str:
        with contextlib.suppress(OSError):
            text = (self.directory / "qemu.log").read_text(errors="replace") + self.log_file.read_text(errors="replace")
            return text[-3000:]
        return ""

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10.0)
        self._socket.close()


class GuestDatabase:
    """`ovsdb.Database` for a server inside the machine."""

    def __init__(self, node: "Guest", path: str, name: str) -> None:
        self.node = node
        self.path = path
        self.name = name

    def close(self) -> None:
        """Every transaction has a connection of its own."""

    def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        text = json.dumps([self.name, *operations])
        out = self.node.run(["ovsdb-client", "transact", f"unix:{self.path}", text])
        results = json.loads(out)
        faults = [entry for entry in results if entry and entry.get("error")]
        if faults:
            raise LabError(f"{self.name} refused a transaction: {faults}")
        return results

    def select(self, table: str, where: list | None = None, columns: list[str] | None = None) -> list[dict[str, Any]]:
        operation: dict[str, Any] = {"op": "select", "table": table, "where": where or []}
        return self.transact([operation | ({"columns": columns} if columns else {})])[0]["rows"]


class Guest(Node):
    """A set of namespaces inside the machine."""

    def __init__(self, machine: Machine, name: str, pid: int, share: Path) -> None:
        super().__init__(name, f"{name} in the virtual machine", pid, share)
        self.machine = machine

    def run(self, command: str | list[str], *, check: bool = True, timeout: float = 60.0, stdin: str | None = None,
            namespace: str | None = None) -> str:  # fmt: skip
        words = ["sh", "-c", command] if isinstance(command, str) else command
        status, out, err = self.machine.execute([*self.enter(namespace), *words], stdin, timeout)
        if check and status != 0:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise LabError(f"{self.name}: {shown}\nexit {status}\n{out.strip()}\n{err.strip()}")
        return out

    def start(self, name: str, command: str | list[str], namespace: str | None = None) -> None:
        words = command if isinstance(command, str) else shlex.join(command)
        script = f"echo $$ >/lab/{name}.pid; exec {words}"
        self.run(f"rm -f /lab/{name}.pid; setsid sh -c {shlex.quote(script)} </dev/null >>/lab/{name}.log 2>&1 &", namespace=namespace)
        wait_for(f"{self.name}: {name} to start", lambda: self.daemon_pid(name), 20.0)

    def daemon_pid(self, name: str) -> int | None:
        text = self.run(f"cat /lab/{name}.pid 2>/dev/null", check=False).strip()
        return int(text) if text.isdigit() else None

    def file(self, name: str) -> Path:
        target = self.share / name
        target.write_bytes(base64.b64decode(self.run(f"base64 -w 0 /lab/{shlex.quote(name)}")))
        return target

    def log(self, name: str) -> str:
        return self.run(f"cat /lab/{name}.log 2>/dev/null", check=False)

    def install(self, source: Path) -> None:
        """The binary is in the machine's root file system."""

    def database(self, socket_name: str, name: str) -> GuestDatabase:
        return GuestDatabase(self, f"/lab/{socket_name}", name)


class VmLab(Lab):
    """A topology that is up inside a virtual machine."""

    machine: Machine | None = None
    nodes: dict[str, Node]

    def _up(self) -> None:
        from .daemon import binary

        (image,) = {node.image for node in self.topology.nodes}
        kernel, root = _root(self.engine, image, release(self.topology.kernel), self.say)
        stripped = self.directory / "ovn-bgpd"
        # The symbols are most of it, and the machine keeps all files in memory.
        if shutil.which("strip") is None or run(["strip", "-o", str(stripped), str(binary())], check=False).returncode != 0:
            shutil.copy2(binary(), stripped)
        files = {"usr/bin/ovn-bgpd": stripped} | {f"opt/{path.name}": path for path in self.topology.files}
        started = time.monotonic()
        self.machine = Machine(self.directory, kernel, root, files)
        self.machine.wait_booted()
        (self.directory / "initrd").unlink()
        self.outside = Guest(self.machine, "outside", 1, self.directory)
        running = self.outside.run("uname -r").strip()
        self.say(f"kernel {running} booted in {time.monotonic() - started:.1f} s")
        for described in self.topology.nodes:
            share = self.directory / described.name
            share.mkdir()
            pid = int(self.machine.execute(["/sbin/vm-init", "node", described.name], None, 30.0)[1])
            self.nodes[described.name] = Guest(self.machine, described.name, pid, share)
            self._prepare(self.nodes[described.name], described.forwarding)
        self._cables()

    def _outside(self, command: list[str]) -> None:
        self.outside.run(command)

    def how_to_look(self) -> str:
        return "The laboratory was a virtual machine; it is gone (--keep does not apply)."

    def __exit__(self, kind, value, trace) -> None:
        self.keep = False
        super().__exit__(kind, value, trace)

    def save(self, target: Path) -> None:
        for node in self.nodes.values():
            with contextlib.suppress(LabError):
                for name in node.run("cd /lab && ls *.log *.conf *.toml 2>/dev/null", check=False).split():
                    (node.share / name).write_text(node.run(["cat", f"/lab/{name}"], check=False))
        super().save(target)

    def down(self) -> None:
        with uninterrupted():
            if self.machine:
                self.machine.end()
        super().down()
