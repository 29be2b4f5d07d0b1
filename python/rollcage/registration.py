"""Names by which `gymnasium.make` and `gymnasium.make_vec` know the plugins that ship: ``rollcage/CartPole-v1``."""

from __future__ import annotations

import gymnasium

__all__ = ["IDS", "register"]

#: Gymnasium's name (without the namespace), the plugin, and what of its config the name stands for.
IDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("Acrobot-v1", "acrobot", {}),
    ("Blackjack-v1", "blackjack", {"sab": True}),
    ("CartPole-v1", "cartpole", {}),
    ("CliffWalking-v1", "cliffwalking", {}),
    ("CliffWalkingSlippery-v1", "cliffwalking", {"is_slippery": True}),
    ("FrozenLake-v1", "frozenlake", {}),
    ("FrozenLake8x8-v1", "frozenlake", {"map_name": "8x8"}),
    ("MountainCar-v0", "mountaincar", {}),
    ("MountainCarContinuous-v0", "mountaincar-continuous", {}),
    ("Pendulum-v1", "pendulum", {}),
    ("Taxi-v4", "taxi", {}),
    ("Go-v0", "go", {}),
    ("Mirror-v0", "mirror", {}),
    ("Pixels-v0", "pixels", {}),
    ("ShortKick-v0", "short-kick", {}),
)


def register() -> None:
    """Registers them with Gymnasium. Importing `rollcage` does so."""
    for name, plugin, config in IDS:
        full = f"rollcage/{name}"
        if full not in gymnasium.registry:
            kwargs: dict[str, object] = {"plugin": plugin}
            if config:
                kwargs["config"] = config
            gymnasium.register(
                id=full,
                entry_point="rollcage.single:Env",
                vector_entry_point="rollcage.vector:VectorEnv",
                kwargs=kwargs,
            )
