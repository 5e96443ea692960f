"""AMD GPUs, each read by Zeus's class for one card over AMD's library ``amdsmi``.

Zeus's manager of all cards is not used, since one card that answers otherwise than it expects loses it all of them, since it knows
nothing of ROCR_VISIBLE_DEVICES, and since it shuts ``amdsmi`` down when it is dropped. Its trial of each energy counter is made here
instead, on the session's clock. ``amdsmi`` is never shut down either: it does not count its users, and the test may be one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError, NothingThereError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Condition, Counter, Dead, DeviceFacts, MeterOptions, trouble
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.meters.visible import visible_to_hip
from pytest_greencompute.meters.zeus_figures import REMEDY, Rising, figure
from pytest_greencompute.values.powers import PowerField
from pytest_greencompute.values.readings import Reading, Source, counts

KFD = Path("/dev/kfd")  # AMD's driver for computing (Linux, Documentation/gpu/amdgpu)
TRIAL_S = 0.5
FITS = (0.1, 10.0)  # of power × time: what Zeus calls a working counter, too. ROCm/amdsmi issue 38 has some that are far outside
_TICK_HINT_S = 0.1  # there is a tick; how long it is, the measuring loop finds out
_SYSTEMATIC = 0.05  # nobody has published the error of AMD's sensors: that of NVIDIA's cards is assumed
_POWERS = ("average", "instant")  # the names of Zeus's two powers; a card may have either


def driver_is_here() -> bool:
    """Whether there is an AMD GPU that can compute: its driver is loaded."""
    return KFD.exists()


@dataclass(frozen=True, slots=True)
class AmdGpu:
    """One AMD GPU. ``index`` is its HIP number with nothing hidden, which the column HIP-ID of ``amd-smi`` shows.

    ``card`` is Zeus's object for it; None where ``problem`` says why there is none.
    """

    index: int
    uuid: str = ""
    name: str = ""
    card: Any = None
    problem: MeterError | None = None

    @property
    def domain(self) -> str:
        return f"gpu:{self.index}"

    @property
    def label(self) -> str:
        return f"{self.domain} ({self.name})" if self.name else self.domain


@dataclass(frozen=True, slots=True)
class Tried:
    """What a GPU showed in its trial: whether its energy counter can be believed, and which of its powers can be read ("" for none)."""

    gpu: AmdGpu
    counts: bool = False
    power: str = ""
    note: str = ""
    problem: MeterError | None = None


def visible_gpus(amd: Any, environ: Mapping[str, str]) -> list[AmdGpu]:
    """The AMD GPUs that HIP shows to this process, by number. Raises MeterError where there is none or it is not clear which they are."""
    gpus = _identified(amd, _handles(amd))
    seen = visible_to_hip(environ, [gpu.uuid for gpu in gpus])
    if not seen:
        raise NothingThereError("Every AMD GPU is hidden from this process.", remedy="Unset HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES.")
    return [gpus[place] for place in sorted(seen)]


def _handles(amd: Any) -> list[Any]:
    """amdsmi's handles of all AMD GPUs, in its own order; starts amdsmi."""
    remedy = "Install ROCm 6.2 or newer, and the amdsmi that comes with it; without an AMD GPU, list another meter."
    kind = MeterError if driver_is_here() else NothingThereError
    if "Mock" in type(amd.amdsmi).__name__:  # what Zeus puts in the place of one that does not load
        raise kind("AMD's library amdsmi is not installed, or does not find ROCm's libamd_smi.so.", remedy=remedy)
    with trouble("AMD's library amdsmi", "be started", kind=kind, remedy=remedy):
        amd.amdsmi.amdsmi_init(amd.amdsmi.AmdSmiInitFlags.INIT_AMD_GPUS)
        handles = list(amd.amdsmi.amdsmi_get_processor_handles())
    if not handles:
        raise NothingThereError(
            "AMD's library amdsmi sees no GPU.", remedy="Check `amd-smi list`; in a container, pass /dev/kfd and /dev/dri."
        )
    return handles


def _identified(amd: Any, handles: Sequence[Any]) -> list[AmdGpu]:
    """All GPUs by HIP number. One that does not tell its number has one of those that are left over."""
    known: dict[int, AmdGpu] = {}
    silent: list[MeterError] = []
    for place, handle in enumerate(handles):
        try:
            with trouble(f"AMD GPU {place} of `amd-smi list`", "be asked who it is", remedy=REMEDY):
                told = amd.amdsmi.amdsmi_get_gpu_enumeration_info(handle)
                index = int(told["hip_id"])
                if index in known or not 0 <= index < len(handles):
                    raise MeterError(f"AMD GPU {place} of `amd-smi list` says that its HIP number is {index}.", remedy="Update ROCm.")
                uuid = str(told.get("hip_uuid") or "")
            known[index] = _carded(amd, AmdGpu(index, uuid), handle)
        except MeterError as error:
            silent.append(error)
    left_over = (index for index in range(len(handles)) if index not in known)
    known |= {index: AmdGpu(index, problem=error) for index, error in zip(left_over, silent, strict=True)}
    return [known[index] for index in sorted(known)]


def _carded(amd: Any, gpu: AmdGpu, handle: Any) -> AmdGpu:
    def keep_handle(card: Any) -> None:
        card.handle = handle

    # Zeus looks the handle up itself, once for all cards: one that cannot be asked loses it all, and amdsmi's next start makes all stale.
    one_card = type("OneCard", (amd.AMDGPU,), {"_get_handle": keep_handle})
    card = one_card(gpu.index)
    try:
        name = card.get_name()
    except Exception:  # noqa: BLE001 - a card without a name can be measured all the same
        name = None
    return replace(gpu, card=card, name=name if isinstance(name, str) else "")


@dataclass(frozen=True, slots=True)
class _Look:
    """A GPU's energy and power at one moment, an error in place of what cannot be read. ``power`` is which of its powers it gave."""

    energy_j: float | MeterError
    power_w: float | MeterError
    power: str
    t_ns: int


def tried(gpus: Sequence[AmdGpu], clock: Clock, environ: Mapping[str, str]) -> list[Tried]:
    """Each of the GPUs with what it can do, in order. Waits TRIAL_S, once for all."""
    before = [_look(gpu, clock) for gpu in gpus]
    clock.sleep(TRIAL_S)
    after = [_look(gpu, clock) for gpu in gpus]
    found = [_judged(gpu, *looks) for gpu, *looks in zip(gpus, before, after, strict=True)]
    working = {each.gpu.index for each in found if each.problem is None}
    return [_settled(each, working, environ) for each in found]


def _look(gpu: AmdGpu, clock: Clock) -> _Look:
    watts = {power: _or_error(lambda power=power: _power_w(gpu, power)) for power in _POWERS}  # type: ignore[misc]
    power = next((name for name, value in watts.items() if isinstance(value, float)), "")
    return _Look(_or_error(lambda: _energy_j(gpu)), watts[power or _POWERS[-1]], power, clock.now_ns())


def _or_error(read: Callable[[], float]) -> float | MeterError:
    try:
        return read()
    except MeterError as error:
        return error


def _judged(gpu: AmdGpu, before: _Look, after: _Look) -> Tried:
    power_w = after.power_w
    if isinstance(power_w, MeterError):
        return Tried(gpu, problem=gpu.problem or power_w)
    if power_w == 0:
        return Tried(gpu, problem=MeterError(f"{gpu.label} says that it draws 0 W."))
    seconds = (after.t_ns - before.t_ns) / 1e9
    if isinstance(before.energy_j, float) and isinstance(after.energy_j, float):
        rise_j = after.energy_j - before.energy_j
        if FITS[0] < rise_j / (power_w * seconds) < FITS[1]:
            return Tried(gpu, counts=True, power=after.power, note="energy counter")
        why = f"its energy counter moved by {rise_j:.3g} J in {seconds:.2g} s at {power_w:.3g} W"
    else:
        why = "its energy counter gives no figure"
    return Tried(gpu, power=after.power, note=f"power summed over time: {why}")


def _settled(each: Tried, working: set[int], environ: Mapping[str, str]) -> Tried:
    """What is to be done about a GPU that cannot be read; and the dies of an MI250, of which only the even ones tell, for two."""
    gpu = each.gpu
    if "MI250" in gpu.name:
        partner = gpu.index - 1 if gpu.index % 2 else gpu.index + 1
        if each.problem is None:
            return each if partner in working else replace(each, note=f"{each.note}, of both dies (gpu:{partner} is the other)")
        if gpu.index % 2 and partner in working:
            return Tried(gpu, note=f"counted with gpu:{partner}, the other die of its card")
        if gpu.index % 2:
            message = f"{gpu.label} is the second die of a card whose energy gpu:{partner} counts for both."
            return Tried(gpu, problem=MeterError(message, remedy=f"Make gpu:{partner} visible to the test, too."))
    if each.problem is None:
        return each
    return Tried(gpu, problem=MeterError(_named(gpu, each.problem), remedy=_hide(working, environ)))


def _named(gpu: AmdGpu, problem: MeterError) -> str:
    return problem.message if gpu.domain in problem.message else f"{gpu.label}: {problem.message}"


def _hide(working: set[int], environ: Mapping[str, str]) -> str:
    if not working:
        return "`amd-smi metric` shows what the driver says; list another meter, such as rapl, for the processor."
    others = ",".join(map(str, sorted(working)))
    if environ.get("ROCR_VISIBLE_DEVICES"):
        return f"The others can be measured: ROCR_VISIBLE_DEVICES={others}, without HIP_VISIBLE_DEVICES."
    return f"The others can be measured: HIP_VISIBLE_DEVICES={others}"


def _energy_j(gpu: AmdGpu, kind: type[MeterError] = MeterError) -> float:
    return figure(f"The energy of {gpu.label}", _of(gpu, "get_total_energy_consumption"), kind=kind) / 1000  # Zeus says millijoules


def _power_w(gpu: AmdGpu, power: str, kind: type[MeterError] = MeterError) -> float:
    return figure(f"The power of {gpu.label}", _of(gpu, f"get_{power}_power_usage"), kind=kind) / 1000  # milliwatts


def _of(gpu: AmdGpu, method: str) -> Callable[[], Any]:
    if gpu.problem is not None:
        raise gpu.problem
    return getattr(gpu.card, method)  # type: ignore[no-any-return]


def counters(gpus: Sequence[AmdGpu], options: MeterOptions) -> list[Counter]:
    """A counter for each of the GPUs. Raises MeterError, naming it, where one cannot be metered: its energy would be missing in silence."""
    found = tried(gpus, options.clock, options.environ)
    here = [gpu.domain for gpu in gpus]
    refused = [each for each in found if each.problem is not None]
    for each in refused:
        if each.problem is not None and (refused == found or counts(each.gpu.domain, options.domains, here)):
            raise each.problem
    opened: list[Counter] = []
    try:
        for each in found:
            if each.problem is not None:
                opened.append(Dead(Source("zeus", each.gpu.domain, "counter", each.gpu.name), each.problem))
            elif each.counts:
                opened.append(AmdCounter(each, options.clock))
            elif each.power:
                opened.append(_power_counter(each, options.clock))
    except BaseException:
        for counter in opened:
            counter.close()
        raise
    return opened


def _power_counter(each: Tried, clock: Clock) -> PowerIntegrator:
    return PowerIntegrator(
        lambda: _power_w(each.gpu, each.power, MeterLostError),
        clock=clock,
        meter="zeus",
        domain=each.gpu.domain,
        device=each.gpu.name,
        uuid=each.gpu.uuid,
        systematic=_SYSTEMATIC,
        note=each.note,
        facts=lambda: _facts(each.gpu),
    )


class AmdCounter:
    """The energy counter of one AMD GPU, as Zeus gives it: in whole millijoules."""

    __slots__ = ("_gpu", "_now_ns", "_open", "_power", "_rising", "_source")

    def __init__(self, each: Tried, clock: Clock) -> None:
        self._gpu, self._power = each.gpu, each.power
        self._now_ns = clock.now_ns
        self._rising = Rising(f"The energy counter of {each.gpu.label}")
        self._open = True
        self._source = Source(
            meter="zeus",
            domain=each.gpu.domain,
            method="counter",
            device=each.gpu.name,
            uuid=each.gpu.uuid,
            tick_s=_TICK_HINT_S,
            step_j=0.001,
            systematic=_SYSTEMATIC,
            note=each.note,
        )

    @property
    def source(self) -> Source:
        """Its description, before probing."""
        return self._source

    def read(self) -> Reading:
        """Energy so far in joules. Raises MeterLostError for what is no figure, for a counter that fell and for one that stands still."""
        if not self._open:
            raise MeterError(f"The energy counter of {self._gpu.label} was closed.")
        reading = Reading(_energy_j(self._gpu, MeterLostError), self._now_ns())
        self._rising.see(reading.energy_j, reading.t_ns)
        return reading

    def power_fields(self) -> Mapping[PowerField, Callable[[], float]]:
        """What reads the power that worked in its trial, in watts; nobody has published over how long it is a mean."""
        return {PowerField(self._power): lambda: _power_w(self._gpu, self._power, MeterLostError)}

    def condition(self) -> Condition:
        """Nothing is known."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """Identity, power limit, and the versions of what read it."""
        return _facts(self._gpu)

    def close(self) -> None:
        """Nothing to give back: amdsmi stays up for whoever else uses it."""
        self._open = False


def _facts(gpu: AmdGpu) -> DeviceFacts:
    limit_mw = _or_error(lambda: figure(gpu.label, _of(gpu, "get_power_management_limit")))
    return {
        "gpu": gpu.name,
        "uuid": gpu.uuid,
        "zeus": metadata.version("zeus"),
        "power_limit_w": limit_mw / 1000 if isinstance(limit_mw, float) else None,
    }
