"""DQN, ours and Stable-Baselines3's, on the same machine in one run.

  python benchmarks/dqn.py                        # everything
  python benchmarks/dqn.py --parts=tuned --repeats=5

Each measurement is a process of its own, pinned to one core, with one host thread. The
two take turns. CartPole-v1, the same settings for both:

  tuned  those that the zoo of Stable-Baselines3 has for CartPole: networks of 256-256,
         128 gradient steps on batches of 64 after every 256 steps; ours in the graph
  small  64-64, ten environments, a gradient step on a batch of 64 for every ten steps,
         ours in the graph
  host   tuned, with ours in Gymnasium's environment, in this process

It prints a Markdown table; the ratio is ours over theirs.
"""

import time

import side_by_side
from absl import app

_PARTS = ("tuned", "small", "host")
_MEASURED_SECONDS = 8.0
# Before which neither learns.
_LEARNING_STARTS = 1_000
_TUNED = {
    "num_envs": 1,
    "num_steps": 256,
    "gradient_steps": 128,
    "hidden_units": (256, 256),
}
_SETTINGS = {
    "tuned": _TUNED,
    "host": _TUNED,
    "small": {
        "num_envs": 10,
        "num_steps": 1,
        "gradient_steps": 1,
        "hidden_units": (64, 64),
    },
}

side_by_side.define_flags(_PARTS)


def warm_up_steps(batch):
    """Returns the whole iterations, in steps, after which both learn."""
    return -(-_LEARNING_STARTS // batch) * batch + batch


def measure_tfzoo(part, seed):
    """Trains ours; returns rates and seconds to compile."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from tfzoo.agents import DQN
    from tfzoo.environments import make

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
        agent.compile(keras.optimizers.Adam(2.3e-3, global_clipnorm=10.0))

        def train(steps):
            done = agent.env_steps
            agent.fit(environment, done + steps, initial_step=done, verbose=0)

        train(warm_up_steps(batch))
        first = time.perf_counter() - start
        # Of a size at which a call of the graph is no matter.
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


def rows(part):
    """Returns the rows of a part in the table."""
    del part
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
