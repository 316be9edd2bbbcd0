"""Trains Stable-Baselines3's PPO and SAC with the settings of our configurations.

  python benchmarks/peer_returns.py --configs=ppo_half_cheetah,ppo_swimmer --seeds=3
  python benchmarks/peer_returns.py --configs=sac_half_cheetah --seeds=1

For a comparison at equal settings. PPO: number of copies, steps, minibatches, epochs,
learning rate and its annealing, discount, normalisation; all else is the peer's default
and equals ours: two networks of 64-64 tanh units, clip ratio 0.2, lambda 0.95, gradient
norm 0.5, Adam's epsilon 1e-5. SAC: steps, learning rate, first learning step, rows of
the replay buffer; all else is the peer's default and equals ours: networks of 256-256
relu units, batches of 256, target rate 0.005, discount 0.99, one copy and a gradient
step for every step. The table is as that of learning_results.py: the mean return of 100
greedy episodes after training, over seeds. Each run is kept in RUNS/CONFIG-SEED.json
and not repeated.
"""

import ast
import pathlib
import time

import numpy as np
from absl import app, flags
from finished_runs import finished

_CONFIGS = flags.DEFINE_list(
    "configs",
    None,
    "Names of PPO's and SAC's files in experiments/configs.",
    required=True,
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from 0.", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/peer", "Where the results are kept.")

_CONFIG_DIRECTORY = pathlib.Path(__file__).parents[1] / "experiments" / "configs"
# What a configuration may set, by algorithm.
_KNOWN = {
    "ppo": {
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
    },
    "sac": {
        "env",
        "steps",
        "learning_rate",
        "learning_starts",
        "replay_capacity",
        "checkpoint_every",
    },
}


def read_config(name):
    """Returns the flags of a configuration as a dict of values.

    Raises:
      SystemExit: if it sets what the peer is not given here.
    """
    known = _KNOWN.get(name.split("_")[0])
    if known is None:
        raise SystemExit(f"--configs={name}: only ppo_... and sac_... have peers here")
    settings = {"env_arguments": {}, "num_envs": 1, "discount": 0.99}
    for line in (_CONFIG_DIRECTORY / f"{name}.flags").read_text("utf8").splitlines():
        if line.startswith("--"):
            flag, _, value = line[2:].partition("=")
            if flag not in known:
                raise SystemExit(f"--configs={name}: --{flag} has no equal here")
            if flag == "env_arguments":
                key, _, value = value.partition("=")
                settings[flag] = {key: ast.literal_eval(value)}
            elif flag == "env":
                settings[flag] = value
            else:
                settings[flag] = ast.literal_eval(value or "True")
    return settings


def environments(settings, num_envs, seed):
    """Returns the peer's vectorised copies of a configuration's environment."""
    from stable_baselines3.common.env_util import make_vec_env

    return make_vec_env(
        settings["env"],
        num_envs,
        seed=seed,
        env_kwargs=settings["env_arguments"] or None,
    )


def train_ppo(settings, seed):
    """Returns a trained model, its environment to evaluate in, and the seconds."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

    num_envs, num_steps = settings["num_envs"], settings["num_steps"]
    environment = VecNormalize(
        environments(settings, num_envs, seed),
        norm_obs=settings.get("normalize_observations", False),
        norm_reward=settings.get("normalize_rewards", False),
        gamma=settings["discount"],
    )
    model = PPO(
        "MlpPolicy",
        environment,
        n_steps=num_steps,
        batch_size=num_envs * num_steps // settings["minibatches"],
        n_epochs=settings["epochs"],
        learning_rate=lambda remaining: remaining * settings["learning_rate"],
        gamma=settings["discount"],
        gae_lambda=0.95,
        device="cpu",
        seed=seed,
    )
    start = time.perf_counter()
    model.learn(settings["steps"])
    seconds = time.perf_counter() - start
    evaluation = VecNormalize(
        environments(settings, 10, seed + 1_000_000), training=False, norm_reward=False
    )
    evaluation.obs_rms = environment.obs_rms
    evaluation.norm_obs = environment.norm_obs
    return model, evaluation, seconds


def train_sac(settings, seed):
    """Returns a trained model, its environment to evaluate in, and the seconds."""
    from stable_baselines3 import SAC

    model = SAC(
        "MlpPolicy",
        environments(settings, 1, seed),
        learning_rate=settings["learning_rate"],
        buffer_size=settings["replay_capacity"],
        learning_starts=settings["learning_starts"],
        device="cpu",
        seed=seed,
    )
    start = time.perf_counter()
    model.learn(settings["steps"])
    seconds = time.perf_counter() - start
    return model, environments(settings, 10, seed + 1_000_000), seconds


def train_and_evaluate(config, settings, seed):
    """Returns the mean return of 100 greedy episodes, and the seconds of training."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3.common.evaluation import evaluate_policy

    train = {"ppo": train_ppo, "sac": train_sac}[config.split("_")[0]]
    model, evaluation, seconds = train(settings, seed)
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
            results.append(
                finished(
                    pathlib.Path(_RUNS.value, f"{config}-{seed}.json"),
                    lambda: train_and_evaluate(config, settings, seed),  # noqa: B023
                )
            )
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
