"""What this machine is, and how busy. Nothing here imports the packages whose versions it tells."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_greencompute.machine.ci import in_ci
from pytest_greencompute.values.provenance import PACKAGES, Machine

CPUINFO = Path("/proc/cpuinfo")
_SECONDS_FOR_A_COMMAND = 5.0


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor as its own text tells it.

    ``model`` is empty where unknown. ``virtual`` is None where nothing says whether this is a virtual machine.
    ``cores`` are the physical cores of one chip, None where unknown or hidden by a virtual machine.
    """

    model: str = ""
    virtual: bool | None = None
    cores: int | None = None


def parse_cpuinfo(text: str) -> Processor:
    """The processor that the text of ``/proc/cpuinfo`` describes. Never raises; what is not there is unknown.

    The flag ``hypervisor`` is CPUID leaf 1, ECX bit 31: hypervisors set it for their guests (x86 only).
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags")
    virtual = None if flags is None else "hypervisor" in flags.split()
    cores = fields.get("cpu cores", "")
    shown = virtual is not True and cores.isdecimal() and int(cores) > 0
    return Processor(model=fields.get("model name", ""), virtual=virtual, cores=int(cores) if shown else None)


def is_this_machine(host: str) -> bool | None:
    """Whether ``host``, a name or an address, is this machine; None where nobody knows an address of that name. May ask the DNS."""
    here = {each.casefold() for each in ("localhost", socket.gethostname(), socket.getfqdn())}
    name = host.casefold()
    if name in here or ("." not in name and name in {each.partition(".")[0] for each in here}):
        return True
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    return any(_is_own(family, address) for family, _, _, _, address in found)


def _is_own(family: int, address: Any) -> bool:
    """Whether an address is one of this machine's: none else can be bound to."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind(address)
    except OSError:
        return False
    return True


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The processor of this machine; where there is no ``cpuinfo``, what the operating system calls it."""
    try:
        found = parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = Processor()
    if found.model:
        return found
    return Processor(model=_name_from_the_system(), virtual=found.virtual, cores=found.cores)


def _name_from_the_system() -> str:
    system = platform.system()
    if system == "Darwin":
        return (_output(["sysctl", "-n", "machdep.cpu.brand_string"], os.environ, None) or platform.machine()).strip()
    # platform.processor() starts a process on Linux and mostly answers nothing there.
    return platform.processor() if system == "Windows" else platform.machine()


def _output(command: Sequence[str], environ: Mapping[str, str], folder: Path | None) -> str | None:
    """What a short command prints; None where it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS_FOR_A_COMMAND,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(environ: Mapping[str, str], folder: Path | None) -> tuple[str, bool] | tuple[None, None]:
    """Commit and whether tracked files differ from it; both None where there is no git, no repository or no commit yet."""
    # Without optional locks `git status` does not refresh the index: looking writes nothing.
    quiet = {**environ, "GIT_OPTIONAL_LOCKS": "0"}
    told = _output(["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"], quiet, folder)
    commit = None if told is None else re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", told, re.MULTILINE)
    if told is None or commit is None:
        return None, None
    return commit.group(1), any(line and not line.startswith("#") for line in told.splitlines())


def facts(environ: Mapping[str, str], folder: Path | None = None) -> Machine:
    """What this machine is. Runs ``git`` once; imports no measured package.

    ``folder`` (default: the working folder) is where the commit is looked up.
    """
    processor = read_processor()
    commit, dirty = _git(environ, folder)
    return Machine(
        cpu=processor.model or None,
        cores=os.cpu_count(),
        virtual_machine=processor.virtual,
        os=platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        versions={package: version for package in PACKAGES if (version := _version(package)) is not None},
        ci=in_ci(environ),
        commit=commit,
        dirty=dirty,
    )


def crowd() -> str:
    """How much is at work here, in words, where it is more than there are cores; empty where it is not, or is not known.

    The load average is that of the last minute; what runs or waits for a core right now stands beside it.
    """
    try:
        fields = Path("/proc/loadavg").read_text(encoding="ascii").split()
        average, now = float(fields[0]), int(fields[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        try:
            average, now = os.getloadavg()[0], 0
        except (AttributeError, OSError):
            return ""
    cores = os.cpu_count() or 1
    return f"load average {average:.1f}, {now} at work now, {cores} cores" if max(average, now) > cores else ""
