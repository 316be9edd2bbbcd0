"""Trains TRPO on an environment.

python experiments/trpo.py --flagfile=experiments/configs/trpo_cartpole.flags
"""

import keras
from absl import flags

from tfzoo.agents import TRPO, TrustRegionSchedule
from tfzoo.agents.trust_region_schedule import KINDS
from tfzoo.optimizers import NaturalGradient
from tfzoo.training import UserError, run_experiment
from tfzoo.training.agent_experiment import (
    make_environment,
    optimizer_options,
    train_and_finish,
)
from tfzoo.training.flags import define_at_least_zero
from tfzoo.training.policy_gradient_experiment import (
    agent_options,
    define_policy_gradient_flags,
)

FLAGS = flags.FLAGS

define_policy_gradient_flags(
    env="CartPole-v1",
    num_envs=8,
    num_steps=256,
    steps=204_800,
    learning_rate=1e-3,
    gae_lambda=0.97,
    anneal=None,
    distribute=None,
    max_gradient_norm=0.0,
    value_coefficient=None,
)
define_at_least_zero("kl_radius", 0.01, "Radius of the trust region, in nats.")
define_at_least_zero("damping", 0.1, "Added to the diagonal of the Fisher matrix.")
flags.DEFINE_integer("cg_iterations", 10, "Bound on conjugate gradients.", 1)
flags.DEFINE_integer("line_search_steps", 10, "Lengths of a step that are tried.", 0)
flags.DEFINE_float("backtracking", 0.8, "Each length over the one before.", 0.0, 1.0)
flags.DEFINE_float(
    "curvature_fraction", 1.0, "Part of the batch for the Fisher matrix.", 0.0, 1.0
)
flags.DEFINE_enum(
    "baseline",
    "network",
    ["network", "ridge"],
    "The critic: a network, or ridge "
    "regression on observations and time, as in the original.",
)
flags.DEFINE_integer("value_epochs", 10, "Passes of the critic over a batch.", 1)
flags.DEFINE_integer("value_minibatches", 16, "Its gradient steps in each pass.", 1)
flags.DEFINE_enum(
    "schedule",
    "fixed",
    KINDS,
    "How the steps of an update (with --vectorization=workers) and the radius change; "
    "linear and exponential go over --steps, and start later with more on resume.",
)
flags.DEFINE_integer(
    "last_num_steps", None, "Steps of each copy where linear or exponential end.", 1
)
define_at_least_zero("last_kl_radius", None, "Radius where linear or exponential end.")
define_at_least_zero(
    "margin", 0.0, "What an improvement must exceed, as a part of the last return."
)
flags.DEFINE_integer("compare_every", 10, "Updates between two comparisons.", 1)
flags.DEFINE_integer("change_of_steps", 300, "Of an update, by a comparison.", 1)
define_at_least_zero("change_of_kl_radius", 5e-4, "By a comparison, in nats.")
flags.DEFINE_integer("smallest_steps", 1200, "Of an update, over all copies.", 1)
flags.DEFINE_integer("largest_steps", 20_000, "Of an update, over all copies.", 1)
define_at_least_zero("smallest_kl_radius", 1e-3, "In nats.")
define_at_least_zero("largest_kl_radius", 1e-2, "In nats.")


# The flags of a schedule, and which kinds read them.
_INTERPOLATED = ("linear", "exponential")
_ADAPTIVE = ("adaptive_steps", "adaptive_kl", "adaptive_both")
_READ_BY = {
    "last_num_steps": _INTERPOLATED,
    "last_kl_radius": _INTERPOLATED,
    "margin": _ADAPTIVE,
    "compare_every": _ADAPTIVE,
    "change_of_steps": ("adaptive_steps", "adaptive_both"),
    "smallest_steps": ("adaptive_steps", "adaptive_both"),
    "largest_steps": ("adaptive_steps", "adaptive_both"),
    "change_of_kl_radius": ("adaptive_kl", "adaptive_both"),
    "smallest_kl_radius": ("adaptive_kl", "adaptive_both"),
    "largest_kl_radius": ("adaptive_kl", "adaptive_both"),
}


def make_schedule():
    """Returns the schedule that the flags name, or None where nothing changes.

    Raises:
      UserError: if a flag is set that this schedule does not read.
    """
    for name, kinds in _READ_BY.items():
        if FLAGS[name].value != FLAGS[name].default and FLAGS.schedule not in kinds:
            raise UserError(
                f"--{name} means nothing to --schedule={FLAGS.schedule}; it belongs to "
                f"{', '.join(kinds)}"
            )
    if FLAGS.schedule == "fixed":
        return None
    last = FLAGS.last_num_steps
    return TrustRegionSchedule(
        FLAGS.schedule,
        steps=FLAGS.num_steps * FLAGS.num_envs,
        kl_radius=FLAGS.kl_radius,
        last_steps=None if last is None else last * FLAGS.num_envs,
        last_kl_radius=FLAGS.last_kl_radius,
        total_steps=FLAGS.steps,
        margin=FLAGS.margin,
        compare_every=FLAGS.compare_every,
        change_of_steps=FLAGS.change_of_steps,
        change_of_kl_radius=FLAGS.change_of_kl_radius,
        range_of_steps=(FLAGS.smallest_steps, FLAGS.largest_steps),
        range_of_kl_radius=(FLAGS.smallest_kl_radius, FLAGS.largest_kl_radius),
    )


def main():
    """Trains, evaluates, exports."""
    with make_environment() as environment:
        agent = TRPO(
            environment.observation_space,
            environment.action_space,
            value_epochs=FLAGS.value_epochs,
            value_minibatches=FLAGS.value_minibatches,
            baseline=FLAGS.baseline,
            schedule=make_schedule(),
            **agent_options(),
        )
        agent.compile(
            keras.optimizers.Adam(**optimizer_options()),
            policy_optimizer=NaturalGradient(
                kl_radius=FLAGS.kl_radius,
                damping=FLAGS.damping,
                cg_iterations=FLAGS.cg_iterations,
                line_search_steps=FLAGS.line_search_steps,
                backtracking=FLAGS.backtracking,
                curvature_fraction=FLAGS.curvature_fraction,
            ),
            jit_compile=FLAGS.jit_compile,
        )
        train_and_finish(agent, environment)


if __name__ == "__main__":
    run_experiment(main)
