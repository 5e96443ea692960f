"""What is known of a server without looking into it: how long its prompts and answers are, and how they were asked for. Pure."""

from __future__ import annotations

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.explaining.factors import CACHED, NEW, PROMPT, TOKENS
from pytest_greencompute.explaining.profile import Factor, Profile
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

NOTHING_INSIDE = "a server: of what happens inside it nothing is told apart"


def served(run: Run) -> Profile:
    """The factors of a load, per request. What the server did not say is not there. Raises SettingsError for a run of no server."""
    seen = run.serving
    if seen is None:
        raise SettingsError(f"{run.test} is no load of a server.")
    factors = [Factor("requests at a time", float(seen.concurrency))]
    written = estimate(run, METRICS["tokens_per_query"], Aim())
    new = written.value if isinstance(written, Estimate) and not seen.by_events else None  # events are a lower bound
    if new is not None:
        factors.append(Factor(NEW, new))
    if seen.prompt_tokens and seen.answered:
        prompt = seen.prompt_tokens / seen.answered
        factors.append(Factor(PROMPT, prompt))
        factors += [Factor(TOKENS, prompt + new)] if new is not None else []
        factors += [Factor(CACHED, seen.cached_tokens / seen.prompt_tokens)] if seen.cached_tokens is not None else []
    return Profile(tuple(factors), notes=(NOTHING_INSIDE,), queries=seen.answered)
