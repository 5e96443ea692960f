"""What a test gets back: the answers, and every figure of the run as a quantity that can be asserted on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:  # every test has a run, and few that are not metered ask it for a figure
    from pytest_greencompute.estimates.estimate import Aim, Estimate, Outcome

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class MeasuredRun:
    """One measured run. Figures compare with SI numbers and with strings: ``run.energy_per_query < "0.8 J"``.

    Such a comparison uses the point estimate; budgets use the whole interval. Asking a run that was not metered
    (no ``--energy-budget``) for a figure that needs a meter calls ``unmetered``, which in a test skips the rest, saying why.
    Asking a metered run for a figure that could not be had, or is only a bound, raises MeterError with the reason.
    """

    __slots__ = ("_asked", "_unmetered", "outputs", "raw")

    def __init__(self, raw: Run, outputs: list[Any], aim: Aim | Callable[[], Aim], unmetered: Callable[[str], NoReturn]) -> None:
        self.raw = raw
        self.outputs = outputs
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
    def queries(self) -> int:
        """How many queries the run was given."""
        return self.raw.queries

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about this run for people: a generator collected, a set lost, a warm-up cut short."""
        return self.raw.notes

    @property
    def energy_per_query(self) -> Estimate:
        """Joules per query, idle power while busy included."""
        return self._figure("energy_per_query")

    @property
    def energy_above_idle_per_query(self) -> Estimate:
        """Joules per query beyond what the device would have drawn idle in the same time."""
        return self._figure("energy_above_idle_per_query")

    @property
    def average_power(self) -> Estimate:
        """Watts while busy."""
        return self._figure("average_power")

    @property
    def latency_p50(self) -> Estimate:
        """Seconds; a query's latency is that of its batch."""
        return self._figure("latency_p50")

    @property
    def latency_p95(self) -> Estimate:
        """Seconds; the interval needs 104 batches to be closed on both sides."""
        return self._figure("latency_p95")

    @property
    def latency_p99(self) -> Estimate:
        """Seconds; the interval needs 528 batches to be closed on both sides."""
        return self._figure("latency_p99")

    @property
    def throughput(self) -> Estimate:
        """Queries per second while busy."""
        return self._figure("throughput")

    @property
    def energy_per_token(self) -> Estimate:
        """Joules per generated token; needs ``tokens=`` of ``measure``."""
        return self._figure("energy_per_token")

    @property
    def tokens_per_query(self) -> Estimate:
        """Generated tokens per query; needs ``tokens=`` of ``measure``, or of ``watch``."""
        return self._figure("tokens_per_query")

    @property
    def reasoning_tokens_per_query(self) -> Estimate:
        """Generated tokens per query between the reasoning markers."""
        return self._figure("reasoning_tokens_per_query")

    @property
    def reasoning_default(self) -> Estimate:
        """The same tokens, of an application that sets no flag; ``notes`` name the flags that it did set."""
        return self._figure("reasoning_default")

    @property
    def generative_share(self) -> Estimate:
        """The share of the queries that reached a watched model."""
        return self._figure("generative_share")

    @property
    def model_calls_per_query(self) -> Estimate:
        """Calls of watched models per query."""
        return self._figure("model_calls_per_query")

    @property
    def carbon_per_query(self) -> Estimate:
        """kg of CO2e per query; needs ``country`` or ``carbon_intensity`` in the settings."""
        return self._figure("carbon_per_query")

    @property
    def cost_per_query(self) -> Estimate:
        """Cost of the electricity of a query, in the currency of ``electricity_price`` in the settings."""
        return self._figure("cost_per_query")

    @property
    def flops_per_query(self) -> Estimate:
        """Floating-point operations per query, as torch counts them; needs a budget on it, or ``count=`` of ``measure``."""
        return self._figure("flops_per_query")

    @property
    def peak_memory(self) -> Estimate:
        """Bytes held at most, of the GPUs where one is used, else of the process; needs a budget on it, or ``count=``."""
        return self._figure("peak_memory")

    @property
    def page_faults_per_query(self) -> Estimate:
        """Pages that a query made the system map; needs a budget on it, or ``count=``."""
        return self._figure("page_faults_per_query")

    @property
    def padding_share(self) -> Estimate:
        """The share of the positions of a Generator's batches that was padding; needs a budget on it, or ``count=`` of ``measure``."""
        return self._figure("padding_share")

    @property
    def accuracy(self) -> Estimate:
        """Mean score of the queries, each counted once."""
        return self._figure("accuracy")
