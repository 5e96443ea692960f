"""What the terminal says at the end: heading, table, sentences, totals; colours, narrow encodings, progress."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from .conftest import WITHOUT, Project

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.8 J", latency_p95="40 ms", accuracy=0.9)
    def test_sentiment(energy_meter, world):
        energy_meter.measure(world.model(0.612), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="0.8 J", latency_p95="40 ms", accuracy=0.9)
    def test_sentiment_large(energy_meter, world):
        energy_meter.measure(world.model(1.931, seconds=0.088), list("abcd"), references=list("ABCD"))
"""


def test_heading_table_and_totals(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines(
        [
            r"^─+ energy: world gpu:0 Test GPU 3000, counter ─+$",
            r"^test +energy/query +budget +p95 +budget +accuracy +of budget +verdict +limits from$",
            r"^test_sentiment +0\.612 J ±0\.0 % +0\.8 J +10\.0 ms +40 ms +1\.00 ≥ 0\.9 +██████▏·│··· +76 % +PASS +marker$",
            r"^test_sentiment_large +1\.93 J ±0\.0 % +0\.8 J +88\.0 ms +40 ms +1\.00 ≥ 0\.9 +████████│██» +241 % +"
            r"FAIL energy, latency +marker$",
            r"^total [\d.]+ k?J in \d+ s · smallest .* 0\.0 % · [\d.]+ s of device time a metered test, [\d.]+ J a second"
            r" · 2 budgets failed$",
        ],
        consecutive=False,
    )


@pytest.mark.parametrize("columns", [80, 100])
def test_the_tables_fit_a_narrow_terminal(project: Project, columns: int) -> None:
    project.monkeypatch.setenv("COLUMNS", str(columns))
    project.write("test_it.py", TESTS.replace("test_sentiment_large", "test_sentiment_large_" + "x" * 90))
    lines = project.measure().stdout.lines
    start = next(place for place, line in enumerate(lines) if "energy: world" in line)
    end = next(place for place, line in enumerate(lines) if line.startswith("total"))
    head, figures, *rows = lines[start + 1 : end]
    assert (head.split(), figures.split()) == (
        ["test", "verdict", "limits", "from"],
        ["energy/query", "budget", "p95", "budget", "accuracy"],
    )
    assert [row.split()[0][:14] for row in rows[:4]] == ["test_sentiment", "0.612", "test_sentiment", "1.93"]
    assert rows[2].endswith("x  FAIL energy, latency  marker")
    assert max(map(len, (head, figures, *rows[:4]))) <= columns


def test_verdicts_are_coloured_as_pytest_is_told_to(project: Project) -> None:
    project.write("test_it.py", TESTS)
    plain = project.measure("--color=no")
    assert "\x1b[" not in str(plain.stdout)
    lines = project.measure("--color=yes").stdout.lines
    assert any(line.startswith("\x1b[32mtest_sentiment ") for line in lines)
    assert any(line.startswith("\x1b[31mtest_sentiment_large ") for line in lines)


def test_the_end_is_printed_under_quiet_and_no_summary_too(project: Project) -> None:
    project.write("test_it.py", TESTS)
    for options in (["-q"], ["-qq"], ["--no-summary"]):
        result = project.measure(*options)
        assert result.ret == 1
        if "--no-summary" not in options:
            result.stdout.fnmatch_lines(["*2 budgets failed"])


def test_a_terminal_that_cannot_print_unicode_gets_a_report_and_no_crash(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    project.monkeypatch.setenv("PYTHONUTF8", "0")
    result = project.run_apart("--energy-budget", "--energy-max-seconds=0.5", "-k", "not large")
    assert result.ret == 0
    assert "INTERNALERROR" not in str(result.stdout) + str(result.stderr)
    result.stdout.fnmatch_lines(["test_sentiment *"])


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
)


@pytest.mark.parametrize("environment", ENCODINGS, ids=lambda each: " ".join(each.values()))
def test_signs_that_a_terminal_lacks_are_replaced_in_the_table_and_in_what_failed(project: Project, environment: dict[str, str]) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="3 µJ", accuracy=0.9)
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"), references=list("ABCX"))
        """,
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        *WITHOUT,
        "--energy-budget",
        "--energy-max-seconds=0.5",
        "--energy-markdown=energy.md",
        "-rf",
    ]
    done = subprocess.run(command, cwd=project.path, env={**os.environ, **environment}, capture_output=True, check=False, timeout=60)
    encoding = environment.get("PYTHONIOENCODING", "ascii")
    text = (done.stdout + done.stderr).decode(encoding)
    assert done.returncode == 1, text
    assert not any(each in text for each in ("INTERNALERROR", "UnicodeEncodeError", "\\xb", "\\u"))
    micro, sure = ("µ", "±") if encoding == "cp1252" else ("u", "+/-")
    assert text.count(f"over its budget of 3 {micro}J") == 2  # where it failed and in the short summary
    assert f"J {sure}0.0 %" in text
    assert "0.750 >= 0.9" in text
    assert "--- energy: " in text
    assert "3 µJ" in (project.path / "energy.md").read_text(encoding="utf-8")


def test_a_usage_error_keeps_its_lines_where_a_sign_is_lacking(project: Project) -> None:
    project.write(
        "test_it.py", "import pytest\n\n@pytest.mark.energy_budget(energy_per_query='3 µX', accuracy=7)\ndef test_it(energy_meter): pass\n"
    )
    project.monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = project.run_apart("--energy-budget")
    assert "'3 uX' has an unknown unit, 'uX'" in str(result.stderr)
    assert "\\n" not in str(result.stderr)


def test_the_help_of_the_options_is_plain_ascii() -> None:
    from pytest_greencompute.settings.options import OPTIONS

    assert all(f"{option.name} {option.help} {option.metavar}".isascii() for option in OPTIONS)


def test_a_log_file_gets_no_progress_line(project: Project) -> None:
    project.write("test_it.py", TESTS)
    assert "measuring test_sentiment" not in str(project.measure("-s").stdout)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_gets_a_progress_line_that_wipes_itself(project: Project, encoding: str) -> None:
    project.write("test_it.py", TESTS)
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "pytest", *WITHOUT, "--energy-budget", "--energy-max-seconds=0.5", "-k", "not large"]
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": encoding}
    with subprocess.Popen(command, cwd=project.path, stdout=secondary, stderr=secondary, stdin=secondary, env=environment) as process:
        os.close(secondary)
        seen, until = b"", time.monotonic() + 40
        while time.monotonic() < until:
            if select.select([primary], [], [], 0.2)[0]:
                try:
                    data = os.read(primary, 65536)
                except OSError:  # the other end is closed
                    break
                if not data:
                    break
                seen += data
            elif process.poll() is not None:
                break
        assert process.wait(10) == 0
    os.close(primary)
    text = seen.decode(errors="replace")
    assert "measuring test_sentiment: " in text
    for piece in text.split("measuring test_sentiment: ")[1:]:
        assert piece.partition("\x1b[2K")[0].partition("\n")[0].count("\r") >= 1
