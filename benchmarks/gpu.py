"""GPU: how much of one GPU does training use, and how much of the best loop written by hand is it?

    pip install -e . "jax[cuda13]"
    python benchmarks/gpu.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]
    python benchmarks/gpu.py --tiny --pairs 1       # tries the script, without a GPU and in small sizes

Keras on JAX, mixed_bfloat16, synthetic examples, no network, no TensorFlow: ResNet-50 (batch 256, 224x224, bytes),
ViT-B/16 (batch 128, 224x224, bytes) and GPT-2 small (batch 16 of 1024 tokens). Fresh processes, interleaved; median of
the epochs after the first. Of each model:

- resnet50, vit_b16, gpt2_small: `distkeras.Trainer` with `engine: jax`, from arrays in the machine's memory; a run of
  fewer than 5000 steps, as this one, makes one call into JAX a step;
- resnet50_bare and so on, the bound: the same model, loss and optimizer in one jitted step, its batch on the device,
  called again and again without waiting for it;
- resnet50_idle and so on: the difference of both, milliseconds a step in which the device had nothing of ours to do.

What goes between the machine's memory and the device's:

- resnet50_float32: as resnet50, but of images in float32, which are four times the bytes;
- resnet50_transfer and resnet50_float32_transfer: a batch is copied to the device, and nothing else;
- commit: how long `distkeras.Trainer` stands still for a commit of 4 GB (weights and both moments of Adam, those of
  C8), which is written while training goes on; the next one comes when it is written;
- copy, the bound of that: arrays of the same sizes are copied from the device to new memory of the machine.

MFU is the share of the device's peak (bfloat16, dense) that three forward passes' operations a step come to; null where
the peak is unknown. 0.4 is good for the transformers. Published of ResNet-50: 2375 to 2470 images a second on an A100,
and 7083 on each of several H100 (tuned MXNet). Such figures are usually of its variant v1.5, which takes 4.1 billion
multiplications an image; Keras's takes 3.9.

Random changes of images on the device are not measured: `engine: jax` refuses `data.image.augment_on: device`. Nor is
training from JPEGs, which TensorFlow decodes.
"""

from __future__ import annotations

import operator
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import c08_checkpoint_stall as c08
import harness
from epochs import train_epochs
from harness import Benchmark, Derived, Mode
from ratios import Figures, Ratio

WORKLOADS = ("resnet50", "vit_b16", "gpt2_small")
EPOCHS = 6
# Of one epoch.
NUM_STEPS = 20
PRECISION = "mixed_bfloat16"
STATE_MEGABYTES, TINY_MEGABYTES = 4000, 10
# The first is warm-up.
NUM_COMMITS = 6
NO_GPU = 2
# Children inherit it.
TINY = "DISTKERAS_BENCHMARK_TINY"
# Dense bfloat16 operations a second by a device's name as JAX gives it, from NVIDIA's data sheets, whose larger numbers
# are with sparsity: nvidia.com/en-us/data-center/h200, /h100, /a100, /l40s, /l4.
PEAKS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H100 PCIe": 756.5e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362.05e12,
    "NVIDIA L4": 121e12,
}


def product(name: str) -> Figures:
    """Returns the speed of `dk.Trainer`."""
    workload = _workload(name)
    marks = train_epochs(
        workload.build,
        workload.examples(NUM_STEPS * workload.batch_size),
        epochs=EPOCHS,
        batch_size=workload.batch_size,
        settings={"engine": "jax", "topology.replicas": 1, "training.precision": PRECISION},
    )
    return figures(workload, statistics.median(marks.seconds[1:]) / NUM_STEPS)


def bare(name: str) -> Figures:
    """Returns the speed of a loop written by hand."""
    workload = _workload(name)
    import jax
    import keras

    keras.config.set_dtype_policy(PRECISION)
    model = workload.build()
    model.optimizer.build(model.trainable_variables)
    batch = jax.device_put(workload.examples(workload.batch_size))
    step, state = bare_step(model), bare_state(model)
    times: list[float] = []
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        for _ in range(NUM_STEPS):
            loss, state = step(state, batch)
        jax.block_until_ready((loss, state))
        times.append(time.perf_counter() - begin)
    return figures(workload, statistics.median(times[1:]) / NUM_STEPS)


def bare_state(model: Any) -> tuple[list[Any], ...]:
    """Returns the values of a model's weights, of its other variables, and of its optimizer's."""
    parts = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    return tuple([variable.value for variable in part] for part in parts)


def bare_step(model: Any) -> Any:
    """Returns one jitted step, from state and batch to loss and state; the state is used up."""
    import jax

    def loss_of(weights: Any, others: Any, features: Any, labels: Any) -> tuple[Any, Any]:
        outputs, others = model.stateless_call(weights, others, features, training=True)
        return model.loss(labels, outputs), others

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        weights, others, slots = state
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = differentiate(weights, others, *batch)
        weights, slots = model.optimizer.stateless_apply(slots, gradients, weights)
        return loss, (weights, others, slots)

    return jax.jit(step, donate_argnums=0)


def transfer(name: str) -> Figures:
    """Returns how long a batch takes to the device."""
    workload = _workload(name)
    import jax

    batch = workload.examples(workload.batch_size)
    times: list[float] = []
    for _ in range(NUM_STEPS):
        begin = time.perf_counter()
        jax.block_until_ready(jax.device_put(batch))
        times.append(time.perf_counter() - begin)
    seconds = statistics.median(times[1:])
    num_bytes = sum(part.nbytes for part in batch)
    return {"milliseconds_per_step": 1000 * seconds, "gigabytes_per_second": num_bytes / seconds / 1e9}


def commit() -> Figures:
    """Returns how long `dk.Trainer` stands still for a commit."""
    _use_jax()
    units = c08.units_for(_state_megabytes())
    marks = train_epochs(
        partial(c08.build_model, units),
        c08.examples(units),
        epochs=NUM_COMMITS * c08.EVERY_EPOCHS + 1,
        batch_size=c08.BATCH,
        settings={"engine": "jax", "topology.replicas": 1, "checkpoint.every_epochs": c08.EVERY_EPOCHS},
        callbacks=[waiting_for_the_writer()],
    )
    return c08.stalls(marks)


def waiting_for_the_writer() -> Any:
    """Returns a callback that begins no epoch before the last commit is written: real epochs take longer than that."""
    import keras

    def wait(epoch: int, logs: Any = None) -> None:
        for thread in threading.enumerate():
            if thread.name == "checkpoint-writer":
                thread.join()

    return keras.callbacks.LambdaCallback(on_epoch_begin=wait)


def copy() -> Figures:
    """Returns how long the state takes from the device."""
    import jax

    units = c08.units_for(_state_megabytes())
    arrays = [jax.numpy.ones((units, units)) for _ in range(3 * c08.NUM_LAYERS)]
    changed = jax.jit(lambda arrays: [array + 1 for array in arrays], donate_argnums=0)
    times: list[float] = []
    for _ in range(NUM_COMMITS):
        # JAX keeps a copy of what it has copied once.
        arrays = jax.block_until_ready(changed(arrays))
        begin = time.perf_counter()
        jax.device_get(arrays)
        times.append(time.perf_counter() - begin)
    return c08.percentiles(times[1:])


def figures(workload: Any, seconds: float) -> Figures:
    """Returns what the seconds of a step mean."""
    import jax

    examples_per_second = workload.batch_size / seconds
    flops = 3 * workload.flops(workload.build()) * examples_per_second
    peak = PEAKS.get(jax.devices()[0].device_kind)
    unit = "images_per_second" if workload.tokens is None else "tokens_per_second"
    return {
        "milliseconds_per_step": 1000 * seconds,
        unit: examples_per_second * (workload.tokens or 1),
        "teraflops_per_second": flops / 1e12,
        "mfu": None if peak is None else flops / peak,
    }


def _workload(name: str) -> Any:
    _use_jax()
    from gpu_models import workload

    return workload(name, tiny=TINY in os.environ)


def _use_jax() -> None:
    # Keras chooses once, while it is imported.
    os.environ["KERAS_BACKEND"] = "jax"


def _state_megabytes() -> int:
    return TINY_MEGABYTES if TINY in os.environ else STATE_MEGABYTES


def device() -> tuple[str, str]:
    """Returns platform and name of JAX's first device; asked in another process, which gives its memory back."""
    command = "import jax; device = jax.devices()[0]; print(device.platform, device.device_kind, sep='\\n')"
    try:
        found = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return "none", error.stderr.strip().rpartition("\n")[2]
    platform, kind = found.stdout.splitlines()
    return platform, kind


def main() -> None:
    """Measures, if there is a GPU or the sizes are tiny."""
    if "--run" in sys.argv or "--help" in sys.argv or "-h" in sys.argv:
        harness.main(BENCHMARK, __doc__)
        return
    if "--tiny" in sys.argv:
        sys.argv.remove("--tiny")
        os.environ[TINY] = "1"
        if any(argument.startswith("--out") for argument in sys.argv):
            raise SystemExit("--tiny measures nothing that is worth a file: leave --out away.")
    platform, kind = device()
    if platform not in ("gpu", "cuda", "rocm") and TINY not in os.environ:
        print(f"There is no GPU: JAX's first device is {platform} ({kind}).", file=sys.stderr)
        raise SystemExit(NO_GPU)
    settings = {
        **BENCHMARK.settings,
        "device": kind,
        "peak_flops": PEAKS.get(kind),
        "tiny": TINY in os.environ,
    }
    harness.main(replace(BENCHMARK, settings=settings), __doc__)


MODES = {
    **{
        mode: partial(measure, name)
        for name in WORKLOADS
        for mode, measure in ((name, product), (f"{name}_bare", bare))
    },
    "resnet50_float32": partial(product, "resnet50_float32"),
    **{f"{name}_transfer": partial(transfer, name) for name in ("resnet50", "resnet50_float32")},
    "commit": commit,
    "copy": copy,
}
BENCHMARK = Benchmark(
    id="GPU",
    script=__file__,
    figure="milliseconds_per_step",
    unit="milliseconds a step, ResNet-50",
    modes={name: Mode(measure, needs=("jax",)) for name, measure in MODES.items()},
    derived={f"{name}_idle": Derived(operator.sub, (name, f"{name}_bare")) for name in WORKLOADS},
    subject="resnet50",
    bound="resnet50_bare",
    ratios={
        "bound_ratio": Ratio("resnet50_bare", "resnet50", target=0.97),
        **{f"share_{name}": Ratio(f"{name}_bare", name) for name in WORKLOADS[1:]},
        "float32_to_bytes": Ratio("resnet50_float32", "resnet50"),
        # Below one a transfer can hide behind the step before.
        "transfer_to_step": Ratio("resnet50_transfer", "resnet50_bare", better="less"),
        "transfer_of_float32_to_step": Ratio("resnet50_float32_transfer", "resnet50_bare", better="less"),
        "commit_to_copy": Ratio("commit", "copy", target=1.2, better="less", figure="stall_milliseconds"),
    },
    settings={
        "epochs": EPOCHS,
        "steps_per_epoch": NUM_STEPS,
        "precision": PRECISION,
        "state_megabytes": STATE_MEGABYTES,
        "commits": NUM_COMMITS,
    },
    packages=("jax", "jaxlib"),
)

if __name__ == "__main__":
    main()
