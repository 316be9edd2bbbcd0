"""The optimizers of tfzoo against Adam and SGD: loss by step and by second.

  python benchmarks/optimizers.py --figure=docs/results/optimizers.png
  python benchmarks/optimizers.py --problems=autoencoder --optimizers=adam,kfac

Two problems on MNIST, batches of 1,000, the same first weights and batches for all:

  autoencoder  784-1000-500-250-30 and back, tanh with a linear code (Hinton and
               Salakhutdinov 2006), binary cross-entropy in nats per image
  convolution  two Conv2D layers of 16 and 32 filters and a Dense one, cross-entropy

The loss is that of the training batches, averaged over ten steps. Learning rates are
the best of those in RATES, by the loss after a tenth of the steps, on other batches.
Seconds are those of training alone, without compilation, on `--threads` threads. Each
finished run is kept in --runs and not repeated. `--data` names an .npz with the keys of
`keras.datasets.mnist`, which is downloaded otherwise.
"""

import os
import pathlib
import platform
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from finished_runs import finished

from tfzoo.optimizers import (
    KFAC,
    GradientCentralization,
    LARSScaling,
    LayerwiseClipping,
    LayerwiseOptimizer,
    NaturalGradient,
    OrthogonalizedMomentum,
    Shampoo,
    second_order,
)


def by_layer(rate, transform):
    """Returns SGD with momentum over the transformed gradients of the kernels."""
    sgd = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    return LayerwiseOptimizer(sgd, {"kernel$": transform})


# What makes an optimizer from a learning rate, and the rates that are tried.
OPTIMIZERS = {
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adam": keras.optimizers.Adam,
    "natural_gradient": lambda rate: NaturalGradient(
        rate, damping=0.1, adaptive_damping=True, line_search_steps=4, warm_start=0.9
    ),
    "kfac": lambda rate: KFAC(rate, damping=0.1),
    "clipping": lambda rate: by_layer(rate, LayerwiseClipping(1.0)),
    "centralization": lambda rate: by_layer(rate, GradientCentralization()),
    "lars": lambda rate: by_layer(rate, LARSScaling()),
    "muon": lambda rate: LayerwiseOptimizer(
        keras.optimizers.SGD(rate), {"kernel$": OrthogonalizedMomentum()}
    ),
    "shampoo": lambda rate: LayerwiseOptimizer(
        keras.optimizers.SGD(rate, momentum=0.9), {"kernel$": Shampoo()}
    ),
}
RATES = {
    "sgd": {"autoencoder": (0.3, 1.0, 3.0), "convolution": (0.03, 0.1, 0.3)},
    "adam": {"autoencoder": (3e-4, 1e-3, 3e-3), "convolution": (1e-3, 3e-3, 1e-2)},
    "natural_gradient": {"autoencoder": (1.0,), "convolution": (1.0,)},
    "kfac": {"autoencoder": (0.5, 1.0), "convolution": (0.5, 1.0)},
    "clipping": {"autoencoder": (0.3, 1.0, 3.0), "convolution": (0.03, 0.1, 0.3)},
    "centralization": {"autoencoder": (0.3, 1.0, 3.0), "convolution": (0.03, 0.1, 0.3)},
    "lars": {"autoencoder": (3.0, 10.0, 30.0), "convolution": (3.0, 10.0, 30.0)},
    "muon": {"autoencoder": (0.01, 0.03, 0.1), "convolution": (0.01, 0.03, 0.1)},
    "shampoo": {"autoencoder": (0.3, 1.0, 3.0), "convolution": (0.03, 0.1, 0.3)},
}
STEPS = {"autoencoder": 1000, "convolution": 200}
# A step of conjugate gradients takes as long as some ten of Adam's.
FEWER_STEPS = {("autoencoder", "natural_gradient"): 300}
BATCH = 1000
_BLOCK = 10

_PROBLEMS = flags.DEFINE_list("problems", list(STEPS), "Which problems.")
_OPTIMIZERS = flags.DEFINE_list("optimizers", list(OPTIMIZERS), "Which optimizers.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Steps; by default 1,000 (natural_gradient: 300) and 200.", 20
)
_DATA = flags.DEFINE_string("data", None, "An .npz with MNIST; see above.")
_RUNS = flags.DEFINE_string("runs", "runs/optimizers", "Where results are kept.")
_FIGURE = flags.DEFINE_string("figure", None, "Where to draw the curves, if anywhere.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads within one operation.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the weights and batches.", 0)


def load_images():
    """Returns the 60,000 training images [N, 784] in [0, 1], and their labels."""
    if _DATA.value:
        with np.load(_DATA.value) as arrays:
            images, labels = arrays["x_train"], arrays["y_train"]
    else:
        (images, labels), _ = keras.datasets.mnist.load_data()
    return images.reshape(-1, 784).astype("float32") / 255.0, labels.astype("int32")


def make_model(problem, seed):
    """Returns a model, and its loss."""
    keras.utils.set_random_seed(seed)
    if problem == "autoencoder":
        widths = (1000, 500, 250)
        layers = [keras.layers.Dense(n, "tanh") for n in widths]
        layers.append(keras.layers.Dense(30))
        layers += [keras.layers.Dense(n, "tanh") for n in reversed(widths)]
        layers.append(keras.layers.Dense(784))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        layers = [
            keras.layers.Reshape([28, 28, 1]),
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 5, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return second_order(keras.Sequential([keras.layers.Input([784]), *layers])), loss


def train(problem, optimizer, steps, seed, images, labels):
    """Returns the losses and seconds after every ten steps, two lists."""
    model, loss = make_model(problem, seed)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    targets = images if problem == "autoencoder" else labels
    scale = 784.0 if problem == "autoencoder" else 1.0
    order = np.random.default_rng(seed)
    losses, seconds, times = [], [], []
    for _ in range(steps // _BLOCK):
        block = []
        for _ in range(_BLOCK):
            batch = order.choice(len(images), BATCH, replace=False)
            x, y = images[batch], targets[batch]
            start = time.perf_counter()
            logs = model.train_on_batch(x, y, return_dict=True)
            times.append(time.perf_counter() - start)
            block.append(float(logs["loss"]))
            model.reset_metrics()
        losses.append(scale * float(np.mean(block)))
        # The first step traces; it counts as the second.
        seconds.append(sum(times[1:]) + times[1])
    return losses, seconds


def best_rate(problem, name, steps, images, labels):
    """Returns the rate with the least loss after a tenth of the steps."""
    rates = RATES[name][problem]
    if len(rates) == 1:
        return rates[0]

    def final(rate):
        optimizer = OPTIMIZERS[name](rate)
        loss = train(problem, optimizer, max(20, steps // 10), 10_000, images, labels)
        return loss[0][-1] if np.isfinite(loss[0][-1]) else np.inf

    return min(rates, key=final)


def run(problem, name, images, labels):
    """Trains, or finds the result of an earlier run."""
    steps = _STEPS.value or FEWER_STEPS.get((problem, name), STEPS[problem])
    path = pathlib.Path(
        _RUNS.value, f"{problem}-{name}-{steps}-{_SEED.value}-{_THREADS.value}.json"
    )

    def measure():
        rate = best_rate(problem, name, steps, images, labels)
        losses, seconds = train(
            problem, OPTIMIZERS[name](rate), steps, _SEED.value, images, labels
        )
        return {"rate": rate, "losses": losses, "seconds": seconds}

    return finished(path, measure)


def first_below(losses, level):
    """Returns the steps after which a loss is at most `level`, or None."""
    below = np.flatnonzero(np.array(losses) <= level)
    return (int(below[0]) + 1) * _BLOCK if len(below) else None


def draw(results, path):
    """Draws loss by step and by second, a row for each problem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.6 * len(results)), dpi=150, layout="constrained")
    panels = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (problem, of_problem) in zip(panels, results.items(), strict=True):
        for name, result in of_problem.items():
            steps = _BLOCK * (1 + np.arange(len(result["losses"])))
            for panel, x in zip(row, (steps, result["seconds"]), strict=True):
                panel.plot(x, result["losses"], label=name, linewidth=1.3)
        lowest = min(min(r["losses"]) for r in of_problem.values())
        for panel, label in zip(row, ("step", "seconds"), strict=True):
            panel.set_yscale("log")
            panel.set_ylim(0.9 * lowest, 30 * lowest if lowest < 1 else 5 * lowest)
            panel.set_xlabel(label)
            panel.grid(alpha=0.3, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_title(problem, loc="left", fontsize=10)
        row[0].set_ylabel("training loss, nats")
        row[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main(argv):
    """Trains what is missing, prints the table, draws the figure."""
    del argv
    for flag, chosen, known in (
        ("problems", _PROBLEMS.value, STEPS),
        ("optimizers", _OPTIMIZERS.value, OPTIMIZERS),
    ):
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise SystemExit(
                f"--{flag}={','.join(unknown)}: known are {', '.join(known)}"
            )
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    images, labels = load_images()
    print(
        f"{_THREADS.value} threads of {os.cpu_count()}; TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}\n"
    )
    print(
        "| problem | optimizer | rate | steps | loss | ms a step "
        "| steps to Adam's loss |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    results = {}
    for problem in _PROBLEMS.value:
        results[problem] = {
            name: run(problem, name, images, labels) for name in _OPTIMIZERS.value
        }
        adam = results[problem].get("adam")
        for name, result in results[problem].items():
            reached = (
                first_below(result["losses"], adam["losses"][-1]) if adam else None
            )
            steps = _BLOCK * len(result["losses"])
            print(
                f"| {problem} | {name} | {result['rate']:g} | {steps:,} | "
                f"{result['losses'][-1]:.4g} | "
                f"{1000 * result['seconds'][-1] / steps:.0f} | {reached or 'never'} |",
                flush=True,
            )
    if _FIGURE.value:
        draw(results, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
