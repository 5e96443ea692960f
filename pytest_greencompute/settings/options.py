"""The table of options: ``--energy-<name>`` and its TOML twin. Help and settings come from it; a test holds the docs against it.

Importing this is part of every pytest start where the plugin is installed, so it imports nothing, and Option is a plain class
(a dataclass costs milliseconds to make).
"""

from __future__ import annotations


class Option:
    """One option: ``--energy-<name>`` and its TOML twin, ``name`` with underscores.

    ``choices`` and ``metavar`` as in argparse; a ``flag`` takes no value. ``needs_budget``: on the command line it means nothing
    without ``--energy-budget``, so alone it is an error rather than silence. ``twin`` False: a file may not say it.
    """

    __slots__ = ("choices", "dest", "flag", "help", "key", "metavar", "name", "needs_budget", "twin")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        flag: bool = False,
        metavar: str | None = None,
        choices: tuple[str, ...] | None = None,
        needs_budget: bool = False,
        twin: bool = True,
    ) -> None:
        self.name = name
        self.help = help
        self.flag = flag
        self.metavar = metavar
        self.choices = choices
        self.needs_budget = needs_budget
        self.twin = twin
        self.key = name.replace("-", "_")
        self.dest = f"energy_{self.key}"


OPTIONS = (
    Option("budget", "measure the tests that use energy_meter and enforce their energy, latency and accuracy budgets", flag=True),
    Option("budget-file", "read settings and budgets from this TOML file (default: pyproject.toml)", metavar="PATH"),
    Option("total", 'budget for the whole session, such as "5 kJ"', metavar="QUANTITY", needs_budget=True),
    Option("only", "run only the tests that use energy_meter", flag=True),
    Option("skip", "run all but the tests that use energy_meter", flag=True),
    Option("meter", "meters in order of preference, such as nvml,rapl,cputime (default: nvml,rapl)", metavar="NAME,...", needs_budget=True),
    Option("save", "save this session's runs to a baseline, unless a budget failed", metavar="NAME", needs_budget=True),
    Option("baseline", "judge against the saved runs of a baseline", metavar="NAME", needs_budget=True),
    Option(
        "base-ref",
        "judge against the same tests at these commits, measured by turns with this one: a branch, tag, commit or merge-base:BRANCH",
        metavar="REF,...",
        needs_budget=True,
    ),
    Option("base-python", "the Python that runs the tests at the other commits (default: this one)", metavar="PATH", needs_budget=True),
    Option(
        "base-turns",
        "what takes turns with the other commit: sets (default), or whole launches, where two models do not fit into the memory",
        choices=("sets", "launches"),
        needs_budget=True,
    ),
    Option(
        "launches", "fresh launches of both sides that a PASS against another commit needs (default: 1)", metavar="N", needs_budget=True
    ),
    Option(
        "explain",
        "after a FAIL against a commit, say where in the model the difference is, for at most 15 s (default: on)",
        choices=("on", "off", "always"),
        needs_budget=True,
    ),
    Option(
        "update",
        "write what was measured, plus headroom, into the budget file: limits that become stricter (tighten), or laxer (loosen)",
        choices=("tighten", "loosen"),
        needs_budget=True,
        twin=False,  # a file that says so would rewrite itself in every session
    ),
    Option(
        "max-seconds",
        "all that a test may cost, loading aside (default: 60 a run, and 240 more for each other commit)",
        metavar="S",
        needs_budget=True,
    ),
    Option("confidence", "confidence of intervals and verdicts (default: 0.99)", metavar="C"),
    Option("tolerance", "how much worse than a baseline is still fine (default: 5%%)", metavar="P", needs_budget=True),
    Option("enforce", "what a failed budget does (default: fail)", choices=("fail", "warn")),
    Option("inconclusive", "what an interval that holds the limit does (default: warn)", choices=("warn", "fail")),
    Option("unmeasured", "what a budget without a figure does (default: fail in CI, else warn)", choices=("fail", "warn", "skip")),
    Option("modelled", "what a modelled energy figure does (default: warn)", choices=("warn", "fail")),
    Option("strict", "fail on inconclusive, unmeasured and modelled", flag=True),
    Option("json", "write the JSON report here", metavar="PATH"),
    Option("html", "write the report here as one HTML page that works offline", metavar="PATH"),
    Option("markdown", "write the report here as Markdown, for a comment on a pull request", metavar="PATH"),
    Option("codecarbon-csv", "add the session as a row to this file, in the columns of CodeCarbon's emissions.csv", metavar="PATH"),
    Option("mlflow", "log the figures to this experiment of MLflow's", metavar="EXPERIMENT"),
    Option("opentelemetry", "send the figures as OpenTelemetry metrics, where the OTEL_ variables say", flag=True),
    Option("openmetrics", "write the figures here as OpenMetrics text, for GitLab and Prometheus", metavar="PATH"),
    Option(
        "github",
        "job summary, annotations and step outputs for GitHub Actions (default: on where GITHUB_ACTIONS is true)",
        choices=("on", "off"),
    ),
    Option(
        "advise",
        "try the known levers on what the tests measure, and say what would make it cheaper",
        flag=True,
        needs_budget=True,
        twin=False,  # a file that says so would make every session take minutes
    ),
    Option(
        "advise-students",
        "--energy-advise, which tries small models, too, that are fitted on today's answers (scikit-learn)",
        flag=True,
        needs_budget=True,
        twin=False,
    ),
    Option("benchmarks", "meter the tests that use the fixture of pytest-benchmark or pytest-codspeed, too", flag=True, needs_budget=True),
    Option(
        "xdist",
        "let pytest-xdist's workers measure at the same time, each on a GPU of its own",
        choices=("gpu-per-worker",),
        needs_budget=True,
    ),
)
