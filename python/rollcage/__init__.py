"""Untrusted reinforcement-learning environments, each a WebAssembly component sandboxed in its own process.

::

    import rollcage

    envs = rollcage.make_vec("cartpole", num_envs=8, seed=7)
    observations, infos = envs.reset()
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    envs.close()

An env in Python is named by its class, its id or its folder: ``rollcage.make_vec(MyEnv, 8)``,
``rollcage.make_vec("CartPole-v1", 8)``, ``rollcage.make_vec("./my_env", 8)``. `register` gives it an id in Gymnasium's registry.

`make_vec` makes a Gymnasium `VectorEnv`, `Env` is a Gymnasium `Env`, and `rollcage.sb3.make_vec_env` makes a
Stable-Baselines3 `VecEnv`. After ``import rollcage``, ``gymnasium.make_vec("rollcage/CartPole-v1", num_envs=8)`` works too.
"""

from rollcage import errors
from rollcage._arguments import Limits
from rollcage._rollcage import shipped
from rollcage.errors import (
    ActionError,
    AlreadyPendingCallError,
    ClosedError,
    Fault,
    FaultError,
    FaultLimitError,
    FaultTimeoutError,
    ForkedError,
    GuestError,
    HostError,
    NoAsyncCallError,
    RollcageError,
    UnsupportedError,
    UsageError,
    WorkerError,
)
from rollcage.evaluation import Evaluation, evaluate
from rollcage.export import export_policy
from rollcage.registration import register
from rollcage.single import Env
from rollcage.vector import VectorEnv, make_vec

__version__ = "0.1.0"

__all__ = [
    "ActionError",
    "AlreadyPendingCallError",
    "ClosedError",
    "Env",
    "Evaluation",
    "Fault",
    "FaultError",
    "FaultLimitError",
    "FaultTimeoutError",
    "ForkedError",
    "GuestError",
    "HostError",
    "Limits",
    "NoAsyncCallError",
    "RollcageError",
    "UnsupportedError",
    "UsageError",
    "VectorEnv",
    "WorkerError",
    "errors",
    "evaluate",
    "export_policy",
    "make_vec",
    "register",
    "shipped",
]

register()
