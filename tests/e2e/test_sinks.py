"""--energy-codecarbon-csv, --energy-mlflow, --energy-opentelemetry: the figures where people collect theirs, through the real libraries."""

from __future__ import annotations

import csv
import gzip
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project
from .test_bad_input import refused

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_lean(energy_meter, world):
        energy_meter.measure(world.model(joules=0.5), ["a", "b"])

    @pytest.mark.energy_budget(small={"energy_per_query": "1 J"})
    @pytest.mark.parametrize("n", ["::error::", "<b>|é"])
    def test_rich(energy_meter, world, n):
        energy_meter.measure(world.model(joules=1.5), ["a", "b"], batch_size=2, name="small")
"""


@pytest.fixture(scope="module", autouse=True)
def _loaded_outside_of_inner_runs() -> None:
    """pytester forgets what an inner run imported; the finder of packages that OpenTelemetry puts in must not go with it."""
    for name in ("opentelemetry.exporter.otlp.proto.http.metric_exporter", "opentelemetry.sdk.metrics.export", "mlflow"):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)


@pytest.fixture
def measured(project: Project) -> Project:
    project.write("test_it.py", TESTS)
    return project


# CodeCarbon


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_session_is_a_row_that_codecarbon_and_pandas_read(measured: Project) -> None:
    pandas: Any = pytest.importorskip("pandas")
    measured.toml('carbon_intensity = "360 g/kWh"\npue = 1.5')
    for _ in range(2):
        measured.measure("--energy-codecarbon-csv=emissions.csv", "--energy-json=energy.json").assert_outcomes(passed=1, failed=2)
    first, second = rows(measured.path / "emissions.csv")
    joules = measured.report()["session"]["energy_j"]
    assert float(second["energy_consumed"]) == pytest.approx(joules / 3.6e6)
    assert float(second["gpu_energy"]) == pytest.approx(joules / 3.6e6)
    assert float(second["emissions"]) == pytest.approx(joules / 3.6e6 * 0.36 * 1.5)
    assert float(second["gpu_power"]) == pytest.approx(joules / float(second["duration"]))
    assert (second["cpu_energy"], second["ram_energy"], second["water_consumed"]) == ("", "", "")  # unknown, and no zero
    assert first["run_id"] != second["run_id"]
    table = pandas.read_csv(measured.path / "emissions.csv")
    assert table["cpu_energy"].isna().all()
    assert pandas.to_datetime(table["timestamp"]).notna().all()


def test_a_file_of_codecarbons_own_is_added_to_and_codecarbon_adds_to_ours(measured: Project) -> None:
    pytest.importorskip("codecarbon")
    from codecarbon.output_methods.emissions_data import EmissionsData
    from codecarbon.output_methods.file import FileOutput

    fields = {name: 1.0 if kind in {float, "float"} else "x" for name, kind in EmissionsData.__annotations__.items()}
    theirs = EmissionsData(**fields)
    output = FileOutput("emissions.csv", str(measured.path))
    output.out(theirs, theirs)
    measured.measure("--energy-codecarbon-csv=emissions.csv").assert_outcomes(passed=1, failed=2)
    output.out(theirs, theirs)
    found = rows(measured.path / "emissions.csv")
    assert [each["project_name"] for each in found] == ["x", measured.path.name, "x"]
    assert found[1]["emissions"] == ""  # nobody set an intensity
    assert not list(measured.path.glob("*.bak*"))


def test_a_file_with_other_columns_is_left_as_it_is_and_refused_before_anything_is_measured(measured: Project) -> None:
    path = measured.write("emissions.csv", "a,b\n1,2\n")
    refused(
        measured.measure("--energy-codecarbon-csv=emissions.csv"), "has not the columns of CodeCarbon 3.3's emissions.csv. Name another"
    )
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n"
    refused(measured.measure("--energy-codecarbon-csv=emissions.csv/more.csv"), "more.csv cannot be written: Not a directory.")
    (measured.path / "folder").mkdir()
    refused(measured.measure("--energy-codecarbon-csv=folder"), "folder cannot be written: Is a directory.")


def test_where_a_file_got_other_columns_meanwhile_the_verdicts_stand(measured: Project) -> None:
    measured.write("test_more.py", "def test_lean_more():\n    open('emissions.csv', 'w').write('a,b\\n1,2\\n')\n")
    result = measured.measure("--energy-codecarbon-csv=emissions.csv", "-k", "lean")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*row for CodeCarbon's CSV*not the columns of CodeCarbon 3.3's emissions.csv*Name another file*"])
    assert (measured.path / "emissions.csv").read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_a_row_may_begin_a_file_in_a_folder_that_is_not_there_yet(measured: Project) -> None:
    measured.measure("--energy-codecarbon-csv=new/emissions.csv", "-k", "lean")
    assert len(rows(measured.path / "new" / "emissions.csv")) == 1


# MLflow


def test_mlflow_has_a_run_for_the_session_and_one_for_each_measured_run(measured: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    where = (measured.path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    measured.measure("--energy-mlflow=models").assert_outcomes(passed=1, failed=2)
    client = mlflow.MlflowClient(where)
    runs = client.search_runs([client.get_experiment_by_name("models").experiment_id])
    (session,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    parts = {run.data.params["test"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == session.info.run_id}
    assert set(parts) == {"test_it.py::test_lean", "test_it.py::test_rich[::error::]", "test_it.py::test_rich[<b>|\\xe9]"}
    lean = parts["test_it.py::test_lean"]
    assert lean.data.metrics["energy_per_query"] == pytest.approx(0.5)
    assert lean.data.metrics["energy_per_query.low"] <= 0.5
    assert lean.data.tags["unit.energy_per_query"] == "J"
    assert (lean.data.tags["verdict"], lean.info.status) == ("PASS", "FINISHED")
    rich = parts["test_it.py::test_rich[::error::]"]
    assert (rich.data.params["batch_size"], rich.data.params["run"]) == ("2", "small")
    assert (rich.data.tags["verdict"], rich.info.status) == ("FAIL", "FAILED")
    assert session.data.metrics["session_energy"] > 0
    assert session.info.status == "FAILED"


def test_an_mlflow_that_refuses_is_a_report_that_failed(measured: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://here")
    result = measured.measure("--energy-mlflow=models", "-k", "lean")
    result.assert_outcomes(passed=1, deselected=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*report to MLflow*MLFLOW_TRACKING_URI says where runs go*"])


def test_the_lines_of_the_how_to_run_as_they_stand(measured: Project) -> None:
    pytest.importorskip("mlflow")
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "send-metrics.md").read_text(encoding="utf-8")
    block = re.search(r"^## MLflow\n+```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    install, *lines = block[1].splitlines()
    assert install == 'pip install "pytest-greencompute[mlflow]"'
    here = f'pytest() {{ "{sys.executable}" -m pytest --energy-max-seconds=1 "$@"; }}\n'
    script = here + "\n".join(lines)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(["bash", "-c", script], cwd=measured.path, env=environ, capture_output=True, text=True, check=False)
    assert "MLflow refused" not in done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout
    assert list((measured.path / "mlruns").rglob("energy_per_query"))


def test_a_store_that_the_slim_package_cannot_open_is_named_with_what_opens_it(measured: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    if importlib.util.find_spec("sqlalchemy") is not None:
        pytest.skip("the whole of MLflow is installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(measured.path)
    result = measured.measure("--energy-mlflow=models", "-k", "lean")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*report to MLflow*MLFLOW_ALLOW_FILE_STORE=true*pip install mlflow*"])


# OpenTelemetry


class Collector:
    """A collector on loopback that keeps what it was sent."""

    def __init__(self) -> None:
        got: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        self.got = got
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def resources(self) -> list[Any]:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        return [each for body in self.got for each in ExportMetricsServiceRequest.FromString(body).resource_metrics]

    def services(self) -> set[str]:
        """The names under which the figures came."""
        attributes = [each for resource in self.resources() for each in resource.resource.attributes]
        return {each.value.string_value for each in attributes if each.key == "service.name"}

    def points(self) -> dict[str, list[Any]]:
        """The points by the name of their metric."""
        found: dict[str, list[Any]] = {}
        for resource in self.resources():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    shown = metric.gauge if metric.HasField("gauge") else metric.sum
                    found.setdefault(f"{metric.name} {metric.unit}", []).extend(shown.data_points)
        return found


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.address)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_opentelemetry_gets_a_gauge_for_each_metric(measured: Project, collector: Collector) -> None:
    measured.measure("--energy-opentelemetry").assert_outcomes(passed=1, failed=2)
    points = collector.points()
    energies = {
        {each.key: each.value.string_value for each in point.attributes}["test"]: point
        for point in points["greencompute.energy_per_query J"]
    }
    lean = {each.key: each.value.string_value for each in energies["test_it.py::test_lean"].attributes}
    assert lean == {"test": "test_it.py::test_lean", "domain": "gpu:0", "method": "counter", "verdict": "PASS"}
    assert energies["test_it.py::test_lean"].as_double == pytest.approx(0.5)
    assert len(energies) == 3
    assert "greencompute.latency_p95 s" in points
    assert points["greencompute.session_energy J"][0].as_double > 0
    (hardware,) = points["hw.energy J"]
    named = {each.key: each.value.string_value for each in hardware.attributes}
    assert (named["hw.type"], named["hw.id"][:4], bool(named["hw.name"])) == ("gpu", "GPU-", True)
    assert hardware.as_double == pytest.approx(points["greencompute.session_energy J"][0].as_double)


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        ({}, "pytest-greencompute"),
        ({"OTEL_SERVICE_NAME": "ours"}, "ours"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,team=a"}, "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=a"}, "pytest-greencompute"),
    ],
)
def test_the_service_is_ours_unless_a_variable_names_another(
    measured: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], service: str
) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    measured.measure("--energy-opentelemetry", "-k", "lean").assert_outcomes(passed=1, deselected=2)
    assert collector.services() == {service}


def test_a_provider_that_the_program_has_set_gets_them(measured: Project) -> None:
    pytest.importorskip("opentelemetry.sdk")
    measured.write(
        "conftest.py",
        (measured.path / "conftest.py").read_text(encoding="utf-8")
        + """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))
""",
    )
    result = measured.run_apart("--energy-budget", "--energy-opentelemetry", "--energy-max-seconds=1", "-k", "lean")
    result.assert_outcomes(passed=1, deselected=2)
    assert '"greencompute.energy_per_query"' in result.stdout.str()


def test_a_collector_that_is_not_there_is_a_report_that_failed_and_no_hang(measured: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    result = measured.measure("--energy-opentelemetry", "-k", "lean")
    result.assert_outcomes(passed=1, deselected=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*report to OpenTelemetry*No collector took the figures at http://127.0.0.1:9*"])
