"""A result holds what was measured and what follows from it, for one worker and for two."""

import json

import pytest


def test_one_worker(make_result_of):
    result = make_result_of(
        {
            "real": [10.0, 12.0, 11.0],
            "one_batch": [4.0, 4.8, 4.4],
            "bare": [4.0, 4.8, 4.4],
            "large": [16.0, 19.2, 17.6],
        }
    )
    assert result["bound"] == "input"
    assert result["shares"]["input"] == pytest.approx(0.6)
    assert result["examples_per_second"] == pytest.approx(1000 * 32 / 11)
    assert result["examples_per_second_interval"] == pytest.approx([1000 * 32 / 12, 1000 * 32 / 10])
    assert result["scaling_efficiency"] is None
    assert result["slowest_rank"] is None
    assert result["ablations"]["real"] == pytest.approx(11)
    assert result["step"]["cpu_seconds_per_1000_examples"] == pytest.approx(1000 / 3200)
    assert result["step"]["percentile_intervals"]["p99"] == pytest.approx([10, 12])
    assert result["input_wait_interval"] == [0, 0]
    assert len(result["trials"]) == 12
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_two_workers(make_result_of):
    milliseconds = {"real": 10.0, "one_batch": 10.0, "bare": 9.0, "apart": 4.0, "large": 16.0, "alone": 5.0}
    result = make_result_of({name: [value] for name, value in milliseconds.items()}, workers=[1, 2])
    assert result["bound"] == "communication"
    assert result["shares"]["communication"] == pytest.approx(0.5)
    # Both do 32 examples in 10 ms, one alone 16 in 5 ms.
    assert result["scaling_efficiency"] == pytest.approx(0.5)
    assert result["scaling_efficiency_interval"] == pytest.approx([0.5, 0.5])
    assert result["slowest_rank"] is None  # both take as long
    assert [setting["name"] for setting in result["settings"]] == [
        "1 worker, batch 32, float32",
        "2 workers, batch 32, float32",
    ]
    assert result["step"]["cpu_seconds_per_1000_examples"] == pytest.approx(2 * 1000 / 3200)


def test_without_a_large_batch_there_is_a_verdict(make_result_of):
    result = make_result_of({"real": [10.0], "one_batch": [10.0], "bare": [10.0]})
    assert (result["bound"], result["shares"]["host"]) == ("compute", 0.0)


def test_a_busy_machine_and_passes_that_differ_are_said(make_result_of):
    steady = {name: [10.0, 10.5, 11.0] for name in ("real", "one_batch", "bare")}
    assert make_result_of(steady)["warnings"] == []
    assert make_result_of(steady, load_average=1.5)["warnings"] == [
        "the machine was busy before: 1.5 processes wanted its 2 cores"
    ]
    assert make_result_of({**steady, "bare": [10.0, 13.0, 10.0]})["warnings"] == [
        "the passes of one trial differ by 30%: shares below that mean little"
    ]


@pytest.mark.parametrize(
    ("milliseconds", "slowest"),
    [
        ([(4.0, 5.0), (4.0, 6.0), (4.0, 4.1)], 1),
        ([(4.0, 5.0), (6.0, 4.0), (4.0, 5.0)], None),  # now the one and now the other
        ([(4.0, 4.1), (4.0, 4.1), (4.0, 4.1)], None),  # within noise
    ],
)
def test_a_worker_is_the_slowest_if_it_is_in_every_pass(make_result_of, milliseconds, slowest):
    equal = {name: [10.0] * 3 for name in ("real", "one_batch", "bare", "apart")}
    assert make_result_of(equal, apart=milliseconds, workers=[2])["slowest_rank"] == slowest
