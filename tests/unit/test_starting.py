"""What init finds in a project without running it, which library the first test is of, first limits, and the texts that are written."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telling import CPU, GPU, measured, told, with_energy

from pytest_greencompute import cli
from pytest_greencompute.judging.budget import parse_lines
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.settings.toml_edit import appended
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.starting import first_run
from pytest_greencompute.starting import found as finding
from pytest_greencompute.starting.code import module_name, read
from pytest_greencompute.starting.dependencies import in_pyproject, in_requirements, in_setup_cfg
from pytest_greencompute.starting.first_run import FirstRun, reason_in
from pytest_greencompute.starting.found import Home, Remote, forge_of, look, remote_of
from pytest_greencompute.starting.libraries import LIBRARIES, PLAIN, chosen, had, meters_benchmarks, missing
from pytest_greencompute.starting.limits import FirstLimits, limits_of, readable_above
from pytest_greencompute.starting.written import benchmark_budgets, first_test, install_line, pipeline, python_for, settings, stage_of
from pytest_greencompute.values.units import ENERGY, TIME, parse

BY_NAME = {each.name: each for each in LIBRARIES}
LIMITS = FirstLimits(("meter", "cputime"), {"energy_per_query": "8 mJ", "latency_p95": "10 ms"}, "2.6 mJ per query", 0.95)


def write(folder: Path, **files: str) -> Path:
    """Files by path, with __ for a slash and no ending for .py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


# --- dependencies ------------------------------------------------------------------------------------------------------


def test_packages_are_read_from_every_place_that_names_them() -> None:
    data: dict[str, Any] = {
        "project": {"dependencies": ["Torch>=2.2", "scikit_learn", 7], "optional-dependencies": {"x": ["onnxruntime; python_version<'4'"]}},
        "dependency-groups": {"dev": ["pytest-benchmark", {"include-group": "x"}]},
        "tool": {"poetry": {"dependencies": {"transformers": "^5"}, "group": {"ml": {"dependencies": {"openai": "*"}}}}},
    }
    assert in_pyproject(data) == {"torch", "scikit-learn", "onnxruntime", "pytest-benchmark", "transformers", "openai"}
    text = "# torch\ntorch==2.13 \\\n  --hash=sha256:0\nvllm[audio]>=1\n-r other.txt\ngit+https://x/openai\nllama.cpp_python @ https://x/y.whl\n./pkg\n"
    assert in_requirements(text) == {"torch", "vllm", "llama-cpp-python"}
    cfg = "[options]\ninstall_requires =\n  torch\n  numpy>=1\n[options.extras_require]\nall = scikit-learn\n"
    assert in_setup_cfg(cfg) == {"torch", "numpy", "scikit-learn"}


@pytest.mark.parametrize(
    "data",
    [{"project": 3}, {"project": {"dependencies": "torch"}}, {"tool": []}, {"dependency-groups": [1]}, {"tool": {"poetry": {"group": 3}}}],
)
def test_a_table_of_another_form_names_nothing(data: dict[str, Any]) -> None:
    assert in_pyproject(data) == frozenset()


@given(st.text())
def test_whatever_a_requirements_file_or_setup_cfg_holds_is_read_to_names(text: str) -> None:
    for name in in_requirements(text) | in_setup_cfg(text):
        assert name == name.lower()
        assert not set(name) & set(" \n\"'[]")


# --- code --------------------------------------------------------------------------------------------------------------


def test_callables_that_may_be_the_model_are_found_and_said_how_to_import() -> None:
    text = """
import torch.nn as nn
from sklearn import svm
from . import other
def predict(batch): ...
async def answer_all(prompts): ...
def predictable(x): ...
def score(): ...
def _rank(x): ...
class Net(nn.Module):
    def forward(self, x): ...
class Ranker:
    def rank(self): ...
    def rerank(self, texts): ...
class _Hidden:
    def predict(self, x): ...
"""
    file = read(text, "shop.model")
    assert file.imports == {"torch", "sklearn"}
    assert [each.line for each in file.suggestions] == [
        "from shop.model import predict",
        "from shop.model import answer_all  # async: await energy_meter.ameasure(…)",
        "from shop.model import Net  # Net(…)",
        "from shop.model import Ranker  # Ranker(…).rerank",
    ]
    assert read(text, "").suggestions == ()


def test_benchmarks_are_found_by_their_fixture() -> None:
    text = "def test_a(benchmark): ...\ndef test_b(x): ...\ndef helper(benchmark): ...\n"
    text += "class TestC:\n  def test_d(self, codspeed_benchmark): ..."
    assert read(text, "").benchmarks == ("test_a", "TestC::test_d")


@pytest.mark.parametrize("text", ["def (", "a\x00b", "(" * 10_000, "\ud800", "x = '\\d'\n"])
def test_a_file_that_is_no_python_tells_nothing(text: str) -> None:
    assert read(text, "x") == read("", "x")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("shop", "model.py"), "shop.model"),
        (("shop", "__init__.py"), "shop"),
        (("__init__.py",), ""),
        (("my-shop", "model.py"), ""),
        (("shop", "class.py"), ""),
        (("x\nimport os", "m.py"), ""),
        (("a'; rm", "m.py"), ""),
    ],
)
def test_only_what_can_be_imported_has_a_name(parts: tuple[str, ...], name: str) -> None:
    assert module_name(parts) == name


# --- a project ---------------------------------------------------------------------------------------------------------


def test_a_project_is_found_with_its_code_its_tests_and_its_benchmarks(tmp_path: Path) -> None:
    write(
        tmp_path,
        src__shop____init__="",
        src__shop__model="import sklearn\ndef predict(x): ...",
        spec__test_x="import torch\ndef test_a(benchmark): ...",
    )
    write(tmp_path, node_modules__x="def predict(x): ...", venv__lib__y="def predict(x): ...", setup="def predict(x): ...")
    write(tmp_path, own__lib__z="def predict(x): ...")
    (tmp_path / "own" / "pyvenv.cfg").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nrequires-python = ">=3.13"\n[tool.pytest.ini_options]\ntestpaths = ["../x", "nowhere", "spec"]\n',
        encoding="utf-8",
    )
    (tmp_path / "requirements-test.txt").write_text("pytest-benchmark\n", encoding="utf-8")
    home = look(tmp_path)
    assert home.declared == {"pytest-benchmark"}
    assert (home.imported, [each.line for each in home.suggestions]) == ({"sklearn"}, ["from shop.model import predict"])
    assert (home.benchmarks, home.tests, home.requirements) == (("spec/test_x.py::test_a",), "spec", ("requirements-test.txt",))
    assert home.installable
    assert home.whole
    assert home.code


@pytest.mark.parametrize(
    ("files", "hidden"),
    [
        ({"src/shop/model.py": ""}, "shop"),
        ({"src/shop/__init__.py": "", "pytest.ini": "[pytest]\npythonpath = src\n"}, ""),
        ({"src/shop.py": "", "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["src"]\n'}, ""),
        ({"src/shop.py": ""}, "shop"),
        ({"src/pytest/x.py": ""}, ""),
        ({"shop/model.py": ""}, ""),
        ({"src/tests/test_x.py": ""}, ""),
    ],
)
def test_code_below_src_is_hidden_from_tests_until_it_is_installed_or_pytest_is_told(
    files: dict[str, str], hidden: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert look(tmp_path).hidden == hidden


def test_an_empty_folder_declares_nothing(tmp_path: Path) -> None:
    assert look(tmp_path) == Home()


def test_bad_files_are_passed_by(tmp_path: Path) -> None:
    write(tmp_path, broken="def (", good="def predict(x): ...", large=f"def predict(x): ...\n#{'x' * finding.MOST_BYTES}")
    (tmp_path / "latin.py").write_bytes(b"# \xff\ndef embed(x): ...\n")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "itself.py").symlink_to(tmp_path / "itself.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "pyproject.toml").write_text("a = = b", encoding="utf-8")
    (tmp_path / "requirements.txt").symlink_to(tmp_path / "requirements.txt")
    (tmp_path / "setup.cfg").mkdir()
    assert [each.line for each in look(tmp_path).suggestions] == ["from good import predict", "from latin import embed"]


def test_a_huge_tree_is_looked_at_in_part_and_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, **{f"m{number}": "" for number in range(3)})
    monkeypatch.setattr(finding, "MOST_FILES", 2)
    assert not look(tmp_path).whole
    monkeypatch.setattr(finding, "MOST_FILES", 3)
    assert look(tmp_path).whole
    write(tmp_path, a__b__c="")
    monkeypatch.setattr(finding, "MOST_FOLDERS", 2)
    assert not look(tmp_path).whole


@pytest.mark.parametrize(
    ("addresses", "gitlab", "forge"),
    [
        (["origin\tgit@gitlab.com:me/x.git (fetch)"], False, "GitLab"),
        (["origin\thttps://user@gitlab.mine.org/me/github.git (fetch)"], False, "GitLab"),
        (["a\thttps://gitlab.com/x (fetch)", "origin\tssh://git@github.com:22/me/gitlab.git (fetch)"], False, "GitHub"),
        (["origin\t/srv/gitlab/x.git (fetch)"], False, "GitHub"),
        (["origin\tgit@git.mine.org:x.git (fetch)"], True, "GitLab"),
        (["odd"], False, "GitHub"),
        ([], False, "GitHub"),
    ],
)
def test_the_forge_is_that_of_the_remote(addresses: list[str], gitlab: bool, forge: str) -> None:
    assert forge_of(addresses, gitlab=gitlab)[0] == forge


def test_a_forge_that_is_assumed_says_what_makes_it_the_other() -> None:
    assert forge_of(["origin\tgit@git.mine.org:x.git (fetch)"], gitlab=False)[1] == (
        "assumed: the git remote is elsewhere; on a GitLab, make .gitlab-ci.yml first"
    )


def test_a_project_in_a_folder_of_its_repository_has_its_pipeline_at_the_top(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", "git@github.com:me/x.git"], check=True)
    for name, inside in (("a/b", "a/b"), ("with space", "")):
        (tmp_path / name).mkdir(parents=True)
        remote = remote_of(tmp_path / name, os.environ)
        assert (remote.forge, remote.inside) == ("GitHub", inside)
        assert remote.top.resolve() == (tmp_path if inside else tmp_path / name).resolve()


# --- which library -----------------------------------------------------------------------------------------------------


def everything(_: str) -> bool:
    return True


def nothing(_: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("home", "first"),
    [
        (Home(declared=frozenset({"torch", "scikit-learn"}), imported=frozenset({"sklearn"})), "scikit-learn"),
        (Home(declared=frozenset({"torch", "transformers", "sentence-transformers"})), "sentence-transformers"),
        (Home(declared=frozenset({"onnxruntime-gpu"})), "ONNX Runtime"),
        (Home(declared=frozenset({"openai"})), "a model server"),
        (Home(declared=frozenset({"flask"})), "plain Python"),
        (Home(), "sentence-transformers"),
        (Home(code=True), "plain Python"),
    ],
)
def test_the_library_is_what_the_code_imports_then_what_is_declared_then_what_is_installed(home: Home, first: str) -> None:
    assert chosen(had(home, everything), everything).name == first


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "found: no model yet; installed here: sentence-transformers, transformers,"),
        ({"words": "def longest(batch): ..."}, "found: plain Python;"),
        ({"words": "import torch"}, "found: torch;"),
    ],
    ids=["nothing", "plain", "torch"],
)
def test_what_is_only_installed_is_not_said_to_be_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, str], says: str
) -> None:
    monkeypatch.setattr("pytest_greencompute.commands.init.measured", lambda *_: FirstRun({}, "not tried"))
    monkeypatch.setattr("pytest_greencompute.commands.init.installed", everything)
    write(tmp_path, **files)
    assert cli.main(["init", str(tmp_path)]) == 0
    assert says in capsys.readouterr().out


def test_a_library_that_is_installed_comes_before_one_that_is_not() -> None:
    libraries = had(Home(declared=frozenset({"torch", "scikit-learn"})), nothing)
    assert chosen(libraries, lambda module: module == "sklearn").name == "scikit-learn"
    torch = chosen(libraries, nothing)
    assert (torch.name, missing(torch, nothing), missing(torch, everything)) == ("torch", "torch", "")


def test_benchmarks_are_metered_where_their_plugin_is() -> None:
    home = Home(benchmarks=("test_x.py::test_a",))
    assert not meters_benchmarks(home, nothing)
    assert meters_benchmarks(home, everything)
    assert meters_benchmarks(replace(home, declared=frozenset({"pytest-codspeed"})), nothing)
    assert not meters_benchmarks(Home(declared=frozenset({"pytest-benchmark"})), everything)


# --- limits ------------------------------------------------------------------------------------------------------------


@given(st.floats(1e-12, 1e9))
def test_a_readable_limit_is_above_and_near(value: float) -> None:
    for dimension in (ENERGY, TIME):
        assert value * (1 - 1e-6) <= parse(readable_above(value, dimension), dimension) <= 1.51 * value


def test_first_limits_have_headroom_over_the_figure_and_its_interval_and_hold_where_they_were_measured() -> None:
    session = Summary(True, Facts(sources=(GPU,)), ())
    result = told(measured())
    limits = limits_of(result, session)
    assert limits is not None
    assert (limits.on, limits.limits, limits.accuracy) == (("gpu", GPU.device), {"energy_per_query": "2 J", "latency_p95": "0.1 s"}, 0.89)
    assert limits.measured == "0.612 J per query, p95 31.2 ms (measured by nvml, NVIDIA H100 80GB HBM3)"
    wide = limits_of(with_energy(result, high=4.0), session)
    assert wide is not None
    assert wide.limits["energy_per_query"] == "6 J"
    modelled = limits_of(told(measured((CPU,))), Summary(True, Facts(sources=(CPU,)), ()))
    assert modelled is not None
    assert modelled.on == ("meter", "cputime")
    assert "modelled by cputime" in modelled.measured


@pytest.mark.parametrize(("seconds", "limit"), [(0.00116, "20 ms"), (0.0099, "30 ms"), (0.000_02, "60 us")])
def test_a_first_limit_of_latency_leaves_room_for_a_turn_that_others_take(seconds: float, limit: str) -> None:
    session, result = Summary(True, Facts(sources=(GPU,)), ()), told(measured())
    short = replace(result.metrics["latency_p95"], value=seconds, low=seconds, high=seconds)
    limits = limits_of(replace(result, metrics={**result.metrics, "latency_p95": short}), session)
    assert limits is not None
    assert limits.limits["latency_p95"] == limit


def test_no_limit_follows_from_a_figure_that_is_not_there_or_open() -> None:
    session = Summary(True, Facts(sources=(GPU,)), ())
    result = told(measured())
    assert limits_of(with_energy(result, high=None), session) is None
    assert limits_of(replace(result, metrics={}), session) is None
    assert limits_of(result, Summary(True, Facts(), ())) is None


def ruff(*words: str) -> int:
    """The status of a command of ruff for a text, the last word, without settings."""
    *command, text = words
    path = shutil.which("ruff", path=str(Path(sys.executable).parent)) or pytest.skip("ruff is not installed here")
    return subprocess.run([path, *command, "--isolated", "-"], input=text, text=True, check=False, capture_output=True).returncode


# --- texts -------------------------------------------------------------------------------------------------------------


TWO = [(LIMITS, replace(LIMITS, on=("gpu", name))) for name in ('A "GPU" 2', "A GPU \\ 2")]


@pytest.mark.parametrize("library", [*LIBRARIES, PLAIN], ids=lambda each: each.name)
@pytest.mark.parametrize("limits", [(LIMITS,), *TWO, ()], ids=["one", "two", "two, escaped", "wide"])
def test_each_first_test_is_python_with_a_marker_that_parses(library: Any, limits: tuple[FirstLimits, ...]) -> None:
    home = Home(suggestions=read("def predict(x): ...", "shop.model").suggestions)
    text = first_test(library, home, limits, day="2026-11-30", why_wide="" if limits else "E   no\nimport os")
    assert "#     from shop.model import predict\n" in text
    assert max(map(len, text.splitlines())) <= 140
    assert ruff("format", "--check", text) == ruff("check", text) == 0  # as most projects have it, 88 columns wide
    tree = ast.parse(text)
    (test,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "test_first_budget"]
    (marker,) = test.decorator_list
    assert isinstance(marker, ast.Call)
    written = {str(each.arg): ast.literal_eval(each.value) for each in marker.keywords}
    lines = parse_lines(written, lambda *_: "here")
    assert [dict(line.on) for line in lines[1:]] == [dict([each.on]) for each in limits]
    assert all("energy_per_query" in line.limits[None] for line in (lines[1:] if limits else lines))


def test_the_bare_test_has_no_limit_and_nothing_of_a_reason_is_code() -> None:
    assert "energy_budget(" not in first_test(PLAIN, Home())
    text = first_test(PLAIN, Home(), why_wide='x\nimport os\r"""')
    assert "import os" not in [line.strip() for line in text.splitlines()]


def test_limits_that_cannot_be_printed_are_refused() -> None:
    with pytest.raises(Exception, match="no name to print"):
        replace(LIMITS, on=("gpu", "a\nb"))
    with pytest.raises(Exception, match="energy_per_query"):
        replace(LIMITS, limits={})


def test_settings_and_budgets_of_benchmarks_are_toml_that_holds(tmp_path: Path) -> None:
    test = 'bench/test_x.py::test_a["q" \\ é]'
    path = tmp_path / "pyproject.toml"
    path.write_text(settings(benchmarks=True) + benchmark_budgets({test: [LIMITS]}, "2026-11-30"), encoding="utf-8")
    table = TomlFile(path).data["tool"]["greencompute"]
    assert table["benchmarks"] is True
    assert table["budgets"] == {test: {"on": [{"meter": "cputime", **LIMITS.limits}]}}


def test_the_pipeline_installs_what_the_project_needs() -> None:
    home = Home(requirements=("requirements.txt", "requirements-dev.txt", "requirements/x.txt"), extras=frozenset({"test", "docs"}))
    plain = install_line(replace(home, installable=True), PLAIN)
    assert plain == "python -m pip install pytest-greencompute -e '.[test]' -r requirements.txt -r requirements-dev.txt"
    assert install_line(Home(groups=frozenset({"dev"})), BY_NAME["a model server"]) == (
        "python -m pip install 'pip>=25.1' && python -m pip install 'pytest-greencompute[serving]' --group dev"
    )


@pytest.mark.parametrize(
    ("home", "line"),
    [
        (Home(), "pytest-greencompute scikit-learn"),
        (Home(declared=frozenset({"numpy"}), requirements=("requirements.txt",)), "pytest-greencompute scikit-learn -r requirements.txt"),
        (Home(declared=frozenset({"scikit-learn"}), requirements=("requirements.txt",)), "pytest-greencompute -r requirements.txt"),
        (Home(declared=frozenset({"scikit-learn"}), installable=True), "pytest-greencompute -e ."),
        (Home(declared=frozenset({"scikit-learn"})), "pytest-greencompute scikit-learn"),
    ],
)
def test_the_pipeline_installs_the_library_that_nothing_else_brings(home: Home, line: str) -> None:
    assert install_line(home, BY_NAME["scikit-learn"]) == f"python -m pip install {line}"


@pytest.mark.parametrize(
    ("text", "installable"),
    [
        ('[project]\nname = "x"\n', True),
        ('[tool.poetry]\nname = "x"\n[build-system]\nbuild-backend = "poetry.core.masonry.api"\n', True),
        ('[tool.poetry]\nname = "x"\npackage-mode = false\n[build-system]\nbuild-backend = "poetry.core.masonry.api"\n', False),
        ('[tool.poetry]\nname = "x"\n', False),
        ("[tool.greencompute]\n", False),
    ],
)
def test_what_pip_can_install_is_known_from_the_file(text: str, installable: bool, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert look(tmp_path).installable == installable


@pytest.mark.parametrize(
    ("asked", "python"),
    [
        *[("", "3.12"), (">=3.13", "3.13"), (">=3.9,<3.12", "3.11"), ("==3.10.*", "3.10"), ("nonsense", "3.12"), (">=4.0", "3.12")],
        *[("~=3.10", "3.12"), ("~=3.10.2", "3.10"), (">=3.10,!=3.12.*", "3.13"), ("!=3.12.1", "3.12"), (">3.11", "3.12")],
    ],
)
def test_the_pipeline_has_a_python_that_the_project_asks_for(asked: str, python: str) -> None:
    assert python_for(asked) == python


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("", "test"),
        ("stages: [build, test]", "test"),
        ("stages: [build, 'deploy']", "build"),
        ("stages:\n  - lint # test\n  - go\n", "lint"),
    ],
)
def test_the_job_is_in_a_stage_that_the_pipeline_has(text: str, stage: str) -> None:
    assert stage_of(text) == stage


@pytest.mark.parametrize("forge", ["GitHub", "GitLab"])
def test_a_pipeline_leaves_no_word_to_be_filled_in(forge: str, tmp_path: Path) -> None:
    text = pipeline(Home(), Remote(forge, "", tmp_path, "a/b"), PLAIN)
    assert not {"PYTHON", "INSTALL", "PYTEST", "STAGE", "INSIDE"} & set(text.replace("-", " ").split())
    assert "a/b/energy.json" in text


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("E   ModuleNotFoundError: No module named 'x'\n=== 1 error in 0.1s ===\n", "ModuleNotFoundError: No module named 'x'"),
        ("/usr/bin/python: No module named pytest\n", "/usr/bin/python: No module named pytest"),
        ("all\nfine\n=====\n", "fine"),
        ("", ""),
    ],
)
def test_the_reason_is_the_last_line_that_tells_one(said: str, reason: str) -> None:
    assert reason_in(said) == reason


# In the place of pytest: it starts something that stays, and goes or stays itself.
STARTS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
pathlib.Path("child").write_text(str(child.pid))
print("ValueError: no")
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process is read from /proc")
@pytest.mark.parametrize(
    ("then", "why"), [("", "ValueError: no"), ("time.sleep(30)", "pytest had not ended after 2 s")], ids=["goes", "stays"]
)
def test_what_pytest_starts_neither_holds_a_first_run_up_nor_outlives_its_limit(
    then: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pytest.py").write_text(STARTS + then, encoding="utf-8")
    monkeypatch.setattr(first_run, "LONGEST_S", 2.0)
    assert first_run.measured(["test_it.py"], tmp_path, os.environ).why_not == why
    child = (tmp_path / "child").read_text(encoding="utf-8")
    if not then:
        os.kill(int(child), signal.SIGKILL)
    until = time.monotonic() + 10  # a process that was ended is not gone at once
    while lives(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not lives(child)


def lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_tables_are_appended_only_where_the_text_stays_toml() -> None:
    assert appended("", "a = 1\n") == "a = 1\n"
    assert appended("[x]\r\n\r\n", "\n[y]\na = 1\n") == "[x]\r\n\r\n[y]\r\na = 1\r\n"
    assert appended("tool = {}", settings()) is None
    assert appended("[tool.greencompute]", settings()) is None
