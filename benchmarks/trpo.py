"""TRPO, ours and sb3-contrib's, on the same machine in one run.

  python benchmarks/trpo.py                   # everything
  python benchmarks/trpo.py --parts=in_graph --repeats=5

Each measurement is a process of its own, pinned to one core, with one host thread. The
two take turns. The settings are the defaults of sb3-contrib, the same for both: 2,048
steps an update, here of 8 environments, a radius of 0.01 nats, 15 iterations of
conjugate gradients, damping 0.1, at most 10 lengths of a step, each 0.8 of the one
before, and 10 epochs of the critic in minibatches of 128 with Adam 1e-3; two networks
of 64-64 tanh units; lambda 0.95.

  in_graph   CartPole-v1, ours in the graph, Gymnasium's for the peer
  host       HalfCheetah-v5 in this process, ours with vectorization="workers" and no
             workers, which acts in NumPy; normalised observations and rewards
  sync       the same with ours as vectorization="sync" steps it, by calls of the policy
  workers    the same on all cores: ours with a worker process for each, the peer as in
             host, as more threads make it slower
  cartpole   the return of 100 greedy episodes of CartPole-v1 after 61,440 steps
  pendulum   the same of Pendulum-v1 after 204,800 steps, discount 0.9
  cheetah    the same of HalfCheetah-v5 after 307,200 steps

It prints a Markdown table; the ratio is ours over theirs.
"""

import os
import time

import side_by_side
from absl import app

_PARTS = ("in_graph", "host", "sync", "workers", "cartpole", "pendulum", "cheetah")
_ENVIRONMENTS = {
    "in_graph": "CartPole-v1",
    "host": "HalfCheetah-v5",
    "sync": "HalfCheetah-v5",
    "workers": "HalfCheetah-v5",
    "cartpole": "CartPole-v1",
    "pendulum": "Pendulum-v1",
    "cheetah": "HalfCheetah-v5",
}
# Environment steps after which the return is measured; other parts measure speed.
_STEPS = {"cartpole": 61_440, "pendulum": 204_800, "cheetah": 307_200}
_NUM_ENVS, _NUM_STEPS = 8, 256
_BATCH = _NUM_ENVS * _NUM_STEPS
_MEASURED_SECONDS = 8.0

side_by_side.define_flags(_PARTS)


def is_normalized(part):
    """Whether a part's observations and rewards are normalised."""
    return _ENVIRONMENTS[part] != "CartPole-v1"


def discount_of(part):
    """Returns gamma."""
    return 0.9 if part == "pendulum" else 0.99


def measure_tfzoo(part, seed):
    """Trains ours; returns steps a second and seconds to compile, or the return."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from tfzoo.agents import TRPO
    from tfzoo.environments import make
    from tfzoo.optimizers import NaturalGradient

    options = {
        "host": {"vectorization": "workers", "num_workers": 0},
        "workers": {
            "vectorization": "workers",
            "num_workers": min(_NUM_ENVS, os.cpu_count()),
        },
    }.get(part, {})
    with make(_ENVIRONMENTS[part], _NUM_ENVS, **options) as environment:
        start = time.perf_counter()
        agent = TRPO(
            environment.observation_space,
            environment.action_space,
            num_steps=_NUM_STEPS,
            gae_lambda=0.95,
            discount=discount_of(part),
            normalize_observations=is_normalized(part),
            normalize_rewards=is_normalized(part),
            seed=seed,
        )
        agent.compile(
            keras.optimizers.Adam(1e-3),
            policy_optimizer=NaturalGradient(
                kl_radius=0.01,
                damping=0.1,
                cg_iterations=15,
                line_search_steps=10,
                backtracking=0.8,
            ),
        )

        def train(steps):
            done = agent.env_steps
            agent.fit(environment, done + steps, initial_step=done, verbose=0)

        if part in _STEPS:
            train(_STEPS[part])
            seconds = time.perf_counter() - start
            mean = agent.evaluate(environment, 100, seed=seed + 100)["mean"]
            return {"return": mean, "seconds": seconds}
        train(_BATCH)
        first = time.perf_counter() - start
        rate, one = side_by_side.rate(train, _BATCH, _MEASURED_SECONDS)
        return {"rate": rate, "compile": first - one}


def measure_sb3_contrib(part, seed):
    """The same with the peer, in its usual form."""
    import torch

    torch.set_num_threads(1)
    from sb3_contrib import TRPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    def environments(num_envs, seed, **options):
        vector = make_vec_env(_ENVIRONMENTS[part], num_envs, seed=seed)
        if not is_normalized(part):
            return vector
        return VecNormalize(vector, gamma=discount_of(part), **options)

    environment = environments(_NUM_ENVS, seed)
    start = time.perf_counter()
    model = TRPO(
        "MlpPolicy",
        environment,
        n_steps=_NUM_STEPS,
        gamma=discount_of(part),
        device="cpu",
        seed=seed,
    )
    if part in _STEPS:
        model.learn(_STEPS[part])
        seconds = time.perf_counter() - start
        evaluation = environments(10, seed + 100, training=False, norm_reward=False)
        if is_normalized(part):
            evaluation.obs_rms = environment.obs_rms
        mean, _ = evaluate_policy(model, evaluation, n_eval_episodes=100)
        return {"return": float(mean), "seconds": seconds}
    model.learn(_BATCH)
    return {"rate": side_by_side.rate(model.learn, _BATCH, _MEASURED_SECONDS)[0]}


def rows(part):
    """Returns the rows of a part in the table."""
    if part in _STEPS:
        steps = f"{_STEPS[part]:,} steps"
        return [
            (f"mean return after {steps}", "return", ".1f"),
            (f"seconds for {steps}", "seconds", ".1f"),
        ]
    return side_by_side.SPEED_ROWS


def main(argv):
    """Measures the parts in turns and prints a table."""
    del argv
    side_by_side.main(
        _PARTS,
        measure_tfzoo,
        ("sb3-contrib", measure_sb3_contrib),
        rows,
        ("tensorflow", "keras", "torch", "stable-baselines3", "sb3-contrib"),
        unpinned=("workers",),
    )


if __name__ == "__main__":
    app.run(main)
