"""energy_meter.serve_load: a running server against budgets, one for each load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Project

ROOT = str(Path(__file__).resolve().parents[2])

SERVER = """
    import pytest
    from tests.serving.stub import Behaviour, serving

    PROMPTS = ["one", "two", "three", "four"]

    @pytest.fixture
    def url():
        with serving(Behaviour(first_s=0.01, token_s=0.002, tokens=3)) as url:
            yield url
"""


@pytest.fixture
def served(project: Project) -> Project:
    project.monkeypatch.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)
    project.toml('meters = ["cputime"]\ncpu_watts_per_core = 10')
    return project


@pytest.mark.alone(waits=True)
@pytest.mark.parametrize("options", [(), ("--energy-budget", "--energy-max-seconds=1")], ids=["unmetered", "metered"])
def test_nothing_that_the_client_or_a_lock_does_is_in_the_log_of_the_test(served: Project, options: tuple[str, ...]) -> None:
    served.write(
        "test_chat.py",
        SERVER
        + """
    def test_chat(energy_meter, url, caplog):
        caplog.set_level("DEBUG")
        energy_meter.serve_load(url, PROMPTS, concurrency=2, max_tokens=3)
        assert caplog.record_tuples == []
    """,
    )
    served.run_apart(*options).assert_outcomes(passed=1)


@pytest.mark.alone(waits=True)
def test_each_load_is_a_run_with_budgets_of_its_own(served: Project) -> None:
    served.write(
        "test_chat.py",
        SERVER
        + """
    @pytest.mark.energy_budget(**{
        "concurrency=1": {"energy_per_query": "10 kJ", "time_to_first_token_p95": "5 s", "error_rate": 0},
        "concurrency=4": {"energy_per_token": "1 nJ", "inter_token_latency_p50": "1 us"},
    })
    def test_chat(energy_meter, url):
        loads = energy_meter.serve_load(url, PROMPTS, concurrency=[1, 4], max_tokens=3)
        assert loads[1].error_rate < "1 %"
        assert loads[4].outputs == [f"{prompt} w0 w1 " for prompt in PROMPTS]
    """,
    )
    result = served.run_apart("--energy-budget", "--energy-max-seconds=2", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_chat (concurrency=4) used * per token *over its budget of 1 nJ*",
            "*test_chat (concurrency=4) took * from token to token at the median*over its budget*",
            "test_chat (concurrency=1) *PASS*",
            "test_chat (concurrency=4) *FAIL*",
        ]
    )
    runs = {run["name"]: run for run in served.report()["runs"]}
    assert set(runs) == {"concurrency=1", "concurrency=4"}
    assert runs["concurrency=4"]["raw"]["serving"]["concurrency"] == 4
    assert runs["concurrency=4"]["metrics"]["time_to_first_token_p50"]["unit"] == "s"
    assert runs["concurrency=4"]["provenance"]["served"]["url"].endswith("/v1")
    assert runs["concurrency=4"]["provenance"]["served"]["model"] == "stub"
    assert runs["concurrency=1"]["metrics"]["error_rate"]["value"] == 0


def test_unmetered_each_prompt_is_asked_once_and_energy_is_not_there(served: Project) -> None:
    served.write(
        "test_chat.py",
        SERVER
        + """
    @pytest.mark.energy_budget(accuracy=0.9)
    def test_right(energy_meter, url):
        loads = energy_meter.serve_load(url, PROMPTS, max_tokens=3, references=[f"{prompt} w0 w1 " for prompt in PROMPTS])
        assert loads[8].accuracy == 1

    @pytest.mark.energy_budget(accuracy=0.9)
    def test_wrong(energy_meter, url):
        energy_meter.serve_load(url, PROMPTS, max_tokens=3, references=PROMPTS)

    def test_energy(energy_meter, url):
        assert energy_meter.serve_load(url, PROMPTS)[8].energy_per_query < "1 J"
    """,
    )
    result = served.run_apart("-rs")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*test_wrong*scored 0*", "*SKIPPED*energy_per_query was not measured*"])


def test_unmetered_the_requests_that_failed_are_judged_as_the_answers_are(served: Project) -> None:
    served.write(
        "test_chat.py",
        SERVER.replace("tokens=3", "tokens=3, faults=['', '500', '', '']")
        + """
    def load(energy_meter, url):
        loads = energy_meter.serve_load(url, PROMPTS, concurrency=1, max_tokens=3)
        assert loads[1].error_rate == "25 %"
        assert loads[1].failed == {"status 500": 1}

    @pytest.mark.energy_budget(error_rate="10 %", energy_per_query="1 nJ", tokens_per_query=100)
    def test_some_fail(energy_meter, url):
        load(energy_meter, url)

    @pytest.mark.energy_budget(error_rate="30 %")
    def test_few_enough(energy_meter, url):
        load(energy_meter, url)
    """,
    )
    result = served.run_apart("--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_some_fail (concurrency=1) failed 25* % of the requests*over its budget of 10 %*"])
    words = [{each["metric"]: each["verdict"] for each in run["verdicts"]} for run in served.report()["runs"]]
    assert words == [{"error_rate": "FAIL", "tokens_per_query": "UNMEASURED"}, {"error_rate": "PASS"}]


def test_without_a_meter_a_load_has_times_and_its_energy_is_unmeasured(served: Project) -> None:
    served.toml('meters = ["nvml"]\nunmeasured = "fail"')
    served.write(
        "test_chat.py",
        SERVER
        + """
    @pytest.mark.energy_budget(energy_per_query="10 kJ", latency_p50="5 s")
    def test_chat(energy_meter, url):
        assert energy_meter.serve_load(url, PROMPTS, concurrency=2)[2].throughput > 1
    """,
    )
    result = served.run_apart("--energy-budget", "--energy-max-seconds=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_chat (concurrency=2) has no energy_per_query to judge: *", "test_chat (concurrency=2) *UNMEASURED energy*"]
    )


def test_bad_input_and_a_server_that_is_not_there_are_told_with_a_remedy(served: Project) -> None:
    served.write(
        "test_chat.py",
        """
        def test_elsewhere(energy_meter):
            energy_meter.serve_load("http://gpu-box:8000", ["Hi"])

        def test_nobody(energy_meter):
            energy_meter.serve_load("http://127.0.0.1:1", ["Hi"], model="m")

        def test_twice(energy_meter):
            energy_meter.serve_load("http://127.0.0.1:1", ["Hi"], concurrency=[2, 2])

        def test_name(energy_meter):
            energy_meter.serve_load("http://127.0.0.1:1", ["Hi"], name=7)

        def test_without_httpx(energy_meter, monkeypatch):
            import sys
            monkeypatch.setitem(sys.modules, "httpx", None)
            energy_meter.serve_load("http://127.0.0.1:1", ["Hi"], model="m")
        """,
    )
    result = served.run_apart("--energy-budget")
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines_random(
        [
            "*gpu-box may be another machine, and energy is read on this one.*",
            "*The first request to http://127.0.0.1:1/v1/chat/completions failed: no connection.*",
            "*concurrency is [[]2, 2].*",
            "*name is 7.*",
            "*pip install 'pytest-greencompute[[]serving]'*",
        ]
    )


@pytest.mark.alone(waits=True)
def test_a_load_goes_on_for_what_can_still_be_decided(served: Project) -> None:
    """Its throughput is certain at the first look, long before the end; its p99 needs more requests than come until then."""
    served.toml('meters = ["nvml"]')  # none is here: no energy is waited for
    served.write(
        "test_chat.py",
        SERVER.replace("first_s=0.01", "first_s=0.05")
        + """
    @pytest.mark.energy_budget(throughput="0.1 queries/s", time_to_first_token_p99="5 s", error_rate=0)
    def test_chat(energy_meter, url):
        energy_meter.serve_load(url, PROMPTS, concurrency=1, max_tokens=3)
    """,
    )
    result = served.run_apart("--energy-budget", "--energy-max-seconds=8", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    (run,) = served.report()["runs"]
    first, last = run["raw"]["sets"][0][0], run["raw"]["sets"][-1][0]
    assert last[4] - first[3] > 0.6 * 8e9  # all but what the warm-up took of it
    assert {each["metric"]: each["verdict"] for each in run["verdicts"]}["time_to_first_token_p99"] == "INCONCLUSIVE"


@pytest.mark.alone(waits=True)
def test_without_usage_no_budget_on_tokens_passes_and_notes_name_their_load(served: Project) -> None:
    served.write(
        "test_chat.py",
        SERVER.replace("tokens=3", "tokens=6, an_event=2, closes=True, usage=False, faults=['', 'ended by length', 'ended by abort']")
        + """
    LIMITS = {"tokens_per_query": 100, "energy_per_token": "10 kJ", "inter_token_latency_p50": "5 s", "error_rate": "10 %"}

    @pytest.mark.energy_budget(**{"concurrency=1": LIMITS, "concurrency=2": LIMITS})
    def test_chat(energy_meter, url):
        energy_meter.serve_load(url, PROMPTS, concurrency=[1, 2], max_tokens=6)
    """,
    )
    served.toml('meters = ["cputime"]\ncpu_watts_per_core = 10\nunmeasured = "fail"')
    result = served.run_apart("--energy-budget", "--energy-max-seconds=1", "--energy-json=energy.json", "--energy-html=energy.html")
    result.assert_outcomes(failed=1)
    page = (served.path / "energy.html").read_text(encoding="utf-8")
    for run in served.report()["runs"]:
        words = {each["metric"]: each["verdict"] for each in run["verdicts"]}
        assert words == dict.fromkeys(words, "UNMEASURED") | {"error_rate": "FAIL"}
        assert len(words) == 4
        assert f">reconnected</th><td>{run['raw']['serving']['reconnected']}<" in page
    result.stdout.fnmatch_lines_random(
        [
            "test_chat (concurrency=1) generated 3* or more tokens per query, not clearly on either side of *: let it send usage.*",
            "note: test_chat (concurrency=1): * answers were cut at max_tokens (6)",
            "note: test_chat (concurrency=2): * requests failed: * ended by abort*",
        ]
    )


def test_several_answers_to_a_request_are_refused(served: Project) -> None:
    served.write(
        "test_chat.py",
        """
        def test_n(energy_meter):
            energy_meter.serve_load("http://127.0.0.1:1", ["Hi"], model="m", options={"n": 4})
        """,
    )
    result = served.run_apart("--energy-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*options has 'n': 4*"])


def test_a_server_elsewhere_is_asked_where_a_meter_of_other_hosts_is_listed(served: Project) -> None:
    served.toml('meters = ["prometheus", "rapl"]')
    served.write(
        "test_chat.py",
        """
        def test_elsewhere(energy_meter):
            energy_meter.serve_load("http://gpu-box.invalid:8000", ["Hi"], model="m")
        """,
    )
    for args in ((), ("--energy-budget",)):
        result = served.run_apart(*args)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*The first request to http://gpu-box.invalid:8000/v1/chat/completions failed: no connection.*"])
        result.stdout.no_fnmatch_line("*may be another machine*")
