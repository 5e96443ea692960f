"""Meters by name, and the counters that a session measures with.

A name is looked up among the built-in meters, then among those that a project's ``conftest.py`` supplied, then among the
entry points of the group ``greencompute.meters``. Nothing of a meter is imported before its name is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from typing import cast

from pytest_greencompute.errors import MeterError, NoMeterError, SettingsError
from pytest_greencompute.machine.facts import is_this_machine
from pytest_greencompute.meters.base import Ability, Counter, Dead, Meter, MeterOptions, traits_of, trouble
from pytest_greencompute.values.readings import WHOLES

GROUP = "greencompute.meters"
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "nvml": ("pytest_greencompute.meters.nvml", "NvmlMeter"),
    "rapl": ("pytest_greencompute.meters.rapl", "RaplMeter"),
    "codecarbon": ("pytest_greencompute.meters.codecarbon", "CodeCarbonMeter"),
    "zeus": ("pytest_greencompute.meters.zeus", "ZeusMeter"),
    "prometheus": ("pytest_greencompute.meters.hosts", "PrometheusMeter"),
    "dcgm": ("pytest_greencompute.meters.hosts", "DcgmMeter"),
    "cputime": ("pytest_greencompute.meters.cputime", "CpuTimeMeter"),
}
# Only our own meters that measure. Those that model, and those that are another package's, are used where they are listed by name.
ORDER_BY_DEFAULT = ("nvml", "rapl")


@dataclass(frozen=True, slots=True)
class Opened:
    """Counters whose domains do not overlap, at least one, and the meters that refused, each with its reason.

    ``own``: the domains whose counters see this process and its children alone; ``elsewhere``: those of hosts that the user names.
    """

    counters: tuple[Counter, ...]
    refusals: tuple[tuple[str, MeterError], ...] = ()
    own: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()


def names(extra: Mapping[str, Meter]) -> tuple[str, ...]:
    """All names that ``meter`` knows, each once, in the order in which they are looked up. Loads none of them."""
    return tuple(dict.fromkeys([*BUILT_IN, *extra, *(point.name for point in metadata.entry_points(group=GROUP))]))


def meter(name: str, extra: Mapping[str, Meter]) -> Meter:
    """The meter of this name.

    Raises SettingsError for a name that is not known (with the nearest one), or that ``extra`` takes from a built-in meter,
    and MeterError for an entry point that does not load.
    """
    if name in BUILT_IN:
        if name in extra:
            raise SettingsError(f"The meter {name!r} is built in.", remedy="Give the meter of your conftest.py another name.")
        module, attribute = BUILT_IN[name]
        return cast("Meter", getattr(importlib.import_module(module), attribute)())
    if name in extra:
        return extra[name]
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            return _load(point)
    known = names(extra)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    raise SettingsError(f"There is no meter {name!r}.", remedy=f"{meant}There are: {', '.join(known)}.")


def _load(point: metadata.EntryPoint) -> Meter:
    """The meter behind an entry point: an instance, or a class or function that gives one when called without arguments."""
    owner = point.dist.name if point.dist is not None else "an unknown distribution"
    try:
        found = point.load()
        if not hasattr(found, "name") or isinstance(found, type):
            found = found()
    except Exception as error:
        raise MeterError(
            f"The meter {point.name!r} of {owner} does not load ({type(error).__name__}: {error}).",
            remedy=f"Update or uninstall {owner}, or leave the meter out of the list.",
        ) from error
    if not (callable(getattr(found, "find", None)) and callable(getattr(found, "abilities", None))):
        raise MeterError(f"The meter {point.name!r} of {owner} has no find and abilities.", remedy=f"Tell the makers of {owner}.")
    return cast("Meter", found)


def open_counters(names: Sequence[str], options: MeterOptions, extra: Mapping[str, Meter]) -> Opened:
    """Counters of the meters in ``names``, which is an order of preference: of each domain the first one found, all others closed.

    A meter that refuses is kept with its reason as long as another one works. Raises MeterError with all reasons where none
    works, and SettingsError for an unknown name; whatever was opened by then is closed.
    """
    if not names:
        raise SettingsError("The list of meters is empty.", remedy=f"List some, such as {', '.join(ORDER_BY_DEFAULT)}.")
    counters: list[Counter] = []
    refusals: list[tuple[str, MeterError]] = []
    seen: dict[str, str] = {}
    with ExitStack() as opened:
        for name in dict.fromkeys(names):
            try:
                asked = meter(name, extra)
                with trouble(f"The meter {name!r}", "be opened", remedy="`greencompute doctor` shows which meters work here."):
                    found = list(asked.find(options))
                    for counter in found:
                        opened.callback(counter.close)
                refusals += [(name, each.error) for each in found if isinstance(each, Dead)]
                found = [each for each in found if not isinstance(each, Dead)]
                if not found:
                    raise MeterError(f"The meter {name!r} found nothing to read.")
                added = _not_read_yet(found, counters)
            except MeterError as error:
                refusals.append((name, error))
                continue
            sees = traits_of(asked).sees
            counters += added
            seen |= {each.source.domain: getattr(each, "sees", sees) for each in added}
        if not counters:
            raise NoMeterError("No meter works here. " + _told(refusals), remedy=_last_resort(names), refusals=tuple(refusals))
        # Losers of a domain were closed as they lost; closing may be done twice. The winners stay open.
        opened.pop_all()
    own, elsewhere = (frozenset(domain for domain, sees in seen.items() if sees == what) for what in ("process", "hosts"))
    return Opened(tuple(counters), tuple(refusals), own, elsewhere)


def _not_read_yet(found: Sequence[Counter], counters: Sequence[Counter]) -> list[Counter]:
    """Those whose joules none of ``counters`` reads, the others closed. Raises MeterError, all closed, where that cannot be told."""
    added: list[Counter] = []
    try:
        for counter in found:
            if not any(_covers(counter, other) for other in (*counters, *added)):
                added.append(counter)
    except MeterError:
        added.clear()
        raise
    finally:
        for counter in found:
            if counter not in added:
                counter.close()
    return added


def _covers(one: Counter, other: Counter) -> bool:
    """Whether both read the same joules, which two meters may call by two names. Raises MeterError where that cannot be told."""
    if one.source.uuid and one.source.uuid == other.source.uuid and one.source.meter != other.source.meter:
        return True
    domains = one.source.domain, other.source.domain
    hosts = [host for each in (one, other) if (host := getattr(each, "host", "")) != ""]
    if len(hosts) != 1:  # both of this machine, or both as exporters name them
        return overlap(*domains)
    # A GPU has a UUID on every host; what an exporter of this machine shows of a processor is what is read here.
    kinds = [domain.partition(":")[0] for domain in domains]
    if "gpu" in kinds or not overlap(*kinds):
        return False
    if (here := is_this_machine(hosts[0])) is None:
        raise MeterError(
            f"Whether {hosts[0]} is this machine is not known, so {' and '.join(domains)} may be the same joules.",
            remedy=f"List {one.source.meter} or {other.source.meter}, not both; or leave those series out (ENERGY_SERIES).",
        )
    return here


def reads_energy(asked: Meter, abilities: Sequence[Ability], options: MeterOptions) -> bool:
    """Whether a meter reads energy here rather than modelling it; ``abilities`` are what it says of itself."""
    working = [each for each in abilities if each.works]
    models = traits_of(asked).models
    if not working or models is not None:
        return bool(working) and not models
    methods: list[str] = [each.method for each in working]
    if "" in methods:
        with ExitStack() as opened, suppress(MeterError):
            found = asked.find(options)
            for counter in found:
                opened.callback(counter.close)
            methods = [counter.source.method for counter in found]
    return any(method not in ("modelled", "") for method in methods)


def overlap(one: str, other: str) -> bool:
    """Whether two domains cover the same joules: equal, the whole family (``gpu``) of the other (``gpu:0``), or one of the WHOLES."""
    if one in WHOLES or other in WHOLES:
        return True
    family, _, index = one.partition(":")
    other_family, _, other_index = other.partition(":")
    return family == other_family and (index == other_index or not index or not other_index)


def _told(refusals: Sequence[tuple[str, MeterError]]) -> str:
    return " ".join(f"{name}: {error}" for name, error in refusals)


def _last_resort(names: Sequence[str]) -> str:
    return "" if "cputime" in names else f"To model the energy of the CPU instead: --energy-meter {','.join((*names, 'cputime'))}."
