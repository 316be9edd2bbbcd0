"""Reinforcement-learning agents: `keras.Model`s with `fit(environment, steps)`."""

from tfzoo.agents.a2c import A2C
from tfzoo.agents.advantages import generalized_advantage_estimation
from tfzoo.agents.agent import Agent
from tfzoo.agents.networks import actor_critic
from tfzoo.agents.on_policy import Batch, OnPolicyAgent, policy_for
from tfzoo.agents.ppo import PPO
from tfzoo.agents.reinforce import REINFORCE
from tfzoo.agents.trajectory import Trajectory, TrajectoryBuffer
from tfzoo.agents.trpo import TRPO
from tfzoo.agents.trust_region_schedule import TrustRegionSchedule

__all__ = [
    "A2C",
    "PPO",
    "REINFORCE",
    "TRPO",
    "Agent",
    "Batch",
    "OnPolicyAgent",
    "Trajectory",
    "TrajectoryBuffer",
    "TrustRegionSchedule",
    "actor_critic",
    "generalized_advantage_estimation",
    "policy_for",
]
