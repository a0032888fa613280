"""How many workers still pay, and what would help most past that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distkeras.measurement.cost_model import Prediction, StepFacts, predict, workers_text
from distkeras.measurement.network import Network
from distkeras.measurement.quantities import size_text
from distkeras.observability.formats import percent_text

# Each worker should give so much of what one alone gives.
WORTH_IT = 0.9
# Less than this is not worth a change, nor would it be seen when measured.
_LEAST_GAIN = 0.05


@dataclass(frozen=True)
class Knee:
    """Where more workers begin to pay less.

    Attributes:
        threshold: Least efficiency that is worth it.
        last: The most workers that reach it, as all fewer ones do; None: not even the fewest do.
        first_below: The fewest that do not; None: all do.
    """

    threshold: float
    last: Prediction | None
    first_below: Prediction | None

    def describe(self) -> str:
        """Returns the knee in a sentence."""
        least = percent_text(self.threshold)
        if self.last is None:
            below = (
                f"{_each(self.first_below)}, less than {least}"
                if self.first_below
                else "nothing was predicted"
            )
            return f"No number of workers is worth it: {below}."
        if self.first_below is None:
            return f"Up to {workers_text(self.last.num_workers)}, the most looked at, each gives at least {least}."
        return (
            f"Up to {workers_text(self.last.num_workers)} each gives at least {least} of what one alone does; "
            f"{_each(self.first_below)}."
        )


@dataclass(frozen=True)
class Knob:
    """One change, and what it would give.

    Attributes:
        change: What is changed.
        how: Where that is done.
        before: What is expected as things are.
        after: What is expected with the change, on as many workers.
    """

    change: str
    how: str
    before: Prediction
    after: Prediction

    @property
    def gain(self) -> float:
        """Examples a second with the change, as a multiple of those without."""
        return self.after.examples_per_second / self.before.examples_per_second

    @property
    def keeps_batch(self) -> bool:
        """Whether the batch stays, and with it what an update learns from."""
        return self.after.step.batch_size == self.before.step.batch_size

    def describe(self) -> str:
        """Returns the change and its gain in a sentence, if that is worth one."""
        workers = workers_text(self.before.num_workers)
        if self.gain < 1 + _LEAST_GAIN:
            return f"With {workers}, no one change gives as much as {percent_text(_LEAST_GAIN)}."
        return f"With {workers} the change that helps most: {self._with_gain()}."

    def describe_beside(self, other: Knob) -> str:
        """Returns the same with another change behind it, if that is one, and worth it."""
        if self.change == other.change or other.gain < 1 + _LEAST_GAIN:
            return self.describe()
        return f"{self.describe().removesuffix('.')}; with the same batch: {other._with_gain()}."

    def _with_gain(self) -> str:
        return f"{self.change}, {self.gain:.2f} times the examples a second ({self.how})"


def knee(predictions: Sequence[Prediction], threshold: float = WORTH_IT) -> Knee:
    """Returns the largest number of workers up to which efficiency stays at a threshold or above.

    Args:
        predictions: For numbers of workers close to each other, such as `predict_up_to` gives, fewest first.
        threshold: Least efficiency that is worth it.
    """
    last: Prediction | None = None
    for prediction in predictions:
        if prediction.efficiency < threshold:
            return Knee(threshold, last, prediction)
        last = prediction
    return Knee(threshold, last, None)


def knob(prediction: Prediction, *, keep_batch: bool = False) -> Knob:
    """Returns the one change that helps most, on as many workers.

    Args:
        prediction: What is expected as things are.
        keep_batch: Whether only changes count that leave the batch as it is. A larger one always helps against an
            exchange that costs time, and is another training.
    """
    candidates = [one for one in knobs(prediction) if one.keeps_batch or not keep_batch]
    # Of those that look alike in what is printed, the first, which costs least.
    return max(candidates, key=lambda one: round(one.gain, 2))


def advise(prediction: Prediction) -> str:
    """Returns what would help most, in a sentence, and what would with the same batch."""
    return knob(prediction).describe_beside(knob(prediction, keep_batch=True))


def knobs(prediction: Prediction) -> list[Knob]:
    """Returns every change that can be made, the cheapest first, each with what the model gives for it alone.

    Workers stay as many. Twice the batch takes as long as was measured, or twice as long, and varies as much more;
    its input takes twice as long.
    """
    step, network = prediction.step, prediction.network
    changes = [*_software_changes(step), *_hardware_changes(step)]
    tried = [(change, how, changed, network) for change, how, changed in changes]
    tried += [
        ("half the latency", "workers closer to each other, or RDMA", step, _faster(network, latency=0.5)),
        ("twice the bandwidth", "a faster network", step, _faster(network, bandwidth=2)),
    ]
    return [
        Knob(change, how, prediction, predict(changed, other_network, prediction.num_workers))
        for change, how, changed, other_network in tried
    ]


def _software_changes(step: StepFacts) -> list[tuple[str, str, StepFacts]]:
    """Returns what a config or the code can change: the change, where, and the step with it."""
    changes: list[tuple[str, str, StepFacts]] = []
    if step.element_bytes > 2:
        share = 2 / step.element_bytes
        halved = replace(step, gradient_bytes=share * step.gradient_bytes, element_bytes=2)
        changes.append(("gradients in bfloat16", "topology.reduction: bfloat16", halved))
    if step.num_buckets > 1:
        how = f"BUCKET_BYTES in distkeras/distribution/strategy.py, now {size_text(step.bucket_bytes)}"
        changes.append(("buckets twice as large", how, replace(step, bucket_bytes=2 * step.bucket_bytes)))
    how = "training.global_batch_size, with a learning rate to match"
    changes.append(("twice the batch on each worker", how, _with_twice_the_batch(step)))
    return changes


def _hardware_changes(step: StepFacts) -> list[tuple[str, str, StepFacts]]:
    """Returns what other machines or data can change, in the same form."""
    steadier = replace(
        step, compute_deviation=step.compute_deviation / 2, input_deviation=step.input_deviation / 2
    )
    how = "equal machines, with no other work on them"
    changes = [("half the spread of the workers' steps", how, steadier)]
    if math.isfinite(step.input_examples_per_second):
        faster = replace(step, input_examples_per_second=2 * step.input_examples_per_second)
        changes.append(("an input twice as fast", "data.cache, or more cores for each worker", faster))
    return changes


def _faster(network: Network, *, latency: float = 1, bandwidth: float = 1) -> Network:
    return replace(network, latency=latency * network.latency, bandwidth=bandwidth * network.bandwidth)


def _with_twice_the_batch(step: StepFacts) -> StepFacts:
    compute_seconds = step.doubled_compute_seconds or 2 * step.compute_seconds
    return replace(
        step,
        batch_size=2 * step.batch_size,
        compute_seconds=compute_seconds,
        compute_deviation=step.compute_deviation * compute_seconds / step.compute_seconds,
        doubled_compute_seconds=None,
        input_deviation=2 * step.input_deviation,
    )


def _each(prediction: Prediction) -> str:
    # In tenths: the first number below 90% is often nearer to it than to 89%.
    return f"with {prediction.num_workers:,} it is {100 * prediction.efficiency:.1f}%"
