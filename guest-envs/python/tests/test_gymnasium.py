"""Gymnasium's own envs through the SDK: the bytes that a host gets are those of the envs made natively."""

import struct
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from conftest import Plugin, t


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "Taxi-v4", "Blackjack-v1"]
)
@pytest.mark.parametrize("seed", [7, 2**40 + 1])
def test_discrete_envs_equal_native_ones(serve: Callable[..., Plugin], name: str, seed: int) -> None:
    plugin = serve({}, id=name)
    spec = plugin.create()
    native = gymnasium.make(name, disable_env_checker=True).unwrapped
    assert spec.max_episode_steps == gymnasium.spec(name).max_episode_steps
    assert spec.reward_threshold == gymnasium.spec(name).reward_threshold
    assert type(plugin.env).__name__ == type(native).__name__, "no wrappers around it"
    rng = np.random.default_rng(3)
    view, (observation, _) = plugin.reset(seed), native.reset(seed=seed)
    for _ in range(300):
        assert view.observation == as_bytes(observation)
        action = int(rng.integers(native.action_space.n))
        step, (observation, reward, terminated, truncated, _) = plugin.step(action), native.step(np.int64(action))
        assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
        view = step.view
        if terminated or truncated:
            assert view.observation == as_bytes(observation)
            view, (observation, _) = plugin.reset(None), native.reset()


def as_bytes(observation: object) -> bytes:
    if isinstance(observation, np.ndarray):
        data = observation.tobytes()
        return data + bytes(-len(data) % 8)
    parts = observation if isinstance(observation, tuple) else (observation,)
    return b"".join(struct.pack("<q", int(part)) for part in parts)


def test_pendulum_takes_a_box(serve: Callable[..., Plugin]) -> None:
    plugin = serve({}, id="Pendulum-v1")
    spec = plugin.create(g=9.0)
    assert spec.actions_out_of_bounds == t.OutOfBounds.PASS
    assert plugin.env.unwrapped.g == 9.0 and type(plugin.env.unwrapped.g) is float
    native = gymnasium.make("Pendulum-v1", g=9.0)
    plugin.reset(1)
    native.reset(seed=1)
    action = np.array([2.5], np.float32)
    assert plugin.step(action.tobytes() + bytes(4)).view.observation[:12] == native.step(action)[0].tobytes()


def test_a_description_has_what_the_class_says(serve: Callable[..., Plugin]) -> None:
    plugin = serve({}, id="FrozenLake-v1", name="lake", version="1.2.3")
    description = plugin.describe()
    assert (description.name, description.version, description.warm_up) == ("lake", "1.2.3", True)
    assert description.summary.startswith("Frozen lake involves crossing a frozen lake")
    assert description.render_modes == [t.RenderMode.RGB_ARRAY, t.RenderMode.ANSI]
    assert description.render_fps == 4
    assert f"numpy {np.__version__}" in description.runtime
    keys = plugin.schema["properties"]
    assert keys["map_name"] == {"type": "string", "default": "4x4"}
    assert keys["is_slippery"]["type"] == "boolean"


def test_a_config_of_an_id_lies_over_its_kwargs(serve: Callable[..., Plugin]) -> None:
    plugin = serve({}, id="FrozenLake8x8-v1")
    assert plugin.schema["properties"]["map_name"]["default"] == "8x8", "the registry's own"
    assert plugin.create().observation_space.nodes[0].value.n == 64
    plugin = serve({}, id="FrozenLake-v1", kwargs={"map_name": "8x8"})
    assert plugin.create().observation_space.nodes[0].value.n == 64
    assert plugin.environment.create('{"map_name": "4x4"}').observation_space.nodes[0].value.n == 16


def test_ansi_is_drawn_though_the_env_was_made_for_pixels(serve: Callable[..., Plugin]) -> None:
    plugin = serve({}, id="FrozenLake-v1")
    plugin.create()
    assert plugin.env.unwrapped.render_mode == "rgb_array"
    plugin.reset(0)
    frame = plugin.environment.render(t.RenderMode.ANSI)
    assert isinstance(frame, t.Frame_Text) and "FFF" in frame.value
    assert plugin.env.unwrapped.render_mode == "rgb_array"


def test_wrappers_of_a_spec_are_applied(serve: Callable[..., Plugin]) -> None:
    wrapper = {"name": "FlattenObservation", "entry_point": "gymnasium.wrappers:FlattenObservation", "kwargs": {}}
    plugin = serve({}, id="FrozenLake-v1", wrappers=[wrapper])
    assert plugin.create().observation_space.nodes[0].value.shape == [16]
    plugin.reset(0)
    assert plugin.step(1).view.observation.count(1) == 1
    assert plugin.get("desc")[0][0] is not None, "of the env itself"


def test_imports_register_ids(serve: Callable[..., Plugin]) -> None:
    source = """
import gymnasium

def register(name="Mine/Pole-v7"):
    gymnasium.register(name, entry_point="gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
"""
    before = dict(gymnasium.registry)
    try:
        plugin = serve({"theirs.py": source}, id="Mine/Pole-v7", imports=["theirs:register"])
        assert plugin.create().max_episode_steps == 9
        gymnasium.registry.pop("Mine/Pole-v7")
        with pytest.raises(
            ImportError, match=r"`imports` in \[tool.rollcage\]: theirs has no `regster`; did you mean `register`"
        ):
            serve({"theirs.py": source}, id="Mine/Pole-v7", imports=["theirs:regster"]).describe()
    finally:
        gymnasium.registry.clear()
        gymnasium.registry.update(before)
