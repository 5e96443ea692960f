"""Options and files to settings: every option and its twin in a file, who wins, and every mistake with its place, all at once."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.verdict import Policy
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_files
from pytest_greencompute.settings.folders import Where
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.readings import DOMAINS


class Project:
    """A folder with a pyproject.toml, and perhaps a budget file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self, text: str = "", named: str | None = None, environ: dict[str, str] | None = None, **given: Any) -> Settings:
        if text:
            (self.folder / "pyproject.toml").write_text(f"[tool.greencompute]\n{text}\n", encoding="utf-8")
        if named is not None:
            (self.folder / "budgets.toml").write_text(named, encoding="utf-8")
        files = read_files(Where(self.folder, self.folder), "budgets.toml" if named is not None else None)
        return build(given, files, environ or {}, self.folder)

    def problems(self, text: str = "", **fields: Any) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.settings(text, **fields)
        return str(caught.value).splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_without_a_word_all_is_at_its_default(project: Project) -> None:
    settings = project.settings()
    assert not settings.enabled
    assert settings.policy == Policy("fail", "warn", "warn", "warn")
    assert (settings.meters, settings.domains, settings.budgets, settings.accept) == ((), ("auto",), {}, ())
    assert (settings.total_j, settings.save, settings.baseline, settings.json_path) == (None, None, None, None)
    assert (settings.accuracy_confidence, settings.unmetered, settings.allow) == (None, "once", frozenset())


# Each option: what is given on the command line, its twin in the file, and what comes of both.
TWINS: dict[str, tuple[Any, str, Any]] = {
    "budget": (True, "true", lambda made: made.enabled is True),
    "total": ("5 kJ", '"5 kJ"', lambda made: made.total_j == 5000.0),
    "only": (True, "true", lambda made: made.only is True),
    "codecarbon_csv": ("e.csv", '"e.csv"', lambda made: made.codecarbon_csv_path is not None and made.codecarbon_csv_path.name == "e.csv"),
    "mlflow": ("models", '"models"', lambda made: made.mlflow == "models"),
    "opentelemetry": (True, "true", lambda made: made.opentelemetry is True),
    "benchmarks": (True, "true", lambda made: made.benchmarks is True),
    "skip": (True, "true", lambda made: made.skip is True),
    "meter": ("nvml, rapl", '["nvml", "rapl"]', lambda made: made.meters == ("nvml", "rapl")),
    "save": ("main-1.2", '"main-1.2"', lambda made: made.save == "main-1.2"),
    "baseline": ("main", '"main"', lambda made: made.baseline == "main"),
    "base_ref": ("main, v1,main", '["main", "v1"]', lambda made: made.base_refs == ("main", "v1")),
    "base_python": ("python3.12", '"python3.12"', lambda made: made.base_python == "python3.12"),
    "base_turns": ("launches", '"launches"', lambda made: made.base_turns == "launches"),
    "launches": ("3", "3", lambda made: made.launches == 3),
    "explain": ("always", '"always"', lambda made: made.explain == "always"),
    "max_seconds": ("30", "30", lambda made: 30.0 in (made.terms.max_seconds, made.file_terms.max_seconds)),
    "confidence": ("0.95", "0.95", lambda made: 0.95 in (made.terms.confidence, made.file_terms.confidence)),
    "tolerance": ("3%", '"3%"', lambda made: {"*": 0.03} in (made.terms.tolerance, made.file_terms.tolerance)),
    "enforce": ("warn", '"warn"', lambda made: made.policy.enforce == "warn"),
    "inconclusive": ("fail", '"fail"', lambda made: made.policy.inconclusive == "fail"),
    "unmeasured": ("skip", '"skip"', lambda made: made.policy.unmeasured == "skip"),
    "modelled": ("fail", '"fail"', lambda made: made.policy.modelled == "fail"),
    "strict": (True, "true", lambda made: made.policy == Policy("fail", "fail", "fail", "fail")),
    "json": ("out/energy.json", '"out/energy.json"', lambda made: made.json_path is not None and made.json_path.name == "energy.json"),
    "html": ("out/energy.html", '"out/energy.html"', lambda made: made.html_path is not None and made.html_path.name == "energy.html"),
    "markdown": ("energy.md", '"energy.md"', lambda made: made.markdown_path is not None and made.markdown_path.name == "energy.md"),
    "openmetrics": ("e.txt", '"e.txt"', lambda made: made.openmetrics_path is not None and made.openmetrics_path.name == "e.txt"),
    "github": ("off", '"off"', lambda made: made.github is False),
    "xdist": ("gpu-per-worker", '"gpu-per-worker"', lambda made: made.xdist == "gpu-per-worker"),
}


def test_the_table_of_twins_names_every_option() -> None:
    assert {option.key for option in OPTIONS if option.twin} - {"budget_file"} == set(TWINS)


def test_an_option_for_one_session_is_refused_in_a_file(project: Project) -> None:
    assert project.settings(update="tighten").update == "tighten"
    told = project.problems('update = "tighten"')
    assert told == ["pyproject.toml:2: 'update' belongs on the command line, as --energy-update. Remove it here."]


def test_budgets_are_at_home_in_the_file_that_has_some_else_in_the_first(project: Project) -> None:
    def home(*args: Any) -> tuple[str, tuple[str, ...]] | None:
        found = project.settings(*args).home
        return None if found is None else (found[0].name, found[1])

    assert home() is None
    assert home("strict = true") == ("pyproject.toml", ("tool", "greencompute", "budgets"))
    assert home("strict = true", "strict = true") == ("budgets.toml", ("budgets",))
    assert home("budgets.a.accuracy = 0.5", "strict = true") == ("pyproject.toml", ("tool", "greencompute", "budgets"))


@pytest.mark.parametrize("key", TWINS)
def test_an_option_and_its_twin_in_the_file_do_the_same(project: Project, key: str) -> None:
    given, written, holds = TWINS[key]
    assert not holds(project.settings())
    assert holds(project.settings(**{key: given}))
    assert holds(project.settings(f"{key} = {written}"))


@pytest.mark.parametrize(
    ("key", "written", "holds"),
    [
        ("meters", '["rapl"]', lambda made: made.meters == ("rapl",)),
        ("domains", '"gpu"', lambda made: made.domains == ("gpu",)),
        ("domains", '["gpu:0", "cpu"]', lambda made: made.domains == ("gpu:0", "cpu")),
        ("domains", '"gpu+dram"', lambda made: made.domains == ("gpu", "dram")),
        *(("domains", f'"{name}"', lambda made, name=name: made.domains == (name,)) for name in (*DOMAINS, "soc:0")),
        ("domains", '"psu:1"\nmeters = ["wall"]', lambda made: made.domains == ("psu:1",)),
        ("floor", '{ energy_per_query = "1 mJ" }', lambda made: made.file_terms.floor == {"energy_per_query": 0.001}),
        ("accuracy_confidence", "0.99", lambda made: made.accuracy_confidence == 0.99),
        ("unmetered", '"skip"', lambda made: made.unmetered == "skip"),
        ("unmetered", "16", lambda made: made.unmetered == 16),
        ("cpu_watts_per_core", "7.5", lambda made: made.cpu_watts_per_core == 7.5),
        ("cpu_watts_per_core", '"7500 mW"', lambda made: made.cpu_watts_per_core == 7.5),
        ("lock_folder", '"/tmp/locks"', lambda made: made.lock_folder == Path("/tmp/locks")),
        ("allow", '["another process"]', lambda made: made.allow == frozenset({"another process"})),
    ],
)
def test_what_only_a_file_may_say(project: Project, key: str, written: str, holds: Any) -> None:
    assert holds(project.settings(f"{key} = {written}"))


# Who wins


def test_the_command_line_wins_over_the_named_file_and_that_over_pyproject(project: Project) -> None:
    text = 'enforce = "warn"\nconfidence = 0.9\nunmetered = "skip"'
    named = 'confidence = 0.95\nbaseline = "main"'
    settings = project.settings(text, named, confidence="0.8")
    assert settings.terms.confidence == 0.8
    assert settings.file_terms.confidence == 0.95
    assert settings.policy.enforce == "warn"
    assert (settings.baseline, settings.unmetered) == ("main", "skip")


def test_budgets_come_from_the_first_file_that_has_some(project: Project) -> None:
    text = '[tool.greencompute.budgets."a"]\naccuracy = 0.5'
    settings = project.settings(text, '[budgets."b"]\naccuracy = 0.6')
    assert list(settings.budgets) == ["b"]
    assert settings.where == {"b": "budgets.toml:1"}
    assert list(project.settings(text).budgets) == ["a"]


def test_a_named_file_may_have_its_settings_under_tool(project: Project) -> None:
    assert project.settings(named='[tool.greencompute]\nbaseline = "main"').baseline == "main"


@pytest.mark.parametrize(("ci", "expected"), [({}, "warn"), ({"CI": "true"}, "fail"), ({"CI": "1"}, "fail"), ({"CI": "false"}, "warn")])
def test_without_a_figure_the_build_fails_on_ci_and_warns_elsewhere(project: Project, ci: dict[str, str], expected: str) -> None:
    assert project.settings(environ=ci).policy.unmeasured == expected
    assert project.settings(environ=ci, unmeasured="skip").policy.unmeasured == "skip"


def test_strict_wins_over_its_parts_but_not_over_enforce(project: Project) -> None:
    settings = project.settings('inconclusive = "warn"\nenforce = "warn"', strict=True)
    assert settings.policy == Policy("warn", "fail", "fail", "fail")


# Mistakes


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"total": "5"}, "--energy-total: '5' has no unit."),
        ({"total": "0 J"}, "--energy-total: '0 J' is not greater than zero."),
        ({"meter": ","}, "--energy-meter: ',' is not a list of names."),
        ({"save": "a/b"}, "--energy-save: 'a/b' cannot name a baseline."),
        ({"save": "../x"}, "--energy-save: '../x' cannot name a baseline."),
        ({"baseline": ""}, "--energy-baseline: '' is not a text."),
        ({"max_seconds": "0"}, "--energy-max-seconds: 0.0 is not greater than zero."),
        ({"max_seconds": "soon"}, "--energy-max-seconds: 'soon' is not a quantity."),
        ({"confidence": "99"}, "--energy-confidence: 99.0 is not between 0.5 and 1."),
        ({"confidence": "nan"}, "--energy-confidence: nan is not a finite number."),
        ({"tolerance": "5 J"}, "--energy-tolerance: '5 J' is an energy, not a ratio."),
        ({"tolerance": "5"}, "--energy-tolerance: 5.0 is more than 1."),
        ({"enforce": "maybe"}, "--energy-enforce: 'maybe' is not one of fail, warn."),
    ],
)
def test_a_mistake_on_the_command_line_names_its_option(project: Project, given: dict[str, Any], problem: str) -> None:
    (told,) = project.problems(**given)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("budget = 1", "budget: 1 is not true or false."),
        ('strict = "yes"', "strict: 'yes' is not true or false."),
        ("total = -1", "total: -1 is not greater than zero."),
        ("meters = 'nvml,'", "meters: 'nvml,' is not a list of names."),
        ("meters = []", "meters: [] is not a list of names."),
        ("meters = [1]", "meters: [1] is not a list of names."),
        ("save = 1", "save: 1 is not a text."),
        ("json = ''", "json: '' is not a text."),
        ("max_seconds = '1 J'", "max_seconds: '1 J' is an energy, not a time."),
        ("confidence = 1", "confidence: 1 is not between 0.5 and 1."),
        ("confidence = true", "confidence: True is not a quantity."),
        ("tolerance = -0.1", "tolerance: -0.1 is negative."),
        ("floor = 1", "floor: 1 has no metric."),
        ("unmeasured = 'ignore'", "unmeasured: 'ignore' is not one of fail, warn, skip."),
        ("enforce = false", "enforce: False is not one of fail, warn."),
        ("domains = 'tpu'", "domains: 'tpu' is not a domain."),
        ("domains = 'tpu'\nmeters = ['nvml', 'rapl']", "domains: 'tpu' is not a domain."),
        ("domains = 'gpu; dram'\nmeters = ['wall']", "domains: 'gpu; dram' is not a domain."),
        ("domains = 'gpu0'\nmeters = ['wall']", "domains: 'gpu0' is not a domain."),
        ("accuracy_confidence = 2", "accuracy_confidence: 2 is not between 0.5 and 1."),
        ("unmetered = 0", "unmetered: 0 is not 'once', 'skip' or a number of queries."),
        ("unmetered = true", "unmetered: True is not 'once', 'skip' or a number of queries."),
        ("cpu_watts_per_core = '5'", "cpu_watts_per_core: '5' has no unit."),
        ("lock_folder = 1", "lock_folder: 1 is not a text."),
        ("allow = ['anything']", "allow: 'anything' cannot be allowed."),
        ("tolerence = 0.1", "'tolerence' is not a setting. Did you mean 'tolerance'?"),
        ("max-seconds = 5", "'max-seconds' is not a setting. Did you mean 'max_seconds'?"),
        ("zzz = 5", "'zzz' is not a setting. Known: budget"),
        ("budgets = 5", "budgets must be tables, one per test."),
        ("budgets = { a = 5 }", "budgets must be tables, one per test."),
        ("accept = 5", "accept must be a list of tables"),
    ],
)
def test_a_mistake_in_the_file_names_its_line(project: Project, written: str, problem: str) -> None:
    (told,) = project.problems(f"\n{written}")
    assert told.startswith(f"pyproject.toml:3: {problem}")


def test_a_mistake_in_a_budget_names_its_line_and_its_test(project: Project) -> None:
    told = project.problems('[tool.greencompute.budgets."t.py::test_y[1]"]\nenergy_per_query = "1"\n\nprefil = 3')
    assert told == [
        "pyproject.toml:3: energy_per_query: '1' has no unit. Write it like '0.8 J'"
        " (units: J, mJ, uJ, nJ, kJ, MJ, Wh, mWh, kWh, Ws). (budget of t.py::test_y[1])",
        told[1],
    ]
    assert told[1].startswith("pyproject.toml:5: 'prefil' is not a budget key.")


def test_all_mistakes_of_all_places_are_told_in_one_error(project: Project) -> None:
    told = project.problems("strict = 1\nzzz = 2\n[tool.greencompute.budgets.a]\naccuracy = 5", named="confidence = 7", total="5")
    assert len(told) == 5
    assert {line.partition(":")[0] for line in told} == {"pyproject.toml", "budgets.toml", "--energy-total"}


def test_a_table_that_is_none_is_told(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text("[tool]\ngreencompute = 5\n")
    (told,) = project.problems()
    assert told == "pyproject.toml:2: [tool.greencompute] must be a table."


def test_a_pyproject_without_a_word_of_us_is_fine_and_a_missing_named_file_is_not(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert not project.settings().enabled
    with pytest.raises(SettingsError, match=r"missing\.toml does not exist"):
        read_files(Where(project.folder, project.folder), "missing.toml")


# Accepted failures

ACCEPT = {"test": '"t.py::*"', "metric": '"energy_per_query"', "up_to": '"1 J"', "reason": '"known"', "expires": "2027-03-01"}


def accept(**changes: str | None) -> str:
    rows = [f"{key} = {value}" for key, value in {**ACCEPT, **changes}.items() if value is not None]
    return "[[tool.greencompute.accept]]\n" + "\n".join(rows)


@pytest.mark.parametrize("expires", ["2027-03-01", '"2027-03-01"', "2027-03-01T10:00:00Z"])
def test_an_accepted_failure_has_a_day_on_which_it_ends(project: Project, expires: str) -> None:
    (entry,) = project.settings(accept(expires=expires)).accept
    assert (entry.test, entry.metric.name, entry.up_to, entry.reason) == ("t.py::*", "energy_per_query", 1.0, "known")
    assert type(entry.expires) is datetime.date
    assert entry.expires == datetime.date(2027, 3, 1)
    assert entry.where == "pyproject.toml:2"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reason": None}, "reason missing. An accepted failure needs test, metric, up_to, reason, expires."),
        ({"reason": '""', "expires": None}, "reason, expires missing."),
        ({"metric": '"energy"'}, "'energy' is not a metric. Did you mean 'energy_per_query'?"),
        ({"up_to": '"1 s"'}, "'1 s' is a time, not an energy."),
        ({"expires": '"soon"'}, "expires = 'soon' is not a date."),
        ({"expires": "5"}, "expires = 5 is not a date."),
        ({"metric": '"error_rate"', "up_to": "1"}, "1 is all of them, so it can never fail."),
        ({"metric": '"accuracy"', "up_to": "92"}, "92 is more than 1."),
        ({"until": '"x"'}, "'until' is not a key of accept."),
        ({"test": "5"}, "5 is not a text."),
    ],
)
def test_a_mistake_in_an_accepted_failure_names_its_line(project: Project, changes: dict[str, str | None], problem: str) -> None:
    (told,) = project.problems(accept(**changes))
    assert told.startswith(f"pyproject.toml:2: accept: {problem}")


def test_reasoning_markers_are_two_texts_and_the_other_sides_get_the_same(project: Project) -> None:
    import json

    from pytest_greencompute.pairing.told import Told
    from pytest_greencompute.settings.sides import of_side

    assert project.settings().reasoning_markers is None
    assert project.settings('reasoning_markers = ["[r]", "[/r]"]').reasoning_markers == ("[r]", "[/r]")
    (problem,) = project.problems('reasoning_markers = ["<think>"]')
    assert problem.startswith("pyproject.toml:2: reasoning_markers: The reasoning markers are ['<think>']. Name two texts")
    told = Told(60.0, meters=("nvml",), reasoning_markers=("[r]", "[/r]")).to_json()
    assert of_side(Told.from_json(json.loads(json.dumps(told)))).reasoning_markers == ("[r]", "[/r]")
