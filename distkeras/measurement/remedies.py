"""What can be done about a share of a step, as far as config and measured numbers tell: a change of the config, and
how much faster it can make a step. Pure functions of both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from distkeras.config import Config
from distkeras.config.source_sections import GeneratorSource, ParquetSource, RayDataSource
from distkeras.measurement.passes import LEAST_GAIN, gains, is_faster
from distkeras.measurement.plan import LARGE, Setting
from distkeras.measurement.shares import Shares

# What commits or logging points are made rarer by.
RARER = 10
# Decoding these is what cached examples are spared.
_DECODED = ("image_folder", "tfrecord", "array_record", "tfds", "text_folder", "jsonl", "audio_folder")


@dataclass(frozen=True)
class Remedy:
    """What can be done.

    Attributes:
        text: What to do, as an instruction.
        gain: How many times as fast training becomes, as measured or computed from what was measured; None: that
            is not known before it is tried.
        is_limit: Whether the gain is the most that it can be.
    """

    text: str
    gain: float | None = None
    is_limit: bool = False

    @property
    def gain_text(self) -> str:
        """The gain in words."""
        if self.gain is None:
            return "the gain shows when it is measured"
        digits = 2 if self.gain < 1.2 else 1
        return f"{'at most' if self.is_limit else 'expected'} {self.gain:.{digits}f}x"


@dataclass(frozen=True)
class Situation:
    """What a remedy depends on, beside the shares.

    Attributes:
        config: The user's config.
        setting: What of it was taken apart.
        on_gpu: Whether it trained on GPUs.
        has_gpu: Whether the machine has one.
        efficiency: Examples a second of all workers, divided by as many times those of one alone; None: one worker.
        rates: Examples a second of every setting that was measured, pass by pass.
        input_wait_ratio: Share of a real step spent waiting for input, as its own clock has it.
        slowest_rank: The worker whose own steps take longest; None: it is now the one and now the other.
        steps_per_epoch: Steps of an epoch.
    """

    config: Config
    setting: Setting
    on_gpu: bool = False
    has_gpu: bool = False
    efficiency: float | None = None
    rates: Sequence[tuple[Setting, Sequence[float]]] = ()
    input_wait_ratio: float = 0.0
    slowest_rank: int | None = None
    steps_per_epoch: float = math.inf


def remedy_for_input(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what makes input cost less."""
    data, gain = situation.config.data, _without(shares.input)
    source = data.source
    match source:
        case GeneratorSource():
            text = (
                f"make {source.function} faster, or store what it yields and train from that (data.source.kind): a "
                "stream is read by one thread"
            )
            return Remedy(text, gain, is_limit=True)
        case RayDataSource():
            return Remedy(
                "give Ray Data more CPUs, or store its result and train from that", gain, is_limit=True
            )
        case ParquetSource() if source.in_memory is False:
            return Remedy("hold the table in memory (data.source.in_memory: true)", gain)
        case ParquetSource() if source.in_memory == "auto":
            text = "hold the table in memory though it is above 1 GiB, if it is (data.source.in_memory: true)"
            return Remedy(text, gain, is_limit=True)
        case _:
            pass
    if data.cache is None and (
        source.kind in _DECODED or source.kind == "mixture" or _computes(situation.config)
    ):
        what = "decoded images" if _has_images(situation.config) else "examples as they are read"
        where = "{where: memory}, or disk if they are too many"
        return Remedy(f"cache the {what} (data.cache: {where})", gain, is_limit=True)
    if data.image.augment and data.image.augment_on == "input" and situation.on_gpu:
        return Remedy("let the GPU change the images (data.image.augment_on: device)", gain, is_limit=True)
    if data.image.augment or data.layers:
        return Remedy("use fewer random changes, or more CPU cores", gain, is_limit=True)
    return _larger_batch(shares, situation)


def remedy_for_keeping(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what makes commits, validation and logging cost less: what gains most."""
    return max(_for_keeping(shares, situation), key=lambda remedy: remedy.gain or 0.0, default=None)


def remedy_for_host(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what makes the fixed cost of a step smaller."""
    training = situation.config.training
    if training.steps_per_execution != "auto" and training.steps_per_execution < 10:
        return Remedy("run more steps in one call (training.steps_per_execution: auto)")
    if situation.config.deterministic:
        return Remedy("without deterministic: true many steps run in one call; with it Python calls each")
    return _larger_batch(shares, situation)


def remedy_for_communication(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what makes workers spend less on each other: the best that is known."""
    if shares.lagging > shares.communication / 2 and situation.slowest_rank is not None:
        text = f"most of it is waiting for rank {situation.slowest_rank}: look at what slows its machine"
        return Remedy(text, _without(shares.lagging), is_limit=True)
    remedies = list(_for_communication(shares, situation))
    return max(remedies, key=lambda remedy: remedy.gain or 0.0, default=None)


def remedy_for_compute(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what makes computing faster, as far as the config can."""
    measured = _faster_setting(situation)
    if measured is not None:
        return measured
    training = situation.config.training
    if situation.on_gpu and situation.setting.precision == "float32":
        return Remedy("compute in half precision (training.precision: mixed_bfloat16)")
    if situation.on_gpu and training.jit_compile is False:
        return Remedy("let XLA compile the step (training.jit_compile: auto)")
    if not situation.on_gpu and situation.has_gpu:
        return Remedy("use the GPU of this machine (topology.devices: gpu)")
    return None


def _for_keeping(shares: Shares, situation: Situation) -> Iterator[Remedy]:
    config, steps, rarely = situation.config, situation.steps_per_epoch, 1 - 1 / RARER
    every, every_epochs = config.checkpoint.every_steps, config.checkpoint.every_epochs
    commits = f"checkpoint.every_epochs: {RARER * every_epochs} instead of {every_epochs}"
    if every is not None and every < steps:
        commits = f"checkpoint.every_steps: {RARER * every} instead of {every}"
    yield Remedy(f"commit less often ({commits})", _without(rarely * shares.commits), is_limit=True)
    examples = "data.split.validation" if config.data.validation is None else "data.validation"
    yield Remedy(f"validate on fewer examples ({examples})", _without(shares.validation), is_limit=True)
    log_every = config.logging.every_steps
    if log_every != "auto" and log_every < min(RARER, steps):
        yield Remedy(
            "log less often (logging.every_steps: auto)", _without(rarely * shares.logging), is_limit=True
        )


def _for_communication(shares: Shares, situation: Situation) -> Iterator[Remedy]:
    setting, config = situation.setting, situation.config
    # Gradients take as long to exchange whatever the batch that they are of.
    size = LARGE * setting.global_batch_size
    fixed = shares.communication + shares.host
    measured = _measured_gain(situation, replace(setting, global_batch_size=size))
    yield Remedy(
        f"use more examples a worker (training.global_batch_size: {size}), so that gradients are exchanged less often",
        _without(fixed * (1 - 1 / LARGE)) if measured is None else measured,
    )
    if (
        config.topology.reduction == "full"
        and config.engine == "tensorflow"
        and situation.setting.num_workers > 1
    ):
        half = (shares.communication - shares.waiting) / 2
        text = "send gradients in half precision (topology.reduction: bfloat16)"
        yield Remedy(text, _without(half), is_limit=True)
    for number in range(1, setting.num_workers):
        measured = _measured_gain(situation, replace(setting, num_workers=number))
        if measured is not None:
            yield Remedy(f"use {number} of the {setting.num_workers} workers", measured)
    speedup = (situation.efficiency or 1.0) * setting.num_workers
    if speedup * LEAST_GAIN < 1:
        text = f"use fewer workers: one alone trains faster than the {setting.num_workers} together"
        yield Remedy(text, 1 / speedup)


def _larger_batch(shares: Shares, situation: Situation) -> Remedy:
    size = situation.setting.global_batch_size
    text = f"use a larger batch (training.global_batch_size: {LARGE * size} instead of {size})"
    measured = _measured_gain(situation, replace(situation.setting, global_batch_size=LARGE * size))
    return Remedy(text, _without(shares.host * (1 - 1 / LARGE)) if measured is None else measured)


def _measured_gain(situation: Situation, other: Setting) -> float | None:
    """Returns how many times as fast another setting was, and 1 at most within noise; None: it was not measured."""
    rates = dict(situation.rates)
    if other not in rates or situation.setting not in rates:
        return None
    after, before = rates[other], rates[situation.setting]
    gain = statistics.median(gains(after, before))
    return gain if is_faster(after, before) else min(gain, 1.0)


def _faster_setting(situation: Situation) -> Remedy | None:
    """Returns the fastest way to compute the same batches that was measured, where it is not the one at hand."""
    setting = situation.setting
    measured = [
        (gain, other)
        for other, _ in situation.rates
        if (other.num_workers, other.global_batch_size) == (setting.num_workers, setting.global_batch_size)
        and (gain := _measured_gain(situation, other)) is not None
    ]
    gain, best = max(measured, key=lambda pair: pair[0], default=(1.0, setting))
    return Remedy(", ".join(_changes(setting, best)), gain) if gain >= LEAST_GAIN else None


def _changes(setting: Setting, better: Setting) -> Iterator[str]:
    if better.engine != setting.engine:
        yield f"compute with the other engine, from other initial weights (engine: {better.engine})"
    if better.precision != setting.precision:
        yield f"train in {better.precision} (training.precision: {better.precision})"
    if better.jit_compile != setting.jit_compile:
        what = "let XLA compile the step" if better.jit_compile else "do without XLA"
        yield f"{what} (training.jit_compile: {str(better.jit_compile).lower()})"


def _computes(config: Config) -> bool:
    """Whether something is computed of every example each time that it is read."""
    data = config.data
    has_sections = any(section is not None for section in (data.text, data.spectrogram, data.tabular))
    return has_sections or data.image.size is not None or bool(data.layers)


def _has_images(config: Config) -> bool:
    return config.task.kind == "image_classification"


def _without(share: float) -> float:
    """Returns how many times as fast a step is without a share of it."""
    return 1 / max(1 - share, 0.01)
