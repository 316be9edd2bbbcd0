"""Data-parallel training on several devices, with `tf.distribute.MirroredStrategy`.

Each replica steps its share of the environment copies and computes the gradient of its
share of every minibatch; gradients are averaged. What is learned from given
trajectories is what one device learns from them, but for the order of additions.

TensorFlow reduces across replicas outside control flow only, so that here the loops
over epochs and minibatches are Python's, around compiled calls, and XLA is not used.
This pays for large networks on several accelerators, not for small ones on a CPU.
"""

import keras
import tensorflow as tf

from tfzoo import random
from tfzoo.agents.trajectory import EPISODE_SUMS, transform_rewards
from tfzoo.environments import InGraphEnvironment


def make_mirrored_train_function(agent, environment, strategy):
    """Returns a function of the target `env_steps`; see `Agent._make_train_function`.

    Raises:
      ValueError: as `MirroredTraining` does.
    """
    training = MirroredTraining(agent, environment, strategy)

    def train(target):
        names = (*EPISODE_SUMS, "iterations", *agent.metric_names)
        sums = dict.fromkeys(names, 0.0)
        while agent.env_steps < target:
            new = {**training.iterate(), "iterations": 1.0}
            sums = {name: sums[name] + float(new[name]) for name in names}
        return sums

    return train


class MirroredTraining:
    """The collecting and learning of an agent over the replicas of a strategy.

    Args:
      agent: an `OnPolicyAgent`, made and compiled in `strategy.scope()`.
      environment: an in-graph environment of N copies; N / replicas go to each.
      strategy: a `tf.distribute.MirroredStrategy`.

    Raises:
      ValueError: if the environment is not in the graph, or its copies or the
        minibatches cannot be split evenly, or the agent needs whole episodes or was
        compiled with `jit_compile=True` or an optimizer that scales the loss.
    """

    def __init__(self, agent, environment, strategy):
        replicas = strategy.num_replicas_in_sync
        if not isinstance(environment, InGraphEnvironment):
            raise ValueError(
                "only in-graph environments can be distributed, and "
                f"{environment.id} is here a host environment"
            )
        if agent.whole_episodes:
            raise ValueError(
                f"{type(agent).__name__} cannot be distributed: its iterations have "
                "no fixed number of steps; PPO and A2C can"
            )
        optimizer = agent.optimizer
        if optimizer.loss_scale_factor is not None or isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        ):
            raise ValueError(
                f"{type(optimizer).__name__} scales the loss, which cannot be done on "
                "several devices; bfloat16 does not need it"
            )
        if agent.jit_compile:
            raise ValueError(
                "jit_compile=True cannot be had on several devices: TensorFlow does "
                'not reduce across replicas inside XLA; leave it at "auto"'
            )
        minibatch = agent.num_steps * environment.num_envs // agent.minibatches
        for name, size in (
            (f"num_envs={environment.num_envs}", environment.num_envs),
            (f"a minibatch of {minibatch}", minibatch),
        ):
            if size % replicas:
                raise ValueError(
                    f"{name} cannot be split evenly over {replicas} devices"
                )
        self.agent = agent
        self.strategy = strategy
        self.environment = environment
        share = environment.with_num_envs(environment.num_envs // replicas)

        def collect(carried, seed):
            def on_replica():
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                return agent.collect(
                    share, self._share(carried), random.fold_in(seed, number)
                )

            trajectory, carried, sums = strategy.run(on_replica)
            return (
                self._merge(trajectory, axis=1),
                self._merge(carried, axis=0),
                strategy.reduce("SUM", sums, axis=None),
            )

        def update(batch):
            def on_replica():
                gradients, metrics = agent.batch_gradients(self._share(batch))
                self._apply_mean(gradients)
                return metrics

            return strategy.reduce("MEAN", strategy.run(on_replica), axis=None)

        self.collect = agent.compile_function(collect)
        self.update = agent.compile_function(update)
        self.estimate = agent.compile_function(agent.estimate)
        self.shuffle = agent.compile_function(agent.shuffle)

    def _share(self, tensors):
        """This replica's part of tensors [B, ...]."""
        replica = tf.distribute.get_replica_context()

        def part(x):
            size = x.shape[0] // replica.num_replicas_in_sync
            start = replica.replica_id_in_sync_group * size
            return x[start : start + size]

        return tf.nest.map_structure(part, tensors)

    def _merge(self, values, axis):
        """The parts of all replicas as one tensor."""
        return tf.nest.map_structure(
            lambda x: tf.concat(self.strategy.experimental_local_results(x), axis),
            values,
        )

    def _apply_mean(self, gradients):
        """Averages gradients over the replicas and takes one optimizer step."""
        replica = tf.distribute.get_replica_context()
        optimizer = self.agent.optimizer
        # Weights that the loss does not depend on have no gradient.
        used = [
            (gradient, variable)
            for gradient, variable in zip(
                gradients, self.agent.batch_variables, strict=True
            )
            if gradient is not None
        ]
        gradients, variables = zip(*used, strict=True)
        gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, list(gradients))
        # Keras clips what each replica brings and then sums. The mean is clipped here,
        # so that its share in the sum is left as it is there.
        if optimizer.global_clipnorm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
        if optimizer.clipnorm is not None:
            gradients = [tf.clip_by_norm(g, optimizer.clipnorm) for g in gradients]
        if optimizer.clipvalue is not None:
            limit = optimizer.clipvalue
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
        share = 1.0 / replica.num_replicas_in_sync
        optimizer.apply([g * share for g in gradients], list(variables))

    def learn(self, trajectory, seed):
        """As `OnPolicyAgent.learn`, over all replicas."""
        agent = self.agent
        batch = self.estimate(trajectory)
        every = []
        for epoch in range(agent.epochs):
            shuffled = self.shuffle(batch, random.fold_in(seed, epoch))
            for index in range(agent.minibatches):
                if not every or agent.goes_on(every[-1]):
                    minibatch = tf.nest.map_structure(lambda x: x[index], shuffled)  # noqa: B023
                    every.append(self.update(minibatch))
        agent.finish_learning(batch)
        return {
            name: sum(metrics[name] for metrics in every) / len(every)
            for name in agent.metric_names
        }

    def iterate(self):
        """Collects and learns once; returns episode sums and metrics."""
        agent = self.agent
        collect_seed, learn_seed = agent.iteration_seeds()
        trajectory, carried, episodes = self.collect(agent.read_carried(), collect_seed)
        agent.assign_carried(carried)
        metrics = self.learn(
            transform_rewards(self.environment, trajectory), learn_seed
        )
        agent.finish_iteration(trajectory)
        return {**episodes, **metrics}
