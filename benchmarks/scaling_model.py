"""SIM: how far is the cost model of `distkeras bench --simulate` from two workers on links that are known?

    python benchmarks/scaling_model.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Two worker processes, one core each, train MLPs whose gradients have different sizes: on this machine's loopback, and
over links whose bandwidth and latency are known, because slow_link.py is the link (Linux, unshare, ip; else these modes
are left out). Nothing else is between them: the step is the engine's own, with TensorFlow's collectives.

Two predictions are judged on sizes that nothing was fitted to. held_out: a network fitted to the steps of the other
sizes on the same link, as `bench --simulate --from A.json --from B.json` fits it. named: the link's bandwidth and
latency as `--bandwidth` and `--latency` name them, and nothing fitted at all. An error is the larger of predicted /
measured and its inverse, for the size where it is largest; a prediction without one would be 1.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import harness
import slow_link
from harness import Benchmark, Mode
from ratios import Figures, Ratio

from distkeras.distribution.ports import free_ports
from distkeras.measurement.cost_model import StepFacts, predict
from distkeras.measurement.network import Network, between_cpus
from distkeras.measurement.network_fit import MeasuredStep, fit_network
from distkeras.measurement.simulation import CPU_OVERLAP

BATCH_SIZE = 16
# Seconds for each size, half with the exchange and half without; as many rounds of both.
SECONDS, ROUNDS = 0.8, 5


@dataclass(frozen=True)
class Model:
    """An MLP: `num_layers` dense layers of `width` units, on as many features."""

    width: int
    num_layers: int


# Sums that are gathered, a bucket or less in a ring, and several buckets: of each kind one is held out.
FITTED = {"33kB": Model(64, 2), "2MB": Model(256, 8), "17MB": Model(512, 16)}
HELD_OUT = {"396kB": Model(128, 6), "4MB": Model(480, 4), "8MB": Model(512, 8)}
# Bytes a second and seconds.
LINKS = {"link_2gb": (2e9 / 8, 200e-6), "link_1gb": (1e9 / 8, 2e-3)}


def measure(bandwidth: float | None = None, latency: float = 0.0) -> Figures:
    """Returns how long steps took on two workers, and how far predictions are from that.

    Args:
        bandwidth: Bytes a second of the link between them; None: they talk on this machine's loopback.
        latency: Seconds of that link.
    """
    steps = {name: measured_step(row) for name, row in rows_of_workers(bandwidth, latency).items()}
    fit = fit_network([steps[name] for name in FITTED])
    errors = {"held_out_error": worst(steps, fit.network)}
    if bandwidth is not None:
        errors["named_error"] = worst(steps, between_cpus(bandwidth, latency))
    figures = {
        **errors,
        "fitted_megabytes_per_second": fit.network.bandwidth / 1e6,
        "fitted_milliseconds_a_message": 1000 * fit.network.latency,
    }
    for name, step in steps.items():
        figures[f"{name}_computing_milliseconds"] = 1000 * step.step.compute_seconds
        figures[f"{name}_milliseconds"] = 1000 * step.seconds
        figures[f"{name}_predicted_milliseconds"] = 1000 * seconds_of(step, fit.network)
    return figures


def worst(steps: Mapping[str, MeasuredStep], network: Network) -> float:
    """Returns the largest error of the predictions for the sizes that are held out, as a factor."""
    ratios = [seconds_of(steps[name], network) / steps[name].seconds for name in HELD_OUT]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def seconds_of(step: MeasuredStep, network: Network) -> float:
    return predict(step.step, network, step.num_workers).step_seconds


def measured_step(row: Mapping[str, float]) -> MeasuredStep:
    """Returns a step in the model's terms, from what the workers say of it."""
    facts = StepFacts(
        batch_size=BATCH_SIZE,
        compute_seconds=row["apart_seconds"],
        gradient_bytes=row["gradient_bytes"],
        bucket_bytes=row["bucket_bytes"],
        overlap=CPU_OVERLAP,
    )
    return MeasuredStep(facts, 2, row["together_seconds"])


def rows_of_workers(bandwidth: float | None, latency: float) -> dict[str, dict[str, float]]:
    """Starts the two workers and returns what they measured, by size."""
    hosts = slow_link.HOSTS if bandwidth is not None else ("127.0.0.1",) * 2
    ports = free_ports(2, "127.0.0.1")
    addresses = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=True))
    commands = [[sys.executable, __file__, "--worker", str(rank), addresses] for rank in range(2)]
    if bandwidth is not None:
        commands = [slow_link.linked(bandwidth, latency, commands)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    return json.loads(outputs[0].splitlines()[-1])


def work(rank: int, addresses: Sequence[str]) -> None:
    """One of the workers; the first prints what both measured."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import tensorflow as tf

    from distkeras.distribution.strategy import WorkerStrategy
    from distkeras.topology import Worker

    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = WorkerStrategy(Worker(tuple(addresses), rank, 1), "CPU:0", timeout_seconds=60)
    rows = {name: time_steps(model, strategy) for name, model in (FITTED | HELD_OUT).items()}
    if rank == 0:
        print(json.dumps(rows), flush=True)


def time_steps(model: Model, strategy: Any) -> dict[str, float]:
    """Returns the median seconds of a step with the exchange of gradients and without, of the slower worker."""
    from distkeras.distribution.strategy import BUCKET_BYTES
    from distkeras.training.step import one_step

    net, batch = build(model, strategy)
    together = repeated(one_step(net, strategy, "train_step"), batch)
    apart = repeated(lambda data: strategy.run(net.train_step, args=(data,)), batch)
    calls = {"together_seconds": together, "apart_seconds": apart}
    counts = {
        name: round(slower(strategy, SECONDS / 2 / ROUNDS / timed(strategy, call, 3))) or 1
        for name, call in calls.items()
    }
    rounds = [{name: timed(strategy, calls[name], counts[name]) for name in calls} for _ in range(ROUNDS)]
    return {
        **{name: slower(strategy, statistics.median(one[name] for one in rounds)) for name in calls},
        "gradient_bytes": 4 * net.count_params(),
        "bucket_bytes": BUCKET_BYTES,
    }


def build(model: Model, strategy: Any) -> tuple[Any, Any]:
    """Returns the model, compiled, and a batch for it."""
    import keras
    import tensorflow as tf

    with strategy.scope():
        layers = [keras.layers.Dense(model.width) for _ in range(model.num_layers)]
        net = keras.Sequential([keras.Input((model.width,)), *layers])
        net.compile("sgd", "mse", jit_compile=False)
        net.optimizer.build(net.trainable_variables)
    shape = [BATCH_SIZE, model.width]
    return net, tuple(tf.random.stateless_normal(shape, seed=[0, index]) for index in range(2))


def repeated(step: Callable[[Any], Any], batch: Any) -> Callable[[int], None]:
    """Returns what takes a step so many times, in one call of TensorFlow as the engine's loop does."""
    import tensorflow as tf

    @tf.function
    def take(num_steps: tf.Tensor) -> None:
        for _ in tf.range(num_steps):
            step(batch)

    return lambda num_steps: take(tf.constant(num_steps))


def timed(strategy: Any, take: Callable[[int], None], num_steps: int) -> float:
    """Returns the seconds of a step; the workers begin together."""
    with strategy.collectives.waiting():
        take(1)  # the first time it is traced
        slower(strategy, 0.0)
        begin = time.perf_counter()
        take(num_steps)
        return (time.perf_counter() - begin) / num_steps


def slower(strategy: Any, value: float) -> float:
    """Returns the larger of the workers' values."""
    import tensorflow as tf

    with strategy.collectives.waiting():
        return float(strategy.collectives.max(tf.constant(value)))


def nothing_wrong() -> Figures:
    """What predictions without an error would have."""
    return {"held_out_error": 1.0, "named_error": 1.0}


WHY_NO_LINKS = slow_link.why_not()
BENCHMARK = Benchmark(
    id="SIM",
    script=__file__,
    figure="held_out_error",
    unit="times too long or too short",
    modes={
        "loopback": Mode(measure),
        **({} if WHY_NO_LINKS else {name: Mode(partial(measure, *link)) for name, link in LINKS.items()}),
        "perfect": Mode(nothing_wrong),
    },
    subject="loopback",
    bound="perfect",
    ratios={
        "bound_ratio": Ratio("loopback", "perfect", target=1.25, better="less"),
        **{f"held_out_{name}": Ratio(name, "perfect", target=1.25, better="less") for name in LINKS},
        **{
            f"named_{name}": Ratio(name, "perfect", target=1.25, better="less", figure="named_error")
            for name in LINKS
        },
    },
    settings={
        "links": {name: {"bytes_per_second": link[0], "seconds": link[1]} for name, link in LINKS.items()},
        "no_links": WHY_NO_LINKS,
        "fitted": {name: vars(model) for name, model in FITTED.items()},
        "held_out": {name: vars(model) for name, model in HELD_OUT.items()},
    },
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]), sys.argv[3].split(","))
    else:
        harness.main(BENCHMARK, __doc__)
