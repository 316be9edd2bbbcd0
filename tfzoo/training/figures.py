"""Learning curves, from the metrics of runs."""

import csv
import math

import numpy as np
from matplotlib.ticker import MaxNLocator

from tfzoo.training.atomic_files import replacing

# The categorical colours of Okabe and Ito (2008), which the colour-blind tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def learning_curve(metrics, path, *, title=""):
    """Draws the return of one run against environment steps.

    Args:
      metrics: the path of a `metrics.csv`.
      path: of the figure; its suffix says which format.
      title: of the figure.
    """
    learning_curves({"": [metrics]}, path, title=title)


def learning_curves(runs, path, *, title=""):
    """Draws the returns of groups of runs: their mean, and their standard deviation.

    Args:
      runs: a dict from a label to the paths of `metrics.csv` files, one a seed. Where
        the runs of a group differ in length, its curve ends with the shortest.
      path: of the figure; its suffix says which format.
      title: of the figure.
    """
    learning_curve_panels({title: runs}, path)


def learning_curve_panels(panels, path):
    """Draws `learning_curves` side by side.

    Args:
      panels: a dict from the title of a panel to its `runs`.
      path: of the figure; its suffix says which format.
    """
    # Without pyplot there is no window system to choose, and no state to clean up.
    from matplotlib.figure import Figure

    width = 6.4 if len(panels) == 1 else 4.2 * len(panels)
    figure = Figure(figsize=(width, 4.0), dpi=150, layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, runs) in zip(row, panels.items(), strict=True):
        _draw(axes, runs)
        axes.set_title(title, loc="left")
    with replacing(path) as unfinished:
        figure.savefig(unfinished)


def _draw(axes, runs):
    for (label, paths), color in zip(runs.items(), _COLORS * len(runs), strict=False):
        curves = [read_returns(each) for each in paths]
        if not all(steps.size for steps, _ in curves):
            # A run in which no episode ended has no curve.
            continue
        steps, returns = _on_common_steps(curves)
        mean, deviation = returns.mean(axis=0), returns.std(axis=0)
        if len(paths) > 1:
            spread = f"mean of {len(paths)} runs ± standard deviation"
            label = f"{label} ({spread})" if label else spread
            axes.fill_between(
                steps,
                mean - deviation,
                mean + deviation,
                color=color,
                alpha=0.2,
                linewidth=0,
            )
        axes.plot(steps, mean, color=color, label=label, linewidth=1.8)
    _finish(axes, "environment steps", "episode return while training")


def _finish(axes, xlabel, ylabel):
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)


def metric_curves(metrics, names, path, *, title="", label="nats"):
    """Draws metrics of one run against training steps, and those of validation.

    Args:
      metrics: the path of a `metrics.csv`.
      names: the metrics, each of which may have a column "val_" and its name, too.
      path: of the figure; its suffix says which format.
      title: of the figure.
      label: of the vertical axis.
    """
    from matplotlib.figure import Figure

    with open(metrics, newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["steps"]) for row in rows]
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, color in zip(names, _COLORS * len(names), strict=False):
        for column, style, text in (
            (name, "-", f"{name}, training"),
            (f"val_{name}", "--", f"{name}, test"),
        ):
            if column in rows[0]:
                values = [float(row[column]) for row in rows]
                axes.plot(steps, values, style, color=color, label=text, linewidth=1.8)
    axes.set_title(title, loc="left")
    _finish(axes, "training steps", label)
    with replacing(path) as unfinished:
        figure.savefig(unfinished)


def read_returns(metrics):
    """Reads the steps and the episode returns of a run, float64 [rows] each.

    Rows of epochs in which no episode ended are left out.

    Args:
      metrics: the path of a `metrics.csv`.
    """
    with open(metrics, newline="", encoding="utf8") as file:
        rows = [
            (float(row["steps"]), float(row["episode_return"]))
            for row in csv.DictReader(file)
        ]
    rows = [row for row in rows if not math.isnan(row[1])]
    steps, returns = np.array(rows).reshape(-1, 2).T
    return steps, returns


def _on_common_steps(curves):
    """Interpolates curves at the steps of the first that all of them cover."""
    start = max(steps[0] for steps, _ in curves)
    end = min(steps[-1] for steps, _ in curves)
    grid = curves[0][0]
    grid = grid[(start <= grid) & (grid <= end)]
    return grid, np.stack([np.interp(grid, *curve) for curve in curves])
