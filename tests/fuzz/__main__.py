"""Feed each reader with mutated texts, led by the coverage of its code. Run: python -m tests.fuzz [NAME…] [--seconds 600]

What is found to reach new code is kept in tests/fuzz/corpus/, and tried by the suite from then on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pytest_greencompute"]):
    from tests.fuzz.targets import CORPUS, TARGETS

LONGEST, HANG_S = 4096, 10  # bytes of an input, and seconds that none may take


def fuzz(name: str, seconds: int) -> None:
    """In this process, which ends with it."""
    target = TARGETS[name]
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds):
            Path(folder, str(number)).write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-max_len={LONGEST}", "-verbosity=0", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, str(kept), folder], target)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutated texts for each reader of foreign text.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"readers (default: all of {', '.join(TARGETS)})")
    parser.add_argument("--seconds", type=int, default=600, help="for each (default: 600)")
    parser.add_argument("--here", action="store_true", help="one reader, in this process")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(TARGETS):
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")
    if wanted.here:
        fuzz(wanted.names[0], wanted.seconds)
        return
    broken = []
    for name in wanted.names or TARGETS:
        print(f"{name} ...", flush=True)
        if subprocess.run([sys.executable, "-m", "tests.fuzz", name, "--seconds", str(wanted.seconds), "--here"], check=False).returncode:
            broken.append(name)
    if broken:
        raise SystemExit(f"Broken: {', '.join(broken)}. Each input lies here as crash-… or timeout-…")


if __name__ == "__main__":
    main()
