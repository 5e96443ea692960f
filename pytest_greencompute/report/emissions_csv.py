"""A session as a row of CodeCarbon's ``emissions.csv``, for those who collect these: its columns (those of 3.3), its units.

One row a session, as CodeCarbon has one a tracker: kWh by kind of device over all of it, kg of CO2e where an intensity is set. What is
not known is left empty, which readers take for missing, and never written as 0.
"""

from __future__ import annotations

import csv
import io
import platform
import uuid
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.files import check_writable
from pytest_greencompute.values.footprint import J_PER_KWH

COLUMNS = (
    "timestamp",
    "project_name",
    "run_id",
    "experiment_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "water_consumed",
    "country_name",
    "country_iso_code",
    "region",
    "cloud_provider",
    "cloud_region",
    "os",
    "python_version",
    "codecarbon_version",
    "cpu_count",
    "cpu_model",
    "gpu_count",
    "gpu_model",
    "longitude",
    "latitude",
    "ram_total_size",
    "tracking_mode",
    "cpu_utilization_percent",
    "gpu_utilization_percent",
    "ram_utilization_percent",
    "ram_used_gb",
    "on_cloud",
    "pue",
    "wue",
)
KINDS = {"cpu": "cpu", "gpu": "gpu", "dram": "ram"}  # a kind of domain, and what CodeCarbon calls it


def make(summary: Summary, path: Path, home: Path) -> None:
    """Add the session's row to a file. Raises as ``append`` does."""
    append(summary, path, home.name, str(uuid.uuid4()))


def append(summary: Summary, path: Path, project: str, run_id: str) -> None:
    """Add the session's row to a file, which is begun where there is none.

    Columns stay in the file's own order. Raises SettingsError where it has others than these, and leaves it as it is; OSError.
    """
    values = row(summary, project, run_id)
    columns = _columns_of(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or COLUMNS, lineterminator="\n")
    if columns is None:
        writer.writeheader()
    writer.writerow(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())  # in one write, so that two sessions that end at once do not mix their rows


def check(path: Path) -> None:
    """Raises SettingsError where ``append`` will: before anything is measured."""
    try:
        _columns_of(path)
        if path.exists():
            path.open("ab").close()
        else:
            check_writable(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.", remedy="Check the path and its permissions.") from error


def _columns_of(path: Path) -> list[str] | None:
    """The columns of a file; None of one that is empty or not there. Raises SettingsError where they are others, OSError."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), None)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no CSV file in UTF-8.", remedy="Name another file, or move this one away.") from error
    if columns is not None and sorted(columns) != sorted(COLUMNS):
        raise SettingsError(
            f"{path} has not the columns of CodeCarbon 3.3's emissions.csv.", remedy="Name another file, or move this one away."
        )
    return columns


def row(summary: Summary, project: str, run_id: str) -> dict[str, str | float]:
    """The values by column; an empty text for what is not known."""
    facts, footprint = summary.facts, summary.footprint
    spent = {theirs: _of_kind(summary, ours) for ours, theirs in KINDS.items()}
    carbon = None if footprint is None or footprint.carbon is None or facts.total_j is None else facts.total_j * footprint.carbon
    seconds = facts.seconds
    known: dict[str, str | float | None] = {
        "timestamp": summary.created.removesuffix("Z")[:19],
        "project_name": project,
        "run_id": run_id,
        "duration": seconds,
        "emissions": carbon,
        "emissions_rate": carbon / seconds if carbon is not None and seconds else None,
        "energy_consumed": None if facts.total_j is None else facts.total_j / J_PER_KWH,
        "os": facts.machine.os,
        "python_version": platform.python_version(),
        "cpu_model": facts.machine.cpu,
        "gpu_count": len([source for source in facts.sources if source.domain.startswith("gpu")]) or None,
        "gpu_model": ", ".join(dict.fromkeys(each.device for each in facts.sources if each.domain.startswith("gpu"))),
        "tracking_mode": "machine" if facts.sources else None,
        "pue": 1.0 if footprint is None else footprint.pue,
    }
    for kind, joules in spent.items():
        known[f"{kind}_energy"] = None if joules is None else joules / J_PER_KWH
        known[f"{kind}_power"] = joules / seconds if joules is not None and seconds else None
    return {column: _cell(known.get(column)) for column in COLUMNS}


def _of_kind(summary: Summary, kind: str) -> float | None:
    """Joules of all domains of a kind; None where none was metered."""
    found = [joules for domain, joules in summary.facts.by_domain.items() if domain.partition(":")[0] == kind]
    return sum(found) if found else None


def _cell(value: str | float | None) -> str | float:
    """A text that is one cell on one line, and begins no formula where a spreadsheet opens the file."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    said = printable(value)
    return f"'{said}" if said[:1] in {"=", "+", "-", "@"} else said
