"""PPO, ours and Stable-Baselines3's, on the same machine in one run.

  python benchmarks/ppo.py                   # everything, on one thread each
  python benchmarks/ppo.py --parts=defaults,small --repeats=5

Each measurement is a process of its own, pinned to one core, with one host thread.
The two take turns. A part has a fixed algorithm setting, the same for both:

  defaults   CartPole-v1, Stable-Baselines3's own defaults: 8 environments, 2,048
             steps, minibatches of 64, 10 epochs, two networks of 64-64
  small      CartPole-v1, 4 environments, 128 steps, 4 minibatches, 4 epochs
  solve      CartPole-v1 with the tuned settings of RL Baselines3 Zoo: the time to a
             mean return of at least 475 over 100 evaluation episodes, checked every
             2,560 steps. Compilation is counted, imports and evaluation are not. So
             short a run does not repay XLA, nor TensorFlow's own optimisation of the
             graph: ours is with jit_compile=False and without either, on TensorFlow's
             executor for one thread, for which there is no public switch. Learning
             rate and clip ratio fall to 0 over 100,000 steps on both sides
  solve_xla  the same with XLA
  host       HalfCheetah-v5 in this process, 8 environments, 256 steps, minibatches of
             64, 10 epochs, normalised observations and rewards

Ours updates all weights as one vector (`FlattenedOptimizer`), which is traced and
compiled sooner. It prints a Markdown table; the ratio is ours over theirs.
"""

import time

import side_by_side
from absl import app

_PARTS = ("defaults", "small", "solve", "solve_xla", "host")

_CARTPOLE = {"env": "CartPole-v1", "learning_rate": 3e-4, "discount": 0.99}
SETTINGS = {
    "defaults": dict(
        _CARTPOLE, num_envs=8, num_steps=2048, minibatches=256, epochs=10, lam=0.95
    ),
    "small": dict(
        _CARTPOLE, num_envs=4, num_steps=128, minibatches=4, epochs=4, lam=0.95
    ),
    "solve": {
        "env": "CartPole-v1",
        "num_envs": 8,
        "num_steps": 32,
        "minibatches": 1,
        "epochs": 20,
        "lam": 0.8,
        "discount": 0.98,
        "learning_rate": 1e-3,
        "anneal_over": 100_000,
    },
    "host": {
        "env": "HalfCheetah-v5",
        "num_envs": 8,
        "num_steps": 256,
        "minibatches": 32,
        "epochs": 10,
        "lam": 0.95,
        "discount": 0.99,
        "learning_rate": 3e-4,
    },
}
SETTINGS["solve_xla"] = SETTINGS["solve"]
_MEASURED_SECONDS = 6.0
# Evaluations in "solve" come every so many environment steps.
_SOLVE_EVERY = 2_560

side_by_side.define_flags(_PARTS)


def measure_tfzoo(part, seed):
    """Trains ours; returns steps a second and seconds to compile, or to solve."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if part == "solve":
        from tensorflow.python.eager import context

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        context.function_executor_type("SINGLE_THREADED_EXECUTOR").__enter__()
    import keras

    from tfzoo.agents import PPO
    from tfzoo.environments import make
    from tfzoo.optimizers import FlattenedOptimizer

    s = SETTINGS[part]
    batch = s["num_envs"] * s["num_steps"]
    host = part == "host"
    environment = make(s["env"], s["num_envs"])
    learning_rate, clip_ratio = s["learning_rate"], 0.2
    start = time.perf_counter()
    if "anneal_over" in s:
        updates = s["anneal_over"] // batch * s["epochs"] * s["minibatches"]
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, updates, 0.0
        )
        clip_ratio = keras.optimizers.schedules.PolynomialDecay(
            clip_ratio, s["anneal_over"], 0.0
        )
    agent = PPO(
        environment.observation_space,
        environment.action_space,
        num_steps=s["num_steps"],
        minibatches=s["minibatches"],
        epochs=s["epochs"],
        clip_ratio=clip_ratio,
        gae_lambda=s["lam"],
        discount=s["discount"],
        normalize_observations=host,
        normalize_rewards=host,
        seed=seed,
    )
    agent.compile(
        FlattenedOptimizer(
            keras.optimizers.Adam(learning_rate, epsilon=1e-5, global_clipnorm=0.5)
        ),
        jit_compile=part != "solve",
    )

    def train(steps):
        done = agent.env_steps
        agent.fit(
            environment,
            done + steps,
            initial_step=done,
            steps_per_epoch=steps if not host else None,
            verbose=0,
        )

    if part.startswith("solve"):
        evaluating = 0.0
        mean = 0.0
        while mean < 475 and agent.env_steps < s["anneal_over"]:
            train(_SOLVE_EVERY)
            began = time.perf_counter()
            mean = agent.evaluate(environment, 100, seed=seed + 100)["mean"]
            evaluating += time.perf_counter() - began
        return {
            "seconds": time.perf_counter() - start - evaluating,
            "steps": agent.env_steps,
            "return": mean,
        }
    train(batch)
    first = time.perf_counter() - start
    rate, one = side_by_side.rate(train, batch, _MEASURED_SECONDS)
    return {"rate": rate, "compile": first - one}


def evaluating_callback(environments):
    """Returns a callback that evaluates after an update and stops at 475."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy

    class Evaluate(BaseCallback):
        evaluating, steps, mean = 0.0, 0, 0.0

        def _on_rollout_start(self):
            # The update on the last rollout is done; the one before the first is none.
            if self.num_timesteps and self.num_timesteps % _SOLVE_EVERY == 0:
                began = time.perf_counter()
                mean, _ = evaluate_policy(self.model, environments, n_eval_episodes=100)
                self.evaluating += time.perf_counter() - began
                self.steps, self.mean = self.num_timesteps, float(mean)

        def _on_step(self):
            return self.mean < 475

    return Evaluate()


def measure_stable_baselines3(part, seed):
    """The same with the peer, in its usual form."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    s = SETTINGS[part]
    batch = s["num_envs"] * s["num_steps"]
    environment = make_vec_env(s["env"], n_envs=s["num_envs"], seed=seed)
    if part == "host":
        environment = VecNormalize(environment)

    def linear(value):
        return lambda remaining: remaining * value

    anneal = "anneal_over" in s
    evaluation = make_vec_env(s["env"], n_envs=100, seed=seed + 100) if anneal else None
    start = time.perf_counter()
    model = PPO(
        "MlpPolicy",
        environment,
        n_steps=s["num_steps"],
        batch_size=batch // s["minibatches"],
        n_epochs=s["epochs"],
        gae_lambda=s["lam"],
        gamma=s["discount"],
        learning_rate=linear(s["learning_rate"]) if anneal else s["learning_rate"],
        clip_range=linear(0.2) if anneal else 0.2,
        device="cpu",
        seed=seed,
    )
    if part.startswith("solve"):
        check = evaluating_callback(evaluation)
        model.learn(s["anneal_over"], callback=check)
        return {
            "seconds": time.perf_counter() - start - check.evaluating,
            "steps": check.steps,
            "return": check.mean,
        }
    model.learn(batch)
    return {"rate": side_by_side.rate(model.learn, batch, _MEASURED_SECONDS)[0]}


def rows(part):
    """Returns the rows of a part in the table."""
    if part.startswith("solve"):
        return [
            ("seconds to 475", "seconds", ".2f"),
            ("environment steps to 475", "steps", ",.0f"),
            ("mean return reached", "return", ".1f"),
        ]
    return side_by_side.SPEED_ROWS


def main(argv):
    """Measures the parts in turns and prints a table."""
    del argv
    side_by_side.main(
        _PARTS,
        measure_tfzoo,
        ("Stable-Baselines3", measure_stable_baselines3),
        rows,
        ("tensorflow", "keras", "torch", "stable-baselines3"),
    )


if __name__ == "__main__":
    app.run(main)
