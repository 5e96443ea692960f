"""The picture of the README: what a reviewer sees on a pull request that made a model hungrier. Nothing of it is painted by hand.

    .venv/bin/python website/pictures.py            # measures (about two minutes), then draws
    .venv/bin/python website/pictures.py energy.md  # draws Markdown: a session's, or what a terminal showed, in a block

The one there now is of the second kind: what `make demo-regression` printed, as the tutorial has it. Measure on a quiet machine: on a busy
one the comparison is INCONCLUSIVE, and nothing is drawn.

A project of two commits is made in a temporary folder: the second one encodes each review once for every label. pytest compares them by
turns, the Markdown that it writes is put into HTML as GitHub does, and Chromium takes the picture. Needs chromium, numpy and markdown-it-py
(`make test` installs the last).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "red.png"
WIDTH, TERMINAL, SUMMARY = 1120, 250, 620  # points, and the heights of both kinds
GIT = (
    "git",
    "-c",
    "user.name=Example",
    "-c",
    "user.email=example@example.org",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "init.defaultBranch=main",
)

MODEL = '''
import re
import zlib

import numpy

LABELS = numpy.random.default_rng(7).normal(size=(4, 512))
WORD = re.compile(r"[a-z']+")


def encode(text):
    """Counts of hashed words and pairs of words."""
    words = WORD.findall(text.lower())
    vector = numpy.zeros(512)
    for one, two in zip(words, words[1:], strict=False):
        vector[zlib.crc32(one.encode()) % 512] += 1
        vector[zlib.crc32((one + two).encode()) % 512] += 0.5
    return vector


def classify(batch):
    return [best(text) for text in batch]

'''
BEFORE = """
def best(text):
    return int((LABELS @ encode(text)).argmax())
"""
AFTER = """
def best(text):
    scores = [label @ encode(text) for label in LABELS]
    return int(numpy.argmax(scores))
"""
TEST = """
import pytest
from model import classify

REVIEWS = [f"review {n}: the film was {'very ' * (n % 40)} good, and the {n % 9} actors were not" for n in range(256)]


@pytest.mark.energy_budget(energy_per_query="10 mJ", latency_p95="100 ms")
def test_reviews(energy_meter):
    energy_meter.measure(classify, REVIEWS, batch_size=16)


@pytest.mark.energy_budget(energy_per_query="50 mJ")
def test_unchanged(energy_meter):
    energy_meter.measure(lambda batch: [sorted(each * 9) for each in batch], REVIEWS, batch_size=32)
"""
CROSS = '<span style="color: #d1242f">\N{HEAVY BALLOT X}</span>'  # GitHub has a picture of its own for that sign, and a plain system none
STYLE = """
body { margin: 0; padding: 24px 32px; font: 14px/1.5 "Noto Sans", "DejaVu Sans", sans-serif; color: #1f2328; background: #fff; }
h2 { font-size: 21px; border-bottom: 1px solid #d1d9e0; padding-bottom: 6px; margin: 0 0 14px; }
h3 { font-size: 17px; margin: 18px 0 10px; }
table { border-collapse: collapse; margin: 12px 0; font-size: 13px; }
td, th { border: 1px solid #d1d9e0; padding: 5px 11px; text-align: left; }
tr:nth-child(even) td { background: #f6f8fa; }
details { margin: 10px 0; }
pre { background: #161b22; color: #e6edf3; padding: 16px 20px; border-radius: 8px; white-space: pre-wrap; font-size: 13px; }
code { background: #f0f1f2; padding: 1px 5px; border-radius: 5px; }
pre code { background: none; padding: 0; }
"""


def measured(folder: Path) -> str:
    """The Markdown of a session that compares the second commit of a new project with its first."""

    def run(*words: str, status: int = 0) -> None:
        done = subprocess.run(words, cwd=folder, check=False)
        if done.returncode != status:
            raise SystemExit(f"{words[0]} ended with {done.returncode}, and had to end with {status}.")

    (folder / "test_reviews.py").write_text(TEST, encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.greencompute]\nmeters = ["cputime"]\n', encoding="utf-8")
    run(*GIT, "init", "-q")
    for said, best in (("Classify reviews", BEFORE), ("Score each label by itself", AFTER)):
        (folder / "model.py").write_text(MODEL + best, encoding="utf-8")
        run(*GIT, "add", ".")
        run(*GIT, "commit", "-q", "-m", said)
    asked = ("--energy-budget", "--energy-base-ref", "HEAD~1", "--energy-max-seconds", "90", "--energy-markdown=energy.md")
    run(sys.executable, "-m", "pytest", "-q", *asked, status=1)
    return (folder / "energy.md").read_text(encoding="utf-8")


def drawn(markdown: str, folder: Path) -> None:
    """Take the picture. The first failure is unfolded, as by a click."""
    page = folder / "page.html"
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown).replace("<details>", "<details open>", 1)
    body = body.replace("❌", CROSS)
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{body}", encoding="utf-8")
    words = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1.5"]
    subprocess.run(
        [*words, f"--window-size={WIDTH},{TERMINAL if markdown.startswith('```') else SUMMARY}", f"--screenshot={OUT}", page.as_uri()],
        check=True,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """Measure unless a Markdown file is given, and draw."""
    with tempfile.TemporaryDirectory() as made:
        markdown = Path(sys.argv[1]).read_text(encoding="utf-8") if sys.argv[1:] else measured(Path(made))
        drawn(markdown, Path(made))


if __name__ == "__main__":
    main()
