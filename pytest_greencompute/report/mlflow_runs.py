"""A session in MLflow: an experiment's run for the session, and below it one for each measured run, from the one table of metrics.

Where it goes is MLflow's own setting (``MLFLOW_TRACKING_URI`` and the like). Figures are in SI units; the unit of each is a tag.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report.escape import printable, shortened
from pytest_greencompute.results.result import Result
from pytest_greencompute.results.summary import Summary

ENDS = {"value": "", "low": ".low", "high": ".high"}
LONGEST_PARAM = 500  # characters that every store of MLflow's takes
LONGEST_NAME = 250
# The slim package that our extra installs (mlflow-skinny) opens no database, MLflow's default; since 3.17 files are asked for twice.
REMEDY = (
    "MLFLOW_TRACKING_URI says where runs go: the http address of a server, or, with MLFLOW_ALLOW_FILE_STORE=true, a folder (file:./mlruns)."
    " The database that is MLflow's default needs `pip install mlflow`."
)


def make(summary: Summary, experiment: str, _: Path) -> None:
    """Log the session to ``experiment``, which is made where there is none. Raises SettingsError in MLflow's words where it cannot."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        session = client.create_run(number, run_name="pytest", tags=_of_session(summary)).info.run_id
        if summary.facts.total_j is not None:
            client.log_metric(session, "session_energy", summary.facts.total_j)
        client.log_metric(session, "session_duration", summary.facts.seconds)
        for run in summary.results:
            _send_run(client, number, session, run)
        client.set_terminated(session, "FAILED" if summary.red else "FINISHED")
    except (MlflowException, ImportError) as error:  # what a store needs may not be installed
        said = shortened(" ".join(printable(str(error)).split()))
        raise SettingsError(f"MLflow refused it: {said}", remedy=REMEDY) from error


def _send_run(client: Any, experiment: str, session: str, run: Result) -> None:
    from mlflow.entities import Metric, Param, RunTag

    called = f"{run.test} {run.name or ''}".strip()
    tags = {"mlflow.parentRunId": session, "verdict": _word(run)}
    metrics = []
    for name, figure in run.metrics.items():
        tags[f"unit.{name}"] = figure.unit
        values = ((end, getattr(figure, part)) for part, end in ENDS.items())
        metrics += [Metric(f"{name}{end}", value, 0, 0) for end, value in values if value is not None]
        tags |= {f"{key}.{name}": value for key, value in (("domain", figure.domain), ("method", figure.method)) if value}
    for verdict in run.verdicts:
        tags[f"verdict.{verdict.metric}.{verdict.kind}"] = verdict.word
    params = {
        "test": run.test,
        "run": run.name or "",
        "queries": run.queries,
        "batch_size": "" if run.provenance.batch_size is None else run.provenance.batch_size,
    }
    made = client.create_run(experiment, run_name=shortened(printable(called), LONGEST_NAME)).info.run_id
    client.log_batch(
        made,
        metrics,
        [Param(name, shortened(printable(str(value)), LONGEST_PARAM)) for name, value in params.items()],
        [RunTag(name, shortened(printable(value), LONGEST_PARAM)) for name, value in tags.items()],
    )
    client.set_terminated(made, "FAILED" if run.red else "FINISHED")


def _word(run: Result) -> str:
    words = [verdict.word for verdict in run.verdicts]
    return ", ".join(dict.fromkeys(words)) or "no budget"


def _of_session(summary: Summary) -> dict[str, str]:
    facts = summary.facts
    about = {
        "headline": summary.headline,
        "commit": facts.machine.commit,
        "cpu": facts.machine.cpu,
        "devices": ", ".join(each.device for each in facts.sources),
        "why_no_total": facts.why_no_total,
    }
    return {name: shortened(printable(str(value)), LONGEST_PARAM) for name, value in about.items() if value}
