"""energy_meter.sweep: the cheapest batch size, precision or token budget, and a build that fails on another one."""

from __future__ import annotations

import pytest

from .conftest import Project

MODEL = """
    import pytest

    QUERIES, UPPER = [chr(97 + place % 26) for place in range(64)], [chr(65 + place % 26) for place in range(64)]

    @pytest.fixture
    def model(world):
        def run(batch):  # a batch costs 0.8 J and 20 ms, and each query in it 0.05 J and 1 ms
            world.clock.sleep(0.02 + 0.001 * len(batch))
            world.energy_j += 0.8 + 0.05 * len(batch)
            if len(batch) > 32:
                raise MemoryError
            return [query.upper() for query in batch]

        return run
"""


def write(project: Project, body: str) -> None:
    project.write("test_it.py", MODEL + body)


def test_a_configured_batch_size_that_wastes_energy_fails_and_the_sentence_speaks_of_the_setting(project: Project) -> None:
    write(
        project,
        """
    def test_batching(energy_meter, model):
        sweep = energy_meter.sweep(model, QUERIES, batch_size=[1, 4, 16, 32])
        sweep.assert_right_sized(batch_size=1, margin="10%")
    """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_batching: batch_size=1 uses 11.3 times [[]11.3, 11.3] the energy per query of batch_size=32"
            " (0.850 J against 75.0 mJ on gpu:0): more than the margin of 10 %.*"
        ]
    )


def test_the_cheapest_within_the_latency_limit_is_named_with_its_settings_and_too_large_a_batch_is_a_row(project: Project) -> None:
    write(
        project,
        """
    def test_batching(energy_meter, model):
        sweep = energy_meter.sweep(model, QUERIES, batch_size=[1, 4, 16, 32, 64], limits={"latency_p95": "40 ms"})
        assert sweep.cheapest == {"batch_size": 16}
        assert sweep.right_sized == "batch_size=16"
        assert sweep.runs["batch_size=4"].throughput > 100
        assert sweep.problems == {"batch_size=64": "out of memory"}
        sweep.assert_right_sized(batch_size=16, margin="10%")
    """,
    )
    result = project.measure("--energy-strict", "--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("warning: *")
    result.stdout.fnmatch_lines(
        [
            "test_batching: 5 settings on the same queries; times: the energy of batch_size=16; agrees: with batch_size=1",
            "  batch_size*energy/query*times*p95*throughput*agrees",
            "  32*75.0 mJ*0.750 [[]0.750, 0.750]*52.0 ms*615/s*100 %*over the limit of 40 ms",
            "  16 *36.0 ms*444/s*100 %*right-sized",
            "  4*0.250 J*2.50*24.0 ms*167/s*",
            "  1*0.850 J*8.50*21.0 ms*47.6/s*",
            "  64*out of memory",
        ]
    )
    rows = {run["name"]: run["candidate"] for run in project.report()["runs"]}
    assert rows["batch_size=16"]["values"] == {"batch_size": 16}
    assert rows["batch_size=64"]["problem"] == "out of memory"
    assert max(len(line) for line in result.outlines if line.startswith(("  batch_size", "  4 ", "  16 "))) <= 120


def test_a_token_budget_is_handed_to_the_model_and_the_smallest_that_keeps_the_floor_is_the_right_one(project: Project) -> None:
    write(
        project,
        """
    def test_budget(energy_meter, world):
        def generate(batch, max_new_tokens):
            world.clock.sleep(0.001 * max_new_tokens)
            world.energy_j += 0.1 * max_new_tokens * len(batch)
            return [query.upper() if max_new_tokens >= 16 else "?" for query in batch]

        sweep = energy_meter.sweep(generate, QUERIES, max_new_tokens=[8, 32, 128], batch_size=8, references=UPPER, floor=0.9)
        assert sweep.cheapest == {"max_new_tokens": 32}
        sweep.assert_right_sized(max_new_tokens=128)
    """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_budget: max_new_tokens=128 uses 4.00 times * the energy per query of max_new_tokens=32 *, for +0.0 points *",
            "  8 *under the floor",
        ]
    )


def test_axes_are_crossed_and_each_has_its_column(project: Project) -> None:
    write(
        project,
        """
    def test_both(energy_meter, world):
        def run(batch, precision):
            world.clock.sleep(0.01)
            world.energy_j += {"fp32": 1.0, "bf16": 0.5}[precision] + 0.1 * len(batch)
            return [0.51 if precision == "bf16" and query == "a" else 0.5 for query in batch]

        sweep = energy_meter.sweep(run, QUERIES[:26], batch_size=[1, 2], precision=["bf16", "fp32"])
        assert sweep.cheapest == {"batch_size": 2, "precision": "bf16"}
        assert list(sweep.runs)[0] == "batch_size=1 precision=bf16"
        sweep.assert_right_sized(batch_size=2, precision="bf16")
        with pytest.raises(Exception, match="over batch_size, precision. Name a value of each, such as batch_size=1 precision=bf16"):
            sweep.assert_right_sized(batch_size=2)
        with pytest.raises(Exception, match="There is no setting 'batch_size=3 precision=bf16'. Did you mean"):
            sweep.assert_right_sized(batch_size=3, precision="bf16")
    """,
    )
    result = project.measure("--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test_both: 4 settings *; agrees: with batch_size=1 precision=fp32", "  batch_size*precision*energy/query*"]
    )
    rows = {run["name"]: run["candidate"] for run in project.report()["runs"]}
    assert rows["batch_size=2 precision=bf16"]["agreement"] == pytest.approx(25 / 26)
    assert rows["batch_size=1 precision=fp32"]["agreement"] is None


def test_without_the_option_each_setting_runs_once_and_what_needs_energy_skips(project: Project) -> None:
    write(
        project,
        """
    def test_batching(energy_meter, model, world):
        sweep = energy_meter.sweep(model, QUERIES, batch_size=[1, 64, 16])
        assert sweep.outputs["batch_size=16"] == UPPER
        assert sweep.problems == {"batch_size=64": "out of memory"}
        assert sweep.cheapest
        raise AssertionError("never reached unmetered")
    """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * cheapest was not measured: run pytest with --energy-budget"])


def test_a_long_sweep_takes_no_longer_than_one_measurement_may(project: Project) -> None:
    write(
        project,
        """
    def test_batching(energy_meter, world):
        before = world.clock.now_ns()
        energy_meter.sweep(world.model(1.0, 0.05, spread=0.9), QUERIES, batch_size=list(range(1, 9)))
        took_s = (world.clock.now_ns() - before) / 1e9
        assert took_s < 20 + 8 * 12, took_s  # the limit, and a first pass and a warm-up each
    """,
    )
    project.measure("--energy-max-seconds=20").assert_outcomes(passed=1)


BAD = [
    ("batch_size=[1, 0]", "batch_size has 0 in it. Each must be a whole number of at least 1."),
    ("batch_size=[]", "batch_size is an empty list."),
    ("batch_size='8'", "batch_size is '8'. Pass the values to try as a list, such as batch_size=[1, 4, 16]."),
    ("batch_size=8", "A sweep needs something to sweep."),
    ("batch_size=[8]", "A sweep over one value compares nothing."),
    ("batch_size=[1, 2], limits=['40 ms']", "limits is ['40 ms']. Pass a dict such as"),
    ("batch_size=[1, 2], limits={'accuracy': 1}", "'accuracy' is not a limit of a comparison."),
    ("max_new_tokens=[8, 32]", "The model run takes no argument 'max_new_tokens'. A sweep calls it as run(batch, max_new_tokens=…)."),
    ("precision=['fp32', 'bf16']", "precision=fp32: The model is a function, which has no precision. Pass the torch.nn.Module itself"),
    ("batch_size=[1, 2], references=5", "references is a int. Pass a list with one entry per query, or leave it out."),
    ("batch_size=[1, 2], floor=0.5", "A floor of accuracy needs references."),
]


def test_bad_input_is_refused_with_a_remedy(project: Project) -> None:
    write(
        project,
        f"""
    from pytest_greencompute.errors import SettingsError

    @pytest.mark.parametrize(("arguments", "says"), {BAD!r})
    def test_it(energy_meter, model, arguments, says):
        with pytest.raises(SettingsError) as refused:
            eval(f"energy_meter.sweep(model, QUERIES, {{arguments}})")
        assert says in str(refused.value)

    def test_no_queries(energy_meter, model):
        with pytest.raises(SettingsError, match="queries is a int. Pass a list with one entry per query."):
            energy_meter.sweep(model, 5, batch_size=[1, 2])
    """,
    )
    project.measure("--energy-max-seconds=5").assert_outcomes(passed=len(BAD) + 1)


def test_sizes_of_numpy_are_sizes_and_stand_in_the_report_as_pythons(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import numpy as np

        def test_sizes(energy_meter, world):
            run = energy_meter.measure(world.model(), list("abcdefgh"), batch_size=np.int64(4), name="one")
            assert run.energy_per_query > np.int64(0)
            assert run.energy_per_query != np.int64(0)
            energy_meter.compare({"a": world.model(), "b": world.model()}, list("abcd"), batch_size={"a": np.int64(2), "b": 1})
            take = lambda batch, most: world.model()(batch)
            energy_meter.sweep(take, list("abcd"), batch_size=np.int64(4), most=[np.int64(1), 2], name="sweep")
        """,
    )
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    assert [run["raw"]["batch_size"] for run in project.report()["runs"]] == [4, 2, 1, 4, 4]


def test_a_latency_that_is_limited_is_timed_in_full_and_one_that_is_shown_only_is_not(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.parametrize(("limits", "enough"), [({"latency_p99": "1 s"}, True), ({"throughput": "1 /s"}, False)])
    def test_batching(energy_meter, model, limits, enough):
        sweep = energy_meter.sweep(model, QUERIES, batch_size=[1, 4], limits=limits)
        assert [len(run.raw.latencies) >= 528 for run in sweep.runs.values()] == [enough, enough]
    """,
    )
    project.measure("--energy-max-seconds=90").assert_outcomes(passed=2)


def test_a_precision_that_changes_nothing_of_a_net_is_a_row_that_says_so_and_a_part_is_named(project: Project) -> None:
    pytest.importorskip("torch")
    project.write(
        "test_it.py",
        """
    import torch

    class Net(torch.nn.Sequential):
        def forward(self, batch):
            WORLD.clock.sleep(0.01)
            WORLD.energy_j += 1.0
            return super().forward(batch)

    def test_precision(energy_meter, world):
        global WORLD
        WORLD = world
        torch.manual_seed(0)
        picture = [torch.nn.Conv2d(1, 32, 10), torch.nn.Flatten()]
        for linear in (0, 300):
            net = Net(*picture, *([torch.nn.Linear(32, linear)] if linear else []))
            sweep = energy_meter.sweep(net.eval(), torch.ones(8, 1, 10, 10), precision=["fp32", "int8"], name=f"net{linear}")
            assert sweep.right_sized is not None
            assert ("precision=int8" in sweep.problems) == (not linear)
            if not linear:
                assert sweep.right_sized == "precision=fp32"
                sweep.assert_right_sized(precision="fp32", margin="10%")
    """,
    )
    result = project.measure("--energy-strict", "--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "  int8 *no int8: 0.0 % of its weights would be, nn.Linear alone is converted (compare() takes a copy of your own)",
            "*; weights: the share of them in that precision",
            "  precision*weights*",
        ]
    )
    rows = {run["name"]: run["candidate"] for run in project.report()["runs"]}
    assert rows["net300/precision=int8"]["weights"] == pytest.approx(0.75)
    assert rows["net300/precision=fp32"]["weights"] == 1.0
    assert not rows["net0/precision=int8"]["right_sized"]
