"""What ``greencompute fleet`` costs over the parts themselves, on logical nodes of this machine. Run: python benchmarks/fleet/on_ray.py

Here ``pytest`` is a module of a made-up project, which waits as a GPU is waited for and writes a report: so the figures are those of the
fleet, and neither pytest's nor the model's. *Their own time* is what the parts took on their nodes, one after another.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent.parent / "verdicts"))
from fleet import KINDS
from fleet import report as report_of  # benchmarks/verdicts/fleet.py

from pytest_greencompute.results.document import document
from pytest_greencompute.testing.cluster import LogicalCluster

PYTEST = """
import json, os, pathlib, sys, time

options = dict(word.partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
root = pathlib.Path(__file__).parent
told = json.loads((root / "told.json").read_text())
kinds = told["kinds"]
if "--collect-only" in options:
    pathlib.Path(os.environ["GREENCOMPUTE_FLEET_LIST"]).write_text(json.dumps({"tests": told["tests"], "addopts": []}))
else:
    time.sleep(told["seconds"])
    node = root.parent.name.rpartition("-")[2]
    said = {"@test": os.environ["GREENCOMPUTE_FLEET_TEST"], "@commit": (root / ".git/HEAD").read_text().strip(), "GPU-0": f"GPU-{node}"}
    text = (root / "report.json").read_text()
    for name, value in {**said, "@kind": kinds[node]}.items():
        text = text.replace(name, value)
    pathlib.Path(options["--energy-json"]).write_text(text)
"""


@contextmanager
def cluster(nodes: Sequence[Sequence[str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """One with a logical node for each of these, whose GPU is of all of its kinds: its address, and the first kind by a node's id."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        made = LogicalCluster(Path(folder))
        try:
            nodes_of = {made.add(f"node-{number}", kinds).node_id[:12]: kinds[0] for number, kinds in enumerate(nodes, 1)}
            yield made.address, nodes_of
        finally:
            made.close()


def write_project(folder: Path, tests: int, seconds: float, kinds: Mapping[str, str]) -> None:
    """A repository whose tests take so long; ``kinds`` by a node's id."""
    made: dict[str, Any] = json.loads(json.dumps(document(report_of(0, np.random.default_rng(1), 8))))
    made["session"]["commit"] = made["session"]["machine"]["commit"] = "@commit"
    made["runs"][0]["test"] = "@test"
    told = {"kinds": kinds, "seconds": seconds, "tests": [f"test_it.py::test_{number}" for number in range(tests)]}
    files = {
        "pytest.py": PYTEST,
        "told.json": json.dumps(told),
        "report.json": json.dumps(made).replace(KINDS[0], "@kind"),
        ".gitignore": ".greencompute/\n",
    }
    files["pyproject.toml"] = '[tool.greencompute.budgets."*"]\nenergy_per_query = "2 J"\n'
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    author = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "all")):
        subprocess.run(["git", *words], cwd=folder, check=True)


def measured(nodes: Sequence[Sequence[str]], tests: int, seconds: float, hardware: str) -> Mapping[str, float]:
    """One fleet: its seconds in all, those until the first part began, and those of the parts; its memory at most, in MiB."""
    with tempfile.TemporaryDirectory() as folder, cluster(nodes) as (address, kinds):
        write_project(Path(folder), tests, seconds, kinds)
        command = [sys.executable, "-m", "pytest_greencompute.cli", "fleet", "--ray", address, "--hardware", hardware]
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        laid_out, own, lines = 0.0, [], []
        for line in process.stdout:
            lines.append(line)
            laid_out = laid_out or (time.monotonic() - began if " parts; " in line else 0.0)
            own += [float(found[1]) for found in [re.search(r" in (\d+\.\d+) s$", line)] if found]
        process.wait()
        assert len(own) == tests * len(hardware.split(",")), "".join(lines[-30:])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return {"all": time.monotonic() - began, "laid out": laid_out, "own": sum(own), "peak": peak, "status": process.returncode}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--seconds", type=float, default=0.5, help="of one part")
    given = parser.parse_args()
    rows = []
    for parts in given.parts:
        found = measured([["H100"]] * 4 + [["L4"]] * 4, parts // 2, given.seconds, "H100,L4")
        beyond = found["all"] - found["own"] / 8
        rows.append((parts, *(f"{found[key]:.1f} s" for key in ("all", "own", "laid out")), f"{beyond:.1f} s", f"{found['peak']:.0f} MiB"))
    heads = ("parts on 8 nodes", "in all", "their own time", "until the first began", "beyond an eighth of it", "memory at most")
    print(tabulate(rows, heads, tablefmt="github"), flush=True)
    print()
    one = measured([["H100", "L4"]], 20, 2.0, "H100,L4")
    two = measured([["H100"], ["L4"]], 20, 2.0, "H100,L4")
    row = (
        f"{one['all']:.1f} s",
        f"{two['all']:.1f} s",
        f"{two['all'] / one['all']:.2f}",
        f"{(one['all'] - one['laid out'] - one['own']) / 40:.2f} s",
    )
    print(tabulate([row], ("two kinds x 20 tests on one node", "on two", "ratio", "beyond its own time, a part"), tablefmt="github"))


if __name__ == "__main__":
    main()
