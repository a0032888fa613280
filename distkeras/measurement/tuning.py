"""`distkeras bench --tune`: which settings train a config fastest on this machine, found by trying them.

One key after the other. Of each its candidates are trained side by side, pass by pass, as the config says otherwise and
as it was tuned so far. The first candidate in their order that is nearly as fast as the fastest is chosen, so that
nothing is changed for what measuring is wrong by, and no batch is larger than what it is good for.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distkeras.config import Config
from distkeras.errors import DistkerasError
from distkeras.measurement.ablation import Measurement, run_trial, trial_folder
from distkeras.measurement.candidates import (
    Candidate,
    Choice,
    changed,
    choose,
    untried,
    value_in,
    value_text,
)
from distkeras.measurement.passes import LEAST_GAIN, gains, is_faster, median_interval
from distkeras.measurement.plan import JitCompile, Precision, Trial, setting_of
from distkeras.observability.environment import available_memory, num_usable_cores
from distkeras.observability.formats import memory_text, percent_text
from distkeras.observability.progress import Progress

PRECISION = "training.precision"
XLA = "training.jit_compile"
BATCH = "training.global_batch_size"
STEPS = "training.steps_per_execution"
PARALLEL = "data.num_parallel_calls"

# So many steps an epoch keeps at least: with a batch that is most of the data there is little left to learn from.
LEAST_STEPS = 20
# Doublings that bring nothing, one after the other, before larger batches are not tried.
MOST_VAIN = 2
# Of the memory that is free now: what trains must leave some to everything else.
MEMORY_SHARE = 0.8
# A call into the engine costs about a millisecond: of longer steps it is too little to be seen.
SHORT_STEP_SECONDS = 0.02
STEPS_TRIED = (4, 16, 64)
LEAST_WAIT = 0.05
MOST_CHARACTERS = 120

Train = Callable[[Config, int], Measurement]
"""Trains a config for a while and measures it. The number is that of the pass."""


@dataclass(frozen=True)
class Tuning:
    """The outcome.

    Attributes:
        config: The config with everything that was chosen.
        choices: What became of each key, in the order in which they were tried.
        before: Examples a second of the config as it was, pass by pass; empty: nothing was chosen.
        after: Those of `config`, measured alternately with it.
    """

    config: Config
    choices: Sequence[Choice]
    before: Sequence[float] = ()
    after: Sequence[float] = ()

    @property
    def is_faster(self) -> bool:
        """Whether all changes together are worth it."""
        return bool(self.after) and is_faster(self.after, self.before)

    @property
    def gain(self) -> float:
        """How many times as fast it became: the median over pairs."""
        return statistics.median(gains(self.after, self.before)) if self.after else 1.0

    @property
    def gain_interval(self) -> tuple[float, float]:
        """Between what the true gain lies; see `passes.median_interval`."""
        return median_interval(gains(self.after, self.before)) if self.after else (1.0, 1.0)


@dataclass(frozen=True)
class Tuner:
    """Tries candidates, in whatever way it is given to train them.

    Attributes:
        train: Trains a config for a while.
        num_passes: How often each candidate is trained.
        num_cores: Cores that training may use.
        precisions: The candidates; empty: the config's own, float32 and mixed_bfloat16.
        jit_compile: The candidates; empty: with and without XLA.
        batch_sizes: The candidates; empty: the config's own and its doubles, as far as they fit.
        free_memory: Bytes that are free now, to those who ask; None: not known.
        announce: Tells the user what is being tried.
    """

    train: Train
    num_passes: int
    num_cores: int
    precisions: Sequence[Precision] = ()
    jit_compile: Sequence[JitCompile] = ()
    batch_sizes: Sequence[int] = ()
    free_memory: Callable[[], int | None] = lambda: None
    announce: Callable[[str], None] = lambda text: None

    def tune(self, config: Config) -> Tuning:
        """Returns a config that trains faster, or the same one.

        Raises:
            DistkerasError: If the config cannot be trained as it is.
        """
        measured = self.train(config, 0)
        tuned, choices = config, list[Choice]()
        for decide in (self._precision, self._xla, self._batch, self._steps, self._parallel_calls):
            choice = decide(tuned, measured)
            self.announce(f"{choice.key}: {value_text(choice.chosen)}; {choice.reason}")
            choices.append(choice)
            tuned, measured = changed(tuned, choice.key, choice.chosen), choice.measured or measured
        return self._checked(config, tuned, choices) if tuned != config else Tuning(config, choices)

    def _checked(self, config: Config, tuned: Config, choices: Sequence[Choice]) -> Tuning:
        """Returns what all changes bring together."""
        self.announce("all changes together, against the config as it was")
        rates: dict[bool, list[float]] = {False: [], True: []}
        for index in range(self.num_passes):
            for is_tuned in (False, True) if index % 2 == 0 else (True, False):
                measured = self.train(tuned if is_tuned else config, index)
                rates[is_tuned].append(measured.examples_per_second)
        return Tuning(tuned, choices, rates[False], rates[True])

    def _precision(self, config: Config, measured: Measurement) -> Choice:
        values = self.precisions or ("float32", "mixed_bfloat16")
        return self._compare(config, PRECISION, values)

    def _xla(self, config: Config, measured: Measurement) -> Choice:
        if config.engine == "jax":
            return untried(config, XLA, "JAX always compiles")
        on_gpu = measured.ranks[0]["device"] == "gpu"
        return self._compare(config, XLA, self.jit_compile or ("auto", not on_gpu))

    def _steps(self, config: Config, measured: Measurement) -> Choice:
        seconds = measured.median_step_seconds
        if seconds > SHORT_STEP_SECONDS:
            return untried(config, STEPS, f"a step of {1000 * seconds:.0f} ms hides what a call costs")
        return self._compare(config, STEPS, ("auto", *STEPS_TRIED))

    def _parallel_calls(self, config: Config, measured: Measurement) -> Choice:
        waits = measured.input_wait_ratio
        if waits < LEAST_WAIT:
            return untried(config, PARALLEL, f"{percent_text(waits)} of a step waits for input")
        return self._compare(config, PARALLEL, ("auto", self.num_cores, 2 * self.num_cores))

    def _batch(self, config: Config, measured: Measurement) -> Choice:
        size = config.training.global_batch_size
        if self.batch_sizes:
            return self._compare(config, BATCH, self.batch_sizes)
        candidates = list(self._growing(config, measured))
        if sum(one.refusal is None for one in candidates) > 1:
            self._measure(candidates, lambda value: changed(config, BATCH, value), first_pass=1)
        return choose(BATCH, size, candidates)

    def _growing(self, config: Config, measured: Measurement) -> Iterator[Candidate]:
        """Yields the config's batch and its doubles, each trained once, until they do not fit or bring nothing."""
        size, num_processes = config.training.global_batch_size, measured.trial.num_processes
        # Of a stream an epoch is steps, and not examples that could be divided among fewer.
        is_stream = config.training.num_steps is not None
        examples_per_epoch = math.inf if is_stream else measured.ranks[0]["steps_per_epoch"] * size
        tried: list[Candidate] = []
        vain = 0
        while vain < MOST_VAIN:
            candidate = Candidate(size)
            if tried:
                candidate.refusal = _too_few_steps(examples_per_epoch, size) or self._too_large(
                    tried, num_processes
                )
            if candidate.refusal is None:
                self._try(candidate, lambda size: changed(config, BATCH, size), 0)
            if candidate.refusal is None and tried:
                most = max(one.rate for one in tried)
                vain = vain + 1 if candidate.rate < LEAST_GAIN * most else 0
            yield candidate
            if candidate.refusal is not None:
                return
            tried.append(candidate)
            size *= 2

    def _too_large(self, tried: Sequence[Candidate], num_processes: int) -> str | None:
        """Returns why twice the last batch would not fit; None: it may, or that is not known."""
        free = self.free_memory()
        if free is None:
            return None
        last = tried[-1].peak_memory_bytes
        # Memory is a constant and a part that grows with the batch: the last doubling's growth, twice.
        growth = last - tried[-2].peak_memory_bytes if len(tried) > 1 else 0
        wanted = num_processes * (last + 2 * max(0, growth))
        if wanted <= MEMORY_SHARE * free:
            return None
        return f"would need {memory_text(wanted)} of the {memory_text(free)} that are free"

    def _compare(self, config: Config, key: str, values: Sequence[Any]) -> Choice:
        before = value_in(config, key)
        candidates = [Candidate(value) for value in dict.fromkeys((before, *values))]
        if len(candidates) == 1:
            return untried(config, key, "nothing else was to be tried")
        self._measure(candidates, lambda value: changed(config, key, value))
        return choose(key, before, candidates)

    def _measure(
        self, candidates: Sequence[Candidate], config_of: Callable[[Any], Config], first_pass: int = 0
    ) -> None:
        """Trains all candidates side by side; passes alternate their direction."""
        for index in range(first_pass, self.num_passes):
            for candidate in candidates if index % 2 == 0 else candidates[::-1]:
                if candidate.refusal is None:
                    self._try(candidate, config_of, index)

    def _try(self, candidate: Candidate, config_of: Callable[[Any], Config], index: int) -> None:
        try:
            candidate.measured.append(self.train(config_of(candidate.value), index))
        except DistkerasError as error:
            # Of an error of somebody else's library the beginning says enough.
            candidate.refusal = textwrap.shorten(error.problem, MOST_CHARACTERS, placeholder=" ...")


def tune(config: Config, progress: Progress, *, seconds: float, **options: Any) -> Tuning:
    """Tunes a config on this machine: every candidate is trained for a while, in processes of its own.

    Args:
        config: The user's config.
        progress: Tells what is being tried.
        seconds: How long each candidate is measured, after its warm-up.
        options: Of `Tuner`: how often, and which candidates.

    Raises:
        DistkerasError: If the config cannot be trained as it is.
    """
    with trial_folder(config) as folder:

        def train(changed: Config, index: int) -> Measurement:
            trial = Trial(setting_of(changed), "real", index)
            measured = run_trial(changed, trial, seconds, folder / "trial", progress)
            progress.announce(f"  {trial.setting.name}: {measured.summary}")
            return measured

        is_here = config.topology.kind != "ray"
        tuner = Tuner(
            train=train,
            num_cores=num_usable_cores(),
            # Workers on a cluster have the memory of other machines.
            free_memory=available_memory if is_here else lambda: None,
            announce=progress.announce,
            **options,
        )
        return tuner.tune(config)


def _too_few_steps(examples_per_epoch: float, size: int) -> str | None:
    steps = examples_per_epoch / size
    return f"an epoch would have {steps:.0f} steps" if steps < LEAST_STEPS else None
