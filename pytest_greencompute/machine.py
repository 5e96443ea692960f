"""What ran where, and which runs may be compared.

``facts`` looks at the machine once per run and gives plain JSON values. ``differences`` is pure: it takes the provenance
of two runs and says what differs, by one table, ``RULES``. Nothing here imports the packages whose versions it tells.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pytest_greencompute.ci import in_ci
from pytest_greencompute.tracing import TRACED

CPUINFO = Path("/proc/cpuinfo")

# The distributions whose version can change what a run costs.
PACKAGES = ("torch", "transformers", "numpy", "onnxruntime", "pytest-greencompute")

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


def _git(environ: Mapping[str, str], folder: Path | None) -> dict[str, str | bool | None]:
    """Commit and whether tracked files differ from it; both None where there is no git, no repository or no commit yet."""
    # Without optional locks `git status` does not refresh the index: looking writes nothing.
    quiet = {**environ, "GIT_OPTIONAL_LOCKS": "0"}
    told = _output(["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"], quiet, folder)
    if told is None:
        return {"commit": None, "dirty": None}
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", told, re.MULTILINE)
    if commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit.group(1), "dirty": any(line and not line.startswith("#") for line in told.splitlines())}


def facts(environ: Mapping[str, str], folder: Path | None = None) -> dict[str, str | int | bool | None]:
    """What this machine is, as JSON values, for the provenance of a run. Runs ``git`` once; imports no measured package.

    ``folder`` (default: the working folder) is where the commit is looked up. ``dirty`` counts tracked files only.
    A package that is not installed has no key. ``ci``: whether this is a build of CI.
    """
    processor = read_processor()
    versions = {package: version for package in PACKAGES if (version := _version(package)) is not None}
    return {
        "cpu": processor.model or None,
        "cores": os.cpu_count(),
        "virtual_machine": processor.virtual,
        "os": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
        "ci": in_ci(environ),
        **_git(environ, folder),
    }


# ── what may be compared with what ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two runs do not share. ``blocks``: their figures must not be compared; otherwise it is a warning."""

    name: str
    ours: str
    theirs: str
    blocks: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.ours} here, {self.theirs} in the baseline"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the policy: where a value lies in the provenance and what it means if it differs.

    ``part`` is ``machine``, ``run`` (top level), ``domains`` (the set of domains), ``gpus`` (all GPUs, in order) or
    ``devices`` (each domain that both runs have). ``blocks`` is ``always``, ``cpu`` (if a CPU domain is judged) or ``never``.
    """

    name: str
    part: Literal["machine", "run", "domains", "gpus", "devices"]
    key: str
    blocks: Literal["always", "cpu", "never"]
    absent: str = "unknown"
    unit: str = ""


RULES: tuple[Rule, ...] = (
    Rule("domain", "domains", "", "always", absent="none"),
    Rule("GPU", "gpus", "device", "always"),
    Rule("power limit", "devices", "power_limit_w", "always", unit=" W"),
    Rule("meter", "devices", "meter", "always"),
    Rule("method", "devices", "method", "always"),
    Rule("batch size", "run", "batch_size", "always"),
    Rule("repeats", "run", "repeats", "always", absent="fresh"),
    Rule("tracer", "run", TRACED, "always", absent="none"),
    Rule("CPU", "machine", "cpu", "cpu"),
    Rule("driver", "devices", "driver", "never"),
    Rule("operating system", "machine", "os", "never"),
    Rule("kernel", "machine", "kernel", "never"),
    Rule("Python", "machine", "python", "never"),
    Rule("torch", "machine", "torch", "never", absent="not installed"),
    Rule("transformers", "machine", "transformers", "never", absent="not installed"),
    Rule("numpy", "machine", "numpy", "never", absent="not installed"),
    Rule("onnxruntime", "machine", "onnxruntime", "never", absent="not installed"),
    Rule("pytest-greencompute", "machine", "pytest-greencompute", "never", absent="not installed"),
)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, cpu_judged: bool = False) -> tuple[Difference, ...]:
    """What differs between the provenance of two runs, in the order of ``RULES``. Pure.

    ``cpu_judged`` says that the energy of a CPU or memory domain is judged: then those domains and the CPU's model must agree
    too. Without it only the domains of GPUs must, and another CPU is a warning. A value that one side lacks differs from any
    value: nothing is taken to be equal unseen. Values that both lack are not compared.
    """
    left, right = _devices(ours, cpu_judged=cpu_judged), _devices(theirs, cpu_judged=cpu_judged)
    found = []
    for rule in RULES:
        if rule.part == "devices":
            common = [domain for domain in left if domain in right]
            a: Any = tuple(left[domain].get(rule.key) for domain in common)
            b: Any = tuple(right[domain].get(rule.key) for domain in common)
        else:
            a, b = _look(rule, ours, left), _look(rule, theirs, right)
        if a != b:
            blocks = rule.blocks == "always" or (rule.blocks == "cpu" and cpu_judged)
            found.append(Difference(rule.name, _show(a, rule), _show(b, rule), blocks))
    return tuple(found)


def _look(rule: Rule, provenance: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]) -> Any:
    if rule.part == "domains":
        return tuple(devices)
    if rule.part == "gpus":
        return tuple(device.get(rule.key) for domain, device in devices.items() if _family(domain) == "gpu")
    return _mapping(provenance.get("machine") if rule.part == "machine" else provenance).get(rule.key)


def _devices(provenance: Mapping[str, Any], *, cpu_judged: bool) -> dict[str, Mapping[str, Any]]:
    devices = _mapping(provenance.get("devices"))
    counted = [domain for domain in devices if cpu_judged or _family(domain) not in ("cpu", "dram")]
    return {domain: _mapping(devices[domain]) for domain in sorted(counted, key=_by_number)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _family(domain: str) -> str:
    return domain.partition(":")[0]


def _by_number(domain: str) -> tuple[str, int, str]:
    """Sorts ``gpu:2`` before ``gpu:10``."""
    family, _, index = domain.partition(":")
    return family, int(index) if index.isdecimal() else -1, index


def _show(value: Any, rule: Rule) -> str:
    """A value for people; several devices as ``2 × NVIDIA H100`` or as a list."""
    if not isinstance(value, tuple):
        return rule.absent if value is None else f"{_number(value)}{rule.unit}"
    if not value:
        return "none"
    shown = [_show(item, rule) for item in value]
    if rule.part == "gpus":
        kinds = list(dict.fromkeys(shown))
        return ", ".join(f"{shown.count(kind)} × {kind}" if shown.count(kind) > 1 else kind for kind in kinds)
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _number(value: Any) -> str:
    """700.0 as 700; all else as it prints."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def descends(pid: int, family: int) -> bool:
    """Whether ``pid`` is the process ``family`` or descends from it, such as the engine process of a server under test."""
    for _ in range(64):
        if pid == family:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            # The name, in parentheses, may hold anything; state and parent follow it.
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
        if pid <= 1:
            return False
    return False
