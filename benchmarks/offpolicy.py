"""TD3 and SAC, ours and Stable-Baselines3's, on the same machine in one run.

  python benchmarks/offpolicy.py                       # everything
  python benchmarks/offpolicy.py --parts=sac_host --repeats=5

Each measurement is a process of its own, pinned to one core, with one host thread. The
two take turns. Pendulum-v1, one environment, a gradient step on a batch of 256 for each
step, the networks of the peer's defaults: 400-300 for TD3, 256-256 for SAC.

  td3_host, sac_host  Gymnasium's environment on both sides
  td3, sac            ours in the graph

It prints a Markdown table; the ratio is ours over theirs.
"""

import time

import side_by_side
from absl import app

_PARTS = ("td3_host", "sac_host", "td3", "sac")
_MEASURED_SECONDS = 8.0
_LEARNING_STARTS = 300
_HIDDEN = {"td3": (400, 300), "sac": (256, 256)}

side_by_side.define_flags(_PARTS)


def measure_tfzoo(part, seed):
    """Trains ours; returns steps a second and seconds to compile."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from tfzoo.agents import SAC, TD3
    from tfzoo.environments import make

    algorithm, _, host = part.partition("_")
    with make(
        "Pendulum-v1", vectorization="sync" if host else "in_graph"
    ) as environment:
        start = time.perf_counter()
        options = {"hidden_units": _HIDDEN[algorithm]}
        agent = {"td3": TD3, "sac": SAC}[algorithm](
            environment.observation_space,
            environment.action_space,
            actor_options=options,
            critic_options=options,
            batch_size=256,
            replay_capacity=200_000,
            learning_starts=_LEARNING_STARTS,
            discount=0.98,
            seed=seed,
        )
        agent.compile(
            keras.optimizers.Adam(1e-3), actor_optimizer=keras.optimizers.Adam(1e-3)
        )

        def train(steps):
            done = agent.env_steps
            agent.fit(environment, done + steps, initial_step=done, verbose=0)

        train(_LEARNING_STARTS + 100)
        first = time.perf_counter() - start
        rate, one = side_by_side.rate(train, 200, _MEASURED_SECONDS)
        return {"rate": rate, "compile": first - one / 2}


def measure_sb3(part, seed):
    """The same with the peer, in its usual form."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3 import SAC, TD3

    algorithm = part.partition("_")[0]
    model = {"td3": TD3, "sac": SAC}[algorithm](
        "MlpPolicy",
        "Pendulum-v1",
        learning_rate=1e-3,
        batch_size=256,
        buffer_size=200_000,
        learning_starts=_LEARNING_STARTS,
        train_freq=1,
        gradient_steps=1,
        gamma=0.98,
        policy_kwargs={"net_arch": list(_HIDDEN[algorithm])},
        device="cpu",
        seed=seed,
    )

    def train(steps):
        model.learn(steps, reset_num_timesteps=False)

    train(_LEARNING_STARTS + 100)
    return {"rate": side_by_side.rate(train, 200, _MEASURED_SECONDS)[0]}


def main(argv):
    """Measures the parts in turns and prints a table."""
    del argv
    side_by_side.main(
        _PARTS,
        measure_tfzoo,
        ("Stable-Baselines3", measure_sb3),
        lambda part: side_by_side.SPEED_ROWS,
        ("tensorflow", "keras", "torch", "stable-baselines3"),
    )


if __name__ == "__main__":
    app.run(main)
