"""Trust region policy optimization.

J. Schulman et al. 2015, arXiv:1502.05477, with the advantages of Schulman et al. 2015b,
arXiv:1506.02438. An iteration collects with the policy pi_0 and takes one step that
lowers the surrogate

  L(theta) = -mean(ratio * A),   ratio = pi(a | s) / pi_0(a | s)

within the trust region mean KL(pi_0 || pi) <= delta: the direction is the natural
gradient, solved by conjugate gradients with products of the Fisher matrix, its length
is that of the radius delta, and a backtracking line search shortens it until both the
surrogate falls and the divergence is within delta. All of this is
`tfzoo.optimizers.NaturalGradient`. Advantages have mean 0 and deviation 1.

The critic is fitted afterwards: by minibatches of gradient descent, or, as in the
original implementation, by ridge regression on [o, o^2, t/100, (t/100)^2, 1], with o
the features of the observation and t the steps into the episode.
"""

import math

import gymnasium as gym
import keras
import tensorflow as tf

from tfzoo.agents.on_policy import OnPolicyAgent, standardize
from tfzoo.agents.trajectory import EPISODE_SUMS, Trajectory
from tfzoo.environments import ParallelRollouts
from tfzoo.environments.errors import check_positive_integer
from tfzoo.losses import ValueLoss, probability_ratio
from tfzoo.optimizers import ForwardPass, Likelihood, NaturalGradient


def spread(samples, fraction):
    """Returns the indices of a part of samples, int32, spread evenly over them.

    The samples are cut into 1 / fraction long pieces, and each gives the one at its
    golden-ratio point, so that no period, such as that of the copies, meets them.

    Args:
      samples: a tensor [B, ...].
      fraction: in (0, 1]; at least one sample is taken.
    """
    size = samples.shape[0]
    if size is None:
        size = tf.shape(samples)[0]
        count = tf.cast(fraction * tf.cast(size, tf.float64), tf.int32)
        count = tf.maximum(1, count)
    else:
        count = max(1, int(fraction * size))
    piece = tf.range(tf.cast(count, tf.int64) + 1)
    start = piece * tf.cast(size, tf.int64) // piece[-1]
    length = tf.cast(start[1:] - start[:-1], tf.float64)
    golden = (math.sqrt(5.0) - 1.0) / 2.0 * tf.cast(piece[:-1], tf.float64)
    within = tf.cast(tf.math.floormod(golden, 1.0) * length, tf.int64)
    return tf.cast(start[:-1] + within, tf.int32)


class TRPO(OnPolicyAgent):
    """Trust region policy optimization; see the formulas of this module.

      agent = TRPO(environment.observation_space, environment.action_space)
      agent.compile()
      agent.fit(environment, steps=200_000)

    The policy and the critic are networks of their own, each with its optimizer.

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy.
      num_steps: T, the steps that each copy takes in an iteration.
      value_epochs: how often the critic goes over an iteration's data.
      value_minibatches: the gradient steps of each of these epochs.
      baseline: "network", or "ridge" for the regression of the original.
      ridge: its penalty on the squared coefficients.
      entropy_coefficient: the weight of an entropy bonus in the surrogate.
      schedule: a `TrustRegionSchedule`, which gives the radius of the policy's
        optimizer and, if it changes them, the steps of an iteration instead of
        `num_steps`; that needs worker processes.
      **kwargs: see `OnPolicyAgent`.

    Raises:
      ValueError: if an argument is out of its range, or the networks share weights.
    """

    remedy = "a larger --damping, a smaller --kl_radius or a lower --learning_rate"
    metric_names = (
        "policy_loss",
        "value_loss",
        "entropy",
        "kl",
        "kl_radius",
        "line_search_failures",
        "cg_residual",
    )

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        num_steps=2048,
        value_epochs=10,
        value_minibatches=16,
        baseline="network",
        ridge=2.0,
        entropy_coefficient=0.0,
        schedule=None,
        **kwargs,
    ):
        check_positive_integer("value_epochs", value_epochs)
        check_positive_integer("value_minibatches", value_minibatches)
        if baseline not in ("network", "ridge"):
            raise ValueError(f"baseline must be 'network' or 'ridge', got {baseline!r}")
        if not ridge > 0:
            raise ValueError(f"ridge must be positive, got {ridge}")
        if not entropy_coefficient >= 0:
            raise ValueError(
                f"entropy_coefficient must be at least 0, got {entropy_coefficient}"
            )
        super().__init__(observation_space, action_space, num_steps=num_steps, **kwargs)
        # The names by which epochs over minibatches go; see `OnPolicyAgent.learn`.
        self.epochs = value_epochs
        self.minibatches = value_minibatches
        self.baseline = baseline
        self.ridge = ridge
        self.entropy_coefficient = entropy_coefficient
        self.schedule = schedule
        self.value_loss = ValueLoss()
        self.policy_network = keras.Model(self.network.input, self.network.outputs[0])
        self.value_network = keras.Model(self.network.input, self.network.outputs[1])
        self.policy_variables = self.policy_network.trainable_variables
        self.value_variables = self.value_network.trainable_variables
        shared = {id(v) for v in self.policy_variables} & {
            id(v) for v in self.value_variables
        }
        if shared:
            raise ValueError(
                "TRPO moves policy and critic apart, but their networks share "
                f"{len(shared)} variables; give shared_torso=False"
            )
        if baseline == "ridge":
            num_features = 2 * math.prod(self.feature_shape) + 3
            self.coefficients = tf.Variable(tf.zeros([num_features]), trainable=False)

    def compile(
        self,
        optimizer=None,
        *,
        policy_optimizer=None,
        jit_compile="auto",
        run_eagerly=False,
    ):
        """Configures training.

        Args:
          optimizer: of the critic; by default `Adam(1e-3)`.
          policy_optimizer: a `NaturalGradient`; by default with a radius of 0.01 nats,
            a damping of 0.1, and ten lengths to try, each 0.8 of the one before.
          jit_compile, run_eagerly: see `Agent.compile`.
        """
        self.policy_optimizer = policy_optimizer or NaturalGradient(
            kl_radius=0.01, damping=0.1, line_search_steps=10, backtracking=0.8
        )
        super().compile(
            optimizer or keras.optimizers.Adam(1e-3),
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
        )

    def build_optimizers(self):
        """Creates the variables of both optimizers."""
        self.policy_optimizer.build(self.policy_variables)
        if self.schedule is not None and self.policy_optimizer.kl_radius is not None:
            self.policy_optimizer.kl_radius.assign(self.schedule.kl_radius)
        self.optimizer.build(self.value_variables)

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        if self.is_distributed:
            raise ValueError("TRPO cannot be distributed over devices; PPO and A2C can")
        if self.changes_steps and not isinstance(environment, ParallelRollouts):
            raise ValueError(
                f"schedule={self.schedule.kind} changes the steps of an iteration, for "
                'which environments need vectorization="workers"'
            )
        if self.schedule is not None and self.policy_optimizer.kl_radius is None:
            raise ValueError("a schedule needs a policy_optimizer with a kl_radius")
        if self.changes_steps:
            smallest = self.schedule.smallest_steps
            needed = {"copies of the environment": environment.num_envs}
            if self.baseline == "network":
                needed["value_minibatches"] = self.minibatches
            for what, number in needed.items():
                if smallest < number:
                    raise ValueError(
                        f"the schedule may come to {smallest} steps of an update, "
                        f"fewer than the {number} {what}; raise where its range of "
                        "steps begins (--smallest_steps) and the steps it starts with"
                    )
        size = self.steps_per_iteration(environment)
        if size and self.baseline == "network" and size % self.minibatches:
            raise ValueError(
                f"value_minibatches={self.minibatches} must divide the {size} steps of "
                f"an iteration ({environment.num_envs} copies of {self.num_steps})"
            )
        super().prepare(environment)

    def _build(self, environment):
        super()._build(environment)
        # The steps into the episodes under way, where an iteration begins.
        self.episode_steps = tf.Variable(
            tf.zeros([environment.num_envs]), trainable=False
        )

    # The schedule.

    @property
    def changes_steps(self):
        """Whether iterations may differ in their steps."""
        return self.schedule is not None and self.schedule.changes_steps

    def steps_per_iteration(self, environment):
        """Returns the steps of one iteration, or None where they change."""
        if self.changes_steps:
            return None
        return self.collect_steps(environment)

    def collect_steps(self, environment):
        """Returns the environment steps, over all copies, of the next iteration."""
        if not self.changes_steps:
            return super().collect_steps(environment)
        steps = round(float(self.schedule.steps.read_value()))
        # Whole steps of all copies, so that the count is true.
        return -(-steps // environment.num_envs) * environment.num_envs

    def begin_episodes(self):
        """Called before all copies of a host environment begin new episodes."""
        super().begin_episodes()
        self.episode_steps.assign(tf.zeros_like(self.episode_steps))

    def finish_episodes(self, episodes):
        """Lets the schedule choose the steps and the radius of the next iteration."""
        if self.schedule is not None:
            episodes = {
                name: tf.cast(episodes[name], tf.float32) for name in EPISODE_SUMS
            }
            mean_return = episodes["episode_return"] / episodes["episodes"]
            self.schedule.update(mean_return, self.step_counter.read_value())
            self.policy_optimizer.kl_radius.assign(self.schedule.kl_radius)

    def compile_learn_function(self, function, environment):
        """Compiles a function of a host `Trajectory`, once for all numbers of steps."""
        if not self.changes_steps or self.run_eagerly:
            return super().compile_learn_function(function, environment)
        # XLA compiles anew for each shape; a graph without it does not.
        num_envs, observation = environment.num_envs, self.observation_spec
        is_box = isinstance(self.action_space, gym.spaces.Box)

        def spec(dtype, shape=()):
            return tf.TensorSpec([None, num_envs, *shape], dtype)

        observations = spec(observation.dtype, observation.shape[1:])
        signature = Trajectory(
            observation=observations,
            action=spec(tf.float32 if is_box else tf.int32, self.action_space.shape),
            reward=spec(tf.float32),
            terminated=spec(tf.bool),
            truncated=spec(tf.bool),
            final_observation=observations,
        )
        return tf.function(function, input_signature=[signature], autograph=False)

    # Learning.

    def learn(self, trajectory, seed):
        """Takes a step of the policy, then fits the critic; see `OnPolicyAgent`."""
        batch = self.estimate(trajectory)
        metrics = self.improve_policy(batch)
        if self.baseline == "ridge":
            metrics["value_loss"] = self.fit_ridge(trajectory, batch.value_target)
        else:
            metrics.update(self.learn_batch(batch, seed, ("value_loss",)))
        self.episode_steps.assign(self.steps_into_episode(trajectory)[-1])
        return metrics

    def improve_policy(self, batch):
        """Takes one step of the natural gradient on the surrogate; returns metrics."""
        advantage = standardize(batch.advantage)
        features = self.preprocess(batch.observation)

        def surrogate(outputs):
            log_prob = self.policy.log_prob(outputs, batch.action)
            ratio = probability_ratio(log_prob, batch.old_log_prob)
            loss = -tf.reduce_mean(ratio * advantage)
            if self.entropy_coefficient:
                entropy = tf.reduce_mean(self.policy.entropy(outputs))
                loss -= self.entropy_coefficient * entropy
            return loss

        def outputs_of_fraction(fraction):
            return self.policy_network(tf.gather(features, spread(features, fraction)))

        forward_pass = ForwardPass(
            outputs=lambda: self.policy_network(features),
            loss=surrogate,
            likelihood=lambda outputs: Likelihood(self.policy, 1.0),
            outputs_of_fraction=outputs_of_fraction,
            layers=self.policy_network.layers,
        )
        radius = self.policy_optimizer.kl_radius
        radius = tf.identity(0.0 if radius is None else radius)
        _, outputs, scalars = self.policy_optimizer.minimize(
            forward_pass, self.policy_variables
        )
        return {
            "policy_loss": surrogate(self.policy_network(features)),
            "entropy": tf.reduce_mean(self.policy.entropy(outputs)),
            **{
                name: scalars[name]
                for name in ("kl", "line_search_failures", "cg_residual")
            },
            "kl_radius": radius,
        }

    def batch_loss(self, batch):
        """Returns the critic's loss on a minibatch; see `OnPolicyAgent`."""
        values = self.value_network(self.preprocess(batch.observation), training=True)
        value_loss = tf.reduce_mean(
            self.value_loss.call(batch.value_target[:, None], values)
        )
        return value_loss, {"value_loss": value_loss}

    @property
    def batch_variables(self):
        """What minibatches move: the critic."""
        return self.value_variables

    # The ridge regression of the original.

    def steps_into_episode(self, trajectory):
        """Returns how many steps of its episode are done after each step, float32.

        Shape [T, N]; 0 where the step was the last of an episode.
        """
        return tf.scan(
            lambda before, done: tf.where(done, 0.0, before + 1.0),
            trajectory.done,
            initializer=self.episode_steps.read_value(),
        )

    def steps_before(self, trajectory):
        """Returns how many steps of its episode are done before each step, [T, N]."""
        after = self.steps_into_episode(trajectory)
        return tf.concat([self.episode_steps.read_value()[None], after[:-1]], axis=0)

    def ridge_features(self, observation, time):
        """Returns [o, o^2, t/100, (t/100)^2, 1] as float32 [T, N, F].

        Args:
          observation: [T, N, ...].
          time: float32 [T, N], the steps into the episode.
        """
        shape = tf.shape(time)
        flat = tf.reshape(observation, [-1, *observation.shape[2:]])
        o = tf.reshape(self.preprocess(flat), [shape[0], shape[1], -1])
        o = tf.ensure_shape(o, [None, None, (self.coefficients.shape[0] - 3) // 2])
        t = time[..., tf.newaxis] / 100.0
        return tf.concat([o, o**2, t, t**2, tf.ones_like(t)], axis=-1)

    def outputs_and_values(self, trajectory):
        """Returns outputs, values and final values; see `OnPolicyAgent`."""
        outputs, values, final_values = super().outputs_and_values(trajectory)
        if self.baseline == "ridge":
            before = self.steps_before(trajectory)
            coefficients = self.coefficients.read_value()
            values, final_values = (
                tf.linalg.matvec(self.ridge_features(o, t), coefficients)
                for o, t in (
                    (trajectory.observation, before),
                    (trajectory.final_observation, before + 1.0),
                )
            )
        return outputs, values, final_values

    def fit_ridge(self, trajectory, value_target):
        """Fits the coefficients to targets [T * N]; returns half the mean square."""
        before = self.steps_before(trajectory)
        features = self.ridge_features(trajectory.observation, before)
        x = tf.reshape(features, [-1, features.shape[-1]])
        target = value_target[:, tf.newaxis]
        gram = tf.matmul(x, x, transpose_a=True)
        gram += self.ridge * tf.eye(gram.shape[0])
        self.coefficients.assign(
            tf.linalg.solve(gram, tf.matmul(x, target, transpose_a=True))[:, 0]
        )
        error = tf.linalg.matvec(x, self.coefficients.read_value()) - value_target
        return 0.5 * tf.reduce_mean(error**2)
