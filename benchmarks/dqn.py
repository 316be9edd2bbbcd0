"""DQN, ours and Stable-Baselines3's, on the same machine in one run.

  python benchmarks/dqn.py                        # everything
  python benchmarks/dqn.py --parts=tuned --repeats=5

Each measurement is a process of its own, pinned to one core, with one host thread. The
two take turns. CartPole-v1, the same settings for both:

  tuned  those that the zoo of Stable-Baselines3 has for CartPole: networks of 256-256,
         128 gradient steps on batches of 64 after every 256 steps; ours in the graph
  small  64-64, ten environments, a gradient step on a batch of 64 for every ten steps,
         ours in the graph, in epochs of 51,200 steps and with a flag for XLA
  host   tuned, with ours in Gymnasium's environment, in this process
  huber  no speed: the mean over stored observations of the largest action value, after
         48,000 steps with the loss that is linear from an error of 1 on. The true
         values are below 100. Networks of 120-84, a gradient step on a batch of 128 for
         every eight steps, epsilon from 1 to 0.05 over 100,000 steps

Ours updates all weights as one vector (`FlattenedOptimizer`). It prints a Markdown
table; the ratio is ours over theirs.
"""

import os
import time

import side_by_side
from absl import app

_PARTS = ("tuned", "small", "host", "huber")
_MEASURED_SECONDS = 8.0
# Before which neither learns.
_LEARNING_STARTS = 1_000
_TUNED = {
    "num_envs": 1,
    "num_steps": 256,
    "gradient_steps": 128,
    "hidden_units": (256, 256),
    "steps_per_epoch": None,
    "xla_flags": "",
}
_SETTINGS = {
    "tuned": _TUNED,
    "host": _TUNED,
    "small": {
        "num_envs": 10,
        "num_steps": 1,
        "gradient_steps": 1,
        "hidden_units": (64, 64),
        # What surrounds a call of the graph takes no time then.
        "steps_per_epoch": 51_200,
        # The loop that draws a batch becomes one kernel.
        "xla_flags": "--xla_backend_extra_options="
        "xla_cpu_small_while_loop_byte_threshold=200000",
    },
}

_HUBER_STEPS = 48_000
# Observations of which the mean is taken.
_HUBER_SAMPLE = 1_000

side_by_side.define_flags(_PARTS)


def warm_up_steps(batch):
    """Returns the whole iterations, in steps, after which both learn."""
    return -(-_LEARNING_STARTS // batch) * batch + batch


def measure_tfzoo(part, seed):
    """Trains ours; returns rates and seconds to compile."""
    if part in _SETTINGS:
        # Read when XLA is loaded.
        flags = f"{os.environ.get('XLA_FLAGS', '')} {_SETTINGS[part]['xla_flags']}"
        os.environ["XLA_FLAGS"] = flags.strip()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from tfzoo.agents import DQN
    from tfzoo.environments import make
    from tfzoo.optimizers import FlattenedOptimizer

    if part == "huber":
        return huber_of_tfzoo(seed)
    settings = _SETTINGS[part]
    batch = settings["num_envs"] * settings["num_steps"]
    vectorization = "sync" if part == "host" else "in_graph"
    with make(
        "CartPole-v1", settings["num_envs"], vectorization=vectorization
    ) as environment:
        start = time.perf_counter()
        agent = DQN(
            environment.observation_space,
            environment.action_space,
            network_options={"hidden_units": settings["hidden_units"]},
            epsilon=0.04,
            target_period=settings["gradient_steps"],
            batch_size=64,
            replay_capacity=100_000,
            learning_starts=_LEARNING_STARTS,
            num_steps=settings["num_steps"],
            gradient_steps=settings["gradient_steps"],
            seed=seed,
        )
        agent.compile(
            FlattenedOptimizer(keras.optimizers.Adam(2.3e-3, global_clipnorm=10.0))
        )

        def train(steps):
            done = agent.env_steps
            agent.fit(
                environment,
                done + steps,
                initial_step=done,
                steps_per_epoch=settings["steps_per_epoch"],
                verbose=0,
            )

        train(warm_up_steps(batch))
        first = time.perf_counter() - start
        block = -(-5_120 // batch) * batch
        rate, one = side_by_side.rate(train, block, _MEASURED_SECONDS)
        per_step = settings["gradient_steps"] / batch
        return {
            "rate": rate,
            "gradient_rate": rate * per_step,
            "compile": first - one * warm_up_steps(batch) / block,
        }


def measure_sb3(part, seed):
    """The same with the peer, in its usual form."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    if part == "huber":
        return huber_of_sb3(seed)
    settings = _SETTINGS[part]
    batch = settings["num_envs"] * settings["num_steps"]
    model = DQN(
        "MlpPolicy",
        make_vec_env("CartPole-v1", settings["num_envs"], seed=seed),
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=_LEARNING_STARTS,
        target_update_interval=10,
        train_freq=settings["num_steps"],
        gradient_steps=settings["gradient_steps"],
        exploration_fraction=1e-6,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": list(settings["hidden_units"])},
        device="cpu",
        seed=seed,
    )

    def train(steps):
        model.learn(steps, reset_num_timesteps=False)

    train(warm_up_steps(batch))
    block = -(-2_560 // batch) * batch
    rate, _ = side_by_side.rate(train, block, _MEASURED_SECONDS)
    return {"rate": rate, "gradient_rate": rate * settings["gradient_steps"] / batch}


def huber_of_tfzoo(seed):
    """Trains ours with the Huber loss; returns the mean value."""
    import keras
    import tensorflow as tf

    from tfzoo import random
    from tfzoo.agents import DQN
    from tfzoo.environments import make

    environment = make("CartPole-v1", 1)
    agent = DQN(
        environment.observation_space,
        environment.action_space,
        network_options={"hidden_units": (120, 84)},
        epsilon=keras.optimizers.schedules.PolynomialDecay(1.0, 100_000, 0.05),
        huber_delta=1.0,
        num_steps=8,
        gradient_steps=1,
        target_period=50,
        batch_size=128,
        learning_starts=10_000,
        replay_capacity=10_000,
        seed=seed,
    )
    agent.compile(keras.optimizers.Adam(2.5e-4, global_clipnorm=10.0))
    agent.fit(environment, _HUBER_STEPS, verbose=0)
    index, _ = agent.replay.sample(_HUBER_SAMPLE, random.make_seed(seed))
    values = agent.q_values(agent.replay.transitions(index).observation)
    return {"value": float(tf.reduce_mean(tf.reduce_max(values, axis=1)))}


def huber_of_sb3(seed):
    """The same with the peer, whose loss this is."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback

    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < _HUBER_STEPS

    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.5e-4,
        batch_size=128,
        buffer_size=10_000,
        learning_starts=10_000,
        target_update_interval=400,
        train_freq=8,
        gradient_steps=1,
        exploration_fraction=0.5,
        exploration_final_eps=0.05,
        policy_kwargs={"net_arch": [120, 84]},
        device="cpu",
        seed=seed,
    )
    model.learn(200_000, callback=Stop())
    sample = model.replay_buffer.sample(_HUBER_SAMPLE)
    return {"value": model.q_net(sample.observations).max(dim=1)[0].mean().item()}


def rows(part):
    """Returns the rows of a part in the table."""
    if part == "huber":
        return [("mean value", "value", ",.0f")]
    speed, compile = side_by_side.SPEED_ROWS
    return [speed, ("gradient steps a second", "gradient_rate", ",.0f"), compile]


def main(argv):
    """Measures the parts in turns and prints a table."""
    del argv
    side_by_side.main(
        _PARTS,
        measure_tfzoo,
        ("Stable-Baselines3", measure_sb3),
        rows,
        ("tensorflow", "keras", "torch", "stable-baselines3"),
    )


if __name__ == "__main__":
    app.run(main)
