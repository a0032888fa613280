"""The line of progress: every number in a log, what matters most on a terminal."""

from distkeras.observability.progress_line import (
    Extent,
    ProgressPoint,
    plain_line,
    remaining_seconds,
    terminal_line,
)
from distkeras.observability.timers import IntervalSummary

INTERVAL = IntervalSummary(
    num_steps=100,
    num_examples=51234,
    seconds=1.0,
    input_wait_seconds=0.03,
    memory_bytes=812 * 2**20,
    is_warm_up=False,
)
WARM_UP = IntervalSummary(1, 8, 20.0, 0.0, 2**30, True)
METRICS = {"val_accuracy": 0.97, "loss": 0.1234}
POINT = ProgressPoint(epoch=2, step=420, interval=INTERVAL, metrics=METRICS)
EXTENT = Extent(num_epochs=20, num_steps=1620)


def test_plain_line_has_every_number():
    assert plain_line(POINT, EXTENT) == (
        "epoch=3/20 step=420/1620 loss=0.1234 val_accuracy=0.9700 examples_per_second=51234 "
        "input_wait=3% memory=812MiB eta=12s"
    )


def test_plain_line_parses_into_pairs_whatever_the_numbers():
    point = ProgressPoint(0, 1, WARM_UP, {"loss": float("nan"), "a": 1e9, "b": -0.0})
    pairs = [item.split("=") for item in plain_line(point, Extent(1, 10, num_replicas=4)).split(" ")]
    assert all(len(pair) == 2 and all(pair) for pair in pairs)
    assert dict(pairs)["loss"] == "nan"
    assert "examples_per_second_per_replica" in dict(pairs)
    assert "eta" not in dict(pairs)


def test_terminal_line_at_120_columns_has_everything():
    assert terminal_line(POINT, EXTENT, 120) == (
        "epoch 3/20  step 420/1620  loss 0.1234  val_accuracy 0.9700  "
        "51,234 examples/s  input 3%  812 MiB  ETA 12s"
    )


def test_terminal_line_at_60_columns_drops_the_least_important():
    assert terminal_line(POINT, EXTENT, 60) == "epoch 3/20  step 420/1620  loss 0.1234  val_accuracy 0.9700"


def test_terminal_line_never_wraps():
    metrics = {
        "loss": 1.0,
        "accuracy": 0.5,
        "a_metric_with_a_very_long_name": 1e-9,
        **dict.fromkeys("defgh", 2.0),
    }
    point = ProgressPoint(2, 420, INTERVAL, metrics)
    for width in range(200):
        line = terminal_line(point, Extent(20, 1620, num_replicas=8), width)
        assert len(line) <= width
        assert line.startswith("epoch 3/20"[:width])


def test_time_left():
    assert remaining_seconds(POINT, EXTENT) == 12.0
    assert remaining_seconds(ProgressPoint(0, 1, WARM_UP), EXTENT) is None
    assert remaining_seconds(ProgressPoint(0, 0, IntervalSummary(0, 0, 1.0, 0.0, 0, False)), EXTENT) is None
