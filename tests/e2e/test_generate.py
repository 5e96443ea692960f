"""``energy_meter.generate``: prefill and decode of one workload, with budgets on each."""

from __future__ import annotations

import pytest

from .conftest import Project

pytest.importorskip("transformers")

GENERATOR = """
    import pytest
    from pytest_greencompute.models.generator import Generator

    class Writes(Generator):
        # A stand-in for the network alone: 1 J and 5 ms for the prompt, 0.1 J and 1 ms for each token.
        def __init__(self, world):
            from pytest_greencompute.models.generator import Padding
            self.world, self.padding, self._answers = world, Padding(), "ids"

        def __call__(self, batch, *, max_new_tokens=64):
            self.world.clock.sleep(0.005 + 0.001 * max_new_tokens)
            self.world.energy_j += (1 + 0.1 * max_new_tokens) * len(batch)
            return [list(range(max_new_tokens)) for _ in batch]
"""


def test_prefill_and_decode_are_measured_by_turns_and_each_has_its_budget(project: Project) -> None:
    project.write(
        "test_it.py",
        GENERATOR
        + """
    @pytest.mark.energy_budget(prefill={"energy_per_query": "1.2 J"}, whole={"energy_per_query": "2 J"})
    def test_writes(energy_meter, world):
        made = energy_meter.generate(Writes(world), ["a", "b", "c"], max_new_tokens=21)
        assert "1.099 J" < made.prefill.energy_per_query < "1.101 J"
        assert made.decode_energy_per_token < "0.101 J"
        assert made.decode_energy_per_token > "0.099 J"
        assert len(made.outputs[0]) == 21
    """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_writes (whole) used 3.100 J per query*over its budget of 2 J*"])
    assert "right-sized" not in result.stdout.str()  # they are two parts of one model, and no candidates
    words = {run["name"]: [each["verdict"] for each in run["verdicts"]] for run in project.report()["runs"]}
    assert words == {"prefill": ["PASS"], "whole": ["FAIL"]}


def test_without_measuring_both_run_once_and_decode_energy_skips(project: Project) -> None:
    project.write(
        "test_it.py",
        GENERATOR
        + """
    def test_writes(energy_meter, world):
        made = energy_meter.generate(Writes(world), ["a", "b"], max_new_tokens=4)
        assert len(made.outputs) == 2
        made.decode_energy_per_token
        raise AssertionError("an energy was given that nobody measured")
    """,
    )
    project.run().assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("generate(lambda batch: batch, ['a'])", "generate was given a function*Generator(model, tokenizer)*"),
        ("generate(Writes(world), ['a'], max_new_tokens=1)", "max_new_tokens is 1*at least 2*"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(project: Project, call: str, says: str) -> None:
    project.write("test_it.py", GENERATOR + f"\n    def test_writes(energy_meter, world):\n        energy_meter.{call}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*SettingsError: {says}"])
