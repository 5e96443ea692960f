"""What a test gets back: the answers, and every figure of the run as a quantity that can be asserted on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, overload

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:  # every test has a run, and few that are not metered ask it for a figure
    from pytest_greencompute.estimates.estimate import Aim, Estimate, Outcome

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class MetricProperty:
    """A property of a run: the figure of the metric that is called like it, in SI units. Its documentation says what it is and needs."""

    def __init__(self, says: str) -> None:
        self.__doc__ = says

    def __set_name__(self, owner: type, name: str) -> None:
        self._metric = name

    @overload
    def __get__(self, run: None, owner: type) -> MetricProperty: ...
    @overload
    def __get__(self, run: MeasuredRun, owner: type) -> Estimate: ...
    def __get__(self, run: MeasuredRun | None, owner: type) -> MetricProperty | Estimate:
        return self if run is None else run._figure(self._metric)

    def __set__(self, run: MeasuredRun, value: object) -> NoReturn:
        raise AttributeError(f"{self._metric} was measured and cannot be set")


class MeasuredRun:
    """One measured run. Figures compare with SI numbers and with strings: ``run.energy_per_query < "0.8 J"``.

    Such a comparison uses the point estimate; budgets use the whole interval. Asking a run that was not metered
    (no ``--energy-budget``) for a figure that needs a meter skips the rest of the test, saying why; outside of a test it raises MeterError.
    Asking a metered run for a figure that could not be had, or is only a bound, raises MeterError with the reason.
    """

    __slots__ = ("_asked", "_outputs", "_unmetered", "raw")

    def __init__(self, raw: Run, outputs: list[Any] | None, aim: Aim | Callable[[], Aim], unmetered: Callable[[str], NoReturn]) -> None:
        """``outputs`` None: the answers stayed in another process. ``unmetered`` is called with the metric that only a meter could tell."""
        self.raw = raw
        self._outputs = outputs
        self._asked = aim
        self._unmetered = unmetered

    @property
    def _aim(self) -> Aim:
        """What is asked of a figure, worked out where one is."""
        return self._asked() if callable(self._asked) else self._asked

    def __repr__(self) -> str:
        return (
            f"<MeasuredRun {self.raw.name or self.raw.test or ''} {self.raw.queries} queries{'' if self.raw.metered else ', not metered'}>"
        )

    def outcome(self, metric: str) -> Outcome:
        """The estimate of a metric by name, or the reason why there is none."""
        from pytest_greencompute.estimates.asserted import outcome

        return outcome(self.raw, self._aim, metric)

    def _figure(self, metric: str) -> Estimate:
        from pytest_greencompute.estimates.asserted import certain

        if METRICS[metric].needs_meter and not self.raw.metered:
            self._unmetered(metric)
        return certain(self.raw, self._aim, metric)

    @property
    def outputs(self) -> list[Any]:
        """The model's answers in query order. Raises SettingsError where they stayed in another process."""
        if self._outputs is None:
            raise SettingsError("The answers stayed in the process of its card.", remedy="Measure without spread=True to look at them.")
        return self._outputs

    @property
    def queries(self) -> int:
        """How many queries the run was given."""
        return self.raw.queries

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about this run for people: a generator collected, a set lost, a warm-up cut short."""
        return self.raw.notes

    energy_per_query = MetricProperty("Joules per query, idle power while busy included.")
    energy_above_idle_per_query = MetricProperty("Joules per query beyond what the device would have drawn idle in the same time.")
    average_power = MetricProperty("Watts while busy.")
    latency_p50 = MetricProperty("Seconds; a query's latency is that of its batch.")
    latency_p90 = MetricProperty("Seconds; the interval needs 51 batches to be closed on both sides.")
    latency_p95 = MetricProperty("Seconds; the interval needs 104 batches to be closed on both sides.")
    latency_p99 = MetricProperty("Seconds; the interval needs 528 batches to be closed on both sides.")
    throughput = MetricProperty("Queries per second while busy.")
    energy_per_token = MetricProperty("Joules per generated token; needs ``tokens=`` of ``measure``.")
    tokens_per_query = MetricProperty("Generated tokens per query; needs ``tokens=`` of ``measure``, or of ``watch``.")
    reasoning_tokens_per_query = MetricProperty("Generated tokens per query between the reasoning markers.")
    reasoning_default = MetricProperty("The same tokens, of an application that sets no flag; ``notes`` name the flags that it did set.")
    generative_share = MetricProperty("The share of the queries that reached a watched model.")
    model_calls_per_query = MetricProperty("Calls of watched models per query.")
    carbon_per_query = MetricProperty("kg of CO2e per query; needs ``country`` or ``carbon_intensity`` in the settings.")
    cost_per_query = MetricProperty("Cost of the electricity of a query, in the currency of ``electricity_price`` in the settings.")
    flops_per_query = MetricProperty(
        "Floating-point operations per query, as torch counts them; needs a budget on it, or ``count=`` of ``measure``."
    )
    peak_memory = MetricProperty(
        "Bytes held at most, of the GPUs where one is used, else of the process; needs a budget on it, or ``count=``."
    )
    page_faults_per_query = MetricProperty("Pages that a query made the system map; needs a budget on it, or ``count=``.")
    padding_share = MetricProperty(
        "The share of the positions of a Generator's batches that was padding; needs a budget on it, or ``count=`` of ``measure``."
    )
    accuracy = MetricProperty("Mean score of the queries, each counted once.")
