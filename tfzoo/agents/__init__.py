"""Reinforcement-learning agents: `keras.Model`s with `fit(environment, steps)`."""

from tfzoo.agents.a2c import A2C
from tfzoo.agents.advantages import generalized_advantage_estimation
from tfzoo.agents.agent import Agent
from tfzoo.agents.continuous_control import ContinuousControlAgent
from tfzoo.agents.ddpg import DDPG, TD3
from tfzoo.agents.dqn import DQN
from tfzoo.agents.drqn import DRQN
from tfzoo.agents.networks import (
    action_critic,
    actor_critic,
    deterministic_actor,
    q_network,
    recurrent_q_network,
)
from tfzoo.agents.off_policy import OffPolicyAgent
from tfzoo.agents.on_policy import Batch, OnPolicyAgent, policy_for
from tfzoo.agents.ppo import PPO
from tfzoo.agents.reinforce import REINFORCE
from tfzoo.agents.replay import ReplayBuffer, Sequences, Transitions
from tfzoo.agents.sac import SAC
from tfzoo.agents.trajectory import Trajectory, TrajectoryBuffer
from tfzoo.agents.trpo import TRPO
from tfzoo.agents.trust_region_schedule import TrustRegionSchedule
from tfzoo.agents.wolpertinger import Wolpertinger

__all__ = [
    "A2C",
    "DDPG",
    "DQN",
    "DRQN",
    "PPO",
    "REINFORCE",
    "SAC",
    "TD3",
    "TRPO",
    "Agent",
    "Batch",
    "ContinuousControlAgent",
    "OffPolicyAgent",
    "OnPolicyAgent",
    "ReplayBuffer",
    "Sequences",
    "Trajectory",
    "TrajectoryBuffer",
    "Transitions",
    "TrustRegionSchedule",
    "Wolpertinger",
    "action_critic",
    "actor_critic",
    "deterministic_actor",
    "generalized_advantage_estimation",
    "policy_for",
    "q_network",
    "recurrent_q_network",
]
