"""Trains Stable-Baselines3's PPO with the settings of our configurations.

  python benchmarks/peer_returns.py --configs=ppo_half_cheetah,ppo_swimmer --seeds=3

For a comparison at equal settings: number of copies, steps, minibatches, epochs,
learning rate and its annealing, discount, normalisation. All else is the peer's default
and equals ours: two networks of 64-64 tanh units, clip ratio 0.2, lambda 0.95, gradient
norm 0.5, Adam's epsilon 1e-5. The table is as that of learning_results.py: the mean
return of 100 greedy episodes after training, over seeds. Each run is kept in
RUNS/CONFIG-SEED.json and not repeated.
"""

import ast
import json
import os
import pathlib
import time

import numpy as np
from absl import app, flags

_CONFIGS = flags.DEFINE_list(
    "configs", None, "Names of PPO's files in experiments/configs.", required=True
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from 0.", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/peer", "Where the results are kept.")

_CONFIG_DIRECTORY = pathlib.Path(__file__).parents[1] / "experiments" / "configs"
_KNOWN = {
    "env",
    "env_arguments",
    "num_envs",
    "num_steps",
    "steps",
    "learning_rate",
    "minibatches",
    "epochs",
    "discount",
    "normalize_observations",
    "normalize_rewards",
}


def read_config(name):
    """Returns the flags of a configuration as a dict.

    Raises:
      SystemExit: if it sets what the peer is not given here.
    """
    settings = {}
    for line in (_CONFIG_DIRECTORY / f"{name}.flags").read_text("utf8").splitlines():
        if line.startswith("--"):
            flag, _, value = line[2:].partition("=")
            if flag not in _KNOWN:
                raise SystemExit(f"--configs={name}: --{flag} has no equal here")
            settings[flag] = value or "True"
    return settings


def train_and_evaluate(settings, seed):
    """Returns the mean return of 100 greedy episodes, and the seconds of training."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    def number(name, default=None):
        return ast.literal_eval(settings.get(name, repr(default)))

    arguments = {}
    if "env_arguments" in settings:
        key, _, value = settings["env_arguments"].partition("=")
        arguments[key] = ast.literal_eval(value)
    num_envs, num_steps = number("num_envs"), number("num_steps")
    discount, learning_rate = number("discount", 0.99), number("learning_rate")

    def environments(num_envs, seed):
        return make_vec_env(
            settings["env"], num_envs, seed=seed, env_kwargs=arguments or None
        )

    environment = VecNormalize(
        environments(num_envs, seed),
        norm_obs=number("normalize_observations", False),
        norm_reward=number("normalize_rewards", False),
        gamma=discount,
    )
    model = PPO(
        "MlpPolicy",
        environment,
        n_steps=num_steps,
        batch_size=num_envs * num_steps // number("minibatches"),
        n_epochs=number("epochs"),
        learning_rate=lambda remaining: remaining * learning_rate,
        gamma=discount,
        gae_lambda=0.95,
        device="cpu",
        seed=seed,
    )
    start = time.perf_counter()
    model.learn(number("steps"))
    seconds = time.perf_counter() - start
    evaluation = VecNormalize(
        environments(10, seed + 1_000_000), training=False, norm_reward=False
    )
    evaluation.obs_rms = environment.obs_rms
    evaluation.norm_obs = environment.norm_obs
    mean, _ = evaluate_policy(model, evaluation, n_eval_episodes=100)
    return {"mean": float(mean), "seconds": seconds}


def main(argv):
    """Trains what is missing and prints the table."""
    del argv
    print("| environment | steps | mean return | spread over seeds | each seed |")
    print("|---|---:|---:|---:|---|")
    for config in _CONFIGS.value:
        settings = read_config(config)
        results = []
        for seed in range(_SEEDS.value):
            path = pathlib.Path(_RUNS.value, f"{config}-{seed}.json")
            if not path.exists():
                result = train_and_evaluate(settings, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(result) + "\n", "utf8")
                os.replace(unfinished, path)
            results.append(json.loads(path.read_text("utf8")))
        means = np.array([result["mean"] for result in results])
        spread = means.std(ddof=1) if len(means) > 1 else 0.0
        each = ", ".join(f"{mean:.1f}" for mean in means)
        print(
            f"| {settings['env']} | {int(settings['steps']):,} | {means.mean():.1f} | "
            f"{spread:.1f} | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
