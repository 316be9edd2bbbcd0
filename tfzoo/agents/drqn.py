"""Deep recurrent Q-learning, for worlds of which an observation shows only a part.

Hausknecht and Stone 2015 (arXiv:1507.06527): Q(h_t, a) of an LSTM's state h_t, which
remembers what was observed before, learned from sequences of steps,

    y_t = r_t + gamma max_a' Q'(h'_t+1, a'),  or r_t alone where the episode terminated,
    L   = mean over the steps of the episode of huber(Q(h_t, a_t) - y_t).

As in R2D2 (Kapturowski et al. 2019), sequences begin with the state that the agent had
when it acted, or with zeros, and the first `burn_in` steps only bring the state up to
date, for Q and for Q' each. A state is never carried beyond the end of an episode, in
acting or in learning, and acting runs the network once a step. With `previous_action`
the LSTM sees the action before each observation too (Zhu et al. 2017,
arXiv:1704.07978): what an action did need not be told from observations alone.
"""

import tensorflow as tf

from tfzoo.agents.dqn import DQN
from tfzoo.agents.networks import check_functional, recurrent_q_network
from tfzoo.environments.errors import check_positive_integer
from tfzoo.losses import (
    huber_value_loss,
    q_learning_target,
    squared_value_loss,
)

# Of the errors of a sequence, the share of the largest in its priority (R2D2).
_PRIORITY_OF_LARGEST = 0.9


class DRQN(DQN):
    """Deep recurrent Q-network.

      agent = DRQN(environment.observation_space, environment.action_space)
      agent.compile(keras.optimizers.Adam(1e-3))
      agent.fit(environment, steps=100_000)

    Args:
      observation_space, action_space: the Gymnasium spaces of one environment copy;
        observations are vectors or indices, actions are Discrete.
      network: a `keras.Model` from (features [B, L, ...], hidden [B, U], cell [B, U])
        to (values [B, L, A], hidden, cell); by default `networks.recurrent_q_network`.
        With `previous_action`, actions [B, L, A] come after the features.
      network_options: a dict of arguments for `networks.recurrent_q_network`.
      sequence_length: L, the steps of a sequence that are learned from.
      burn_in: the steps before them that are not. Sequences begin at any step, so that
        the first `burn_in` steps of an episode are never learned from.
      stored_state: whether sequences begin with the state that was stored when the
        step was taken; otherwise with zeros.
      previous_action: whether the network sees the action before each observation,
        one-hot, and zeros at the beginning of an episode.
      double, dueling, huber_delta, epsilon, target_period, target_rate, **kwargs: see
        `DQN`. A priority is that of the sequence that begins at a step.

    Raises:
      UnsupportedSpaceError, ValueError: see `DQN`.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        *,
        network=None,
        network_options=None,
        sequence_length=8,
        burn_in=0,
        stored_state=True,
        previous_action=False,
        double=False,
        dueling=False,
        **kwargs,
    ):
        check_positive_integer("sequence_length", sequence_length)
        if burn_in:
            check_positive_integer("burn_in", burn_in)
        for name in ("noisy", "n_step", "distribution", "num_atoms", "value_range"):
            if name in kwargs:
                raise ValueError(f"DRQN has no {name}; DQN has")
        self.previous_action = previous_action
        super().__init__(
            observation_space,
            action_space,
            network=network,
            network_options=network_options,
            double=double,
            dueling=dueling,
            **kwargs,
        )
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.stored_state = stored_state

    def make_network(self, *, num_atoms, noisy, **options):
        """Builds the network that is taken where none is given."""
        del num_atoms, noisy
        return recurrent_q_network(
            self.feature_shape,
            self.num_actions,
            previous_action=self.previous_action,
            seed=self.seed,
            **options,
        )

    def check_network(self, network):
        """Refuses a network whose outputs are not values and a state.

        Raises:
          ValueError: if they are not.
        """
        check_functional(network)
        shapes = [tuple(x.shape[1:]) for x in network.outputs]
        inputs = [tuple(x.shape[1:]) for x in network.inputs]
        of_state = inputs[-2:]
        if (
            len(shapes) != 3
            or shapes[0][-1] != self.num_actions
            or shapes[1:] != of_state
            or len(inputs) != 3 + self.previous_action
        ):
            actions = ", previous_action" if self.previous_action else ""
            raise ValueError(
                f"the network must have inputs (observation{actions}, hidden, cell) "
                f"and outputs (values ('B', 'L', {self.num_actions}), hidden, cell), "
                f"got inputs {inputs} and outputs {shapes} without the batch"
            )

    def prepare(self, environment):
        """Creates every variable that training needs; see `Agent.prepare`."""
        limit = environment.max_episode_steps
        steps = self.burn_in + self.sequence_length
        if limit is not None and steps > limit:
            raise ValueError(
                f"sequence_length={self.sequence_length} and burn_in={self.burn_in} "
                f"take {steps} steps, but an episode of {environment.id} has no more "
                f"than {limit}"
            )
        super().prepare(environment)

    def _build(self, environment):
        super()._build(environment)
        steps, rows = self.burn_in + self.sequence_length, self.replay.length
        if steps >= rows:
            raise ValueError(
                f"sequence_length={self.sequence_length} and burn_in={self.burn_in} "
                f"take {steps} steps, but each copy has {rows} rows of the replay "
                "buffer; give a larger replay_capacity"
            )

    # Acting.

    def initial_memory(self, num_envs):
        """Returns the memory before an episode: the state of the LSTM, [N, U] each.

        A pair (hidden, cell), and with `previous_action` that action, one-hot [N, A].
        """
        units = self.network.output_shape[1][-1]
        memory = tf.zeros([num_envs, units]), tf.zeros([num_envs, units])
        if self.previous_action:
            memory += (tf.zeros([num_envs, self.num_actions]),)
        return memory

    def step_values(self, observation, memory):
        """Returns (values [B, A] of one step, the state (hidden, cell) after it)."""
        hidden, cell, *previous = memory
        inputs = [x[:, tf.newaxis] for x in (self.preprocess(observation), *previous)]
        values, *state = self.network([*inputs, hidden, cell])
        return values[:, 0], tuple(state)

    def memory_after(self, state, action):
        """Returns the memory after a step: the state, and the action if it is seen."""
        if self.previous_action:
            state += (tf.one_hot(action, self.num_actions),)
        return state

    def stored_memory(self, memory):
        """Returns what sequences begin with; see `OffPolicyAgent.stored_memory`."""
        return memory if self.stored_state else memory[2:]

    def q_values(self, observation):
        """Returns the values of all actions, [B, A], at the beginning of an episode."""
        memory = self.initial_memory(tf.shape(observation)[0])
        return self.step_values(observation, memory)[0]

    def call(self, observation):
        """Returns the greedy actions [B] at the beginning of an episode."""
        memory = self.initial_memory(tf.shape(observation)[0])
        return self.act_from_memory(observation, memory, None, greedy=True)[0]

    def act_from_memory(self, observation, memory, seed, *, greedy=False):
        """Returns (actions, the memory after them); see `Agent.act_from_memory`."""
        if not greedy:
            return self.explore(observation, memory, seed)
        values, state = self.step_values(observation, memory)
        action = tf.argmax(values, axis=-1, output_type=tf.int32)
        return action, self.memory_after(state, action)

    def act(self, observation, seed, *, greedy=False):
        """Returns actions at the beginning of an episode; see `Agent.act`."""
        memory = self.initial_memory(tf.shape(observation)[0])
        return self.act_from_memory(observation, memory, seed, greedy=greedy)[0]

    def make_numpy_act(self):
        """Returns None: an LSTM acts in the graph."""
        return None

    def explore(self, observation, memory, seed):
        """Returns epsilon-greedy actions [N]; see `OffPolicyAgent.explore`."""
        values, state = self.step_values(observation, memory)
        action = self.epsilon_greedy(values, seed)
        return action, self.memory_after(state, action)

    # Learning.

    def read_batch(self, index):
        """Returns the `Sequences` that begin at rows [B]."""
        return self.replay.sequences(index, self.burn_in + self.sequence_length)

    def sequence_inputs(self, batch):
        """Returns what the network sees of `Sequences`, [L + 1, B, ...] each.

        The features, and with `previous_action` the actions before them, one-hot.
        """
        inputs = (self.preprocess(batch.observation),)
        if self.previous_action:
            taken = tf.one_hot(batch.action, self.num_actions)
            first = batch.memory[-1][tf.newaxis]
            inputs += (tf.concat([first, taken], axis=0),)
        return inputs

    def unroll(self, network, inputs, state, training=False):
        """Returns (values [L, B, A], the state after them).

        Args:
          network: Q or Q'.
          inputs: as `sequence_inputs` returns them.
          state: a pair (hidden, cell), the state before them.
          training: whether the gradient of this is learned from.
        """
        by_batch = [tf.einsum("lb...->bl...", x) for x in inputs]
        values, *state = network([*by_batch, *state], training=training)
        return tf.transpose(values, [1, 0, 2]), tuple(state)

    def targets(self, batch, inputs, states):
        """Returns y_t, float32 [L, B].

        Args:
          batch: `Sequences` of L steps.
          inputs: [L + 1, B, ...] each; see `sequence_inputs`.
          states: a pair of states (hidden, cell) before them, of Q and of Q'.
        """
        of_online, of_target = states
        target, _ = self.unroll(self.target_network, inputs, of_target)
        chooser = target
        if self.double:
            chooser, _ = self.unroll(self.network, inputs, of_online)
        best = tf.one_hot(tf.argmax(chooser, axis=-1), self.num_actions)
        value = tf.reduce_sum(best * target, axis=-1)[1:]
        discount = tf.where(batch.terminated, 0.0, self.discount)
        return q_learning_target(batch.reward, discount, value)

    def error_loss(self, values, targets):
        """Returns the loss of values, of any shape."""
        delta = self.loss_function.delta
        if delta is None:
            return squared_value_loss(values, targets)
        return huber_value_loss(values, targets, delta)

    def update(self, batch, weight, seed):
        """Takes a gradient step; see `OffPolicyAgent.update`."""
        del seed
        inputs = self.sequence_inputs(batch)
        state = (
            batch.memory if self.stored_state else self.initial_memory(weight.shape[0])
        )
        state = state[:2]
        of_online = of_target = state
        if self.burn_in:
            before = [x[: self.burn_in] for x in inputs]
            _, of_online = self.unroll(self.network, before, state)
            _, of_target = self.unroll(self.target_network, before, state)
            of_online, of_target = tf.nest.map_structure(
                tf.stop_gradient, (of_online, of_target)
            )
            inputs = [x[self.burn_in :] for x in inputs]
            batch = batch._replace(
                **{
                    name: getattr(batch, name)[self.burn_in :]
                    for name in ("action", "reward", "terminated", "mask")
                }
            )
        target = tf.stop_gradient(self.targets(batch, inputs, (of_online, of_target)))
        counts = tf.cast(batch.mask, tf.float32)

        def weighted_loss():
            values, _ = self.unroll(
                self.network, [x[:-1] for x in inputs], of_online, True
            )
            taken = tf.one_hot(batch.action, self.num_actions)
            taken = tf.reduce_sum(taken * values, axis=-1)
            losses = counts * self.error_loss(taken, target)
            loss = tf.reduce_sum(weight * losses) / tf.maximum(
                tf.reduce_sum(counts), 1.0
            )
            return loss, (values, taken)

        loss, (values, taken) = self.minimize(
            weighted_loss, self.optimizer, self.network
        )
        self.update_target()
        error = counts * tf.abs(target - taken)
        total = tf.maximum(tf.reduce_sum(counts, axis=0), 1.0)
        metrics = {
            "loss": loss,
            "q_value": mean_of(tf.reduce_max(values, axis=-1), counts),
            "td_error": mean_of(error, counts),
        }
        share = _PRIORITY_OF_LARGEST
        mean_error = tf.reduce_sum(error, axis=0) / total
        priority = share * tf.reduce_max(error, axis=0) + (1 - share) * mean_error
        # Where the episode ended within the burn-in there is never anything to learn
        # from; where it goes on there will be.
        waits = batch.goes_on & ~tf.reduce_any(batch.mask, axis=0)
        return metrics, tf.where(waits, tf.reduce_max(priority), priority)

    # Serving.

    def export(self, filepath, format="tf_saved_model", verbose=None):
        """Exports the policy for serving; see `Agent.export`.

        Raises:
          ValueError: if `format` is not "tf_saved_model", or as `Agent.export`.
        """
        if format == "litert":
            raise ValueError(
                "DRQN cannot be exported as LiteRT, which has no LSTM of a free batch "
                "size; format='tf_saved_model' can"
            )
        super().export(filepath, format, verbose)

    def endpoints(self):
        """Returns what `export` serves.

        "serving_default" takes `observation` [B, ...] and the memory `hidden`, `cell`,
        float32 [B, U], and with `previous_action` `previous_action`, float32 [B, A],
        all zeros at the beginning of an episode, and returns `action`, the greedy one,
        `q_values`, float32 [B, A], and the next memory under the same names.
        """
        units = self.network.output_shape[1][-1]
        sizes = {"hidden": units, "cell": units}
        if self.previous_action:
            sizes["previous_action"] = self.num_actions

        def greedy(observation, *memory):
            values, state = self.step_values(observation, memory)
            action = tf.argmax(values, axis=-1, output_type=tf.int32)
            after = self.memory_after(state, action)
            return {
                "action": action,
                "q_values": values,
                **dict(zip(sizes, after, strict=True)),
            }

        specs = [
            tf.TensorSpec([None, size], tf.float32, name=name)
            for name, size in sizes.items()
        ]
        return {"serving_default": (greedy, [self.observation_spec, *specs])}


def mean_of(values, counts):
    """Returns the mean of values where `counts` is 1."""
    return tf.reduce_sum(counts * values) / tf.maximum(tf.reduce_sum(counts), 1.0)
