"""Every wrapper that Gymnasium exports, around our envs and around Gymnasium's own: the same comes out.

`SINGLE` and `MANY` have a row for each; one that is in neither fails a test, and so does a row for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import hostile, twin
from gymnasium import wrappers
from gymnasium.spaces import Box
from gymnasium.wrappers import vector
from test_vector import alike, same

import rollcage

STEPS = 150

Wrap = Callable[[Any], Any]


def twice(one: Any) -> Any:
    return np.asarray(one) * 2


#: The env, and how it is wrapped; what is drawn at random or drawn as a picture is in `OURS_ALONE`.
SINGLE: dict[str, tuple[str, Wrap]] = {
    "DelayObservation": ("CartPole-v1", lambda env: wrappers.DelayObservation(env, delay=2)),
    "DtypeObservation": ("CartPole-v1", lambda env: wrappers.DtypeObservation(env, np.float64)),
    "DiscretizeObservation": ("MountainCar-v0", lambda env: wrappers.DiscretizeObservation(env, bins=7)),
    "FilterObservation": ("Blackjack-v1", lambda env: wrappers.FilterObservation(env, [0, 2])),
    "FlattenObservation": ("Blackjack-v1", wrappers.FlattenObservation),
    "FrameStackObservation": ("CartPole-v1", lambda env: wrappers.FrameStackObservation(env, stack_size=3)),
    "TransformObservation": ("CartPole-v1", lambda env: wrappers.TransformObservation(env, twice, None)),
    "MaxAndSkipObservation": ("CartPole-v1", lambda env: wrappers.MaxAndSkipObservation(env, skip=3)),
    "NormalizeObservation": ("Pendulum-v1", wrappers.NormalizeObservation),
    "ReshapeObservation": ("CartPole-v1", lambda env: wrappers.ReshapeObservation(env, (2, 2))),
    "RescaleObservation": (
        "MountainCar-v0",
        lambda env: wrappers.RescaleObservation(env, np.float32(-1.0), np.float32(1.0)),
    ),
    "TimeAwareObservation": ("CartPole-v1", wrappers.TimeAwareObservation),
    "ClipAction": ("Pendulum-v1", lambda env: Louder(wrappers.ClipAction(env))),
    "DiscretizeAction": ("Pendulum-v1", lambda env: wrappers.DiscretizeAction(env, bins=5)),
    "TransformAction": ("CartPole-v1", lambda env: wrappers.TransformAction(env, lambda action: 1 - action, None)),
    "RescaleAction": ("Pendulum-v1", lambda env: wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))),
    "StickyAction": ("CartPole-v1", lambda env: wrappers.StickyAction(env, 0.0)),
    "RepeatAction": ("CartPole-v1", lambda env: wrappers.RepeatAction(env, num_repeats=2)),
    "ClipReward": ("Pendulum-v1", lambda env: wrappers.ClipReward(env, -1.0, 0.0)),
    "TransformReward": ("Pendulum-v1", lambda env: wrappers.TransformReward(env, twice)),
    "NormalizeReward": ("Pendulum-v1", wrappers.NormalizeReward),
    "TimeLimit": ("CartPole-v1", lambda env: wrappers.TimeLimit(env, 9)),
    "Autoreset": ("CartPole-v1", wrappers.Autoreset),
    "PassiveEnvChecker": ("FrozenLake-v1", wrappers.PassiveEnvChecker),
    "OrderEnforcing": ("FrozenLake-v1", wrappers.OrderEnforcing),
    "RecordEpisodeStatistics": ("CartPole-v1", wrappers.RecordEpisodeStatistics),
}


class Louder(gymnasium.ActionWrapper[Any, Any, Any]):
    """Actions of three times the size: what `ClipAction` is there for."""

    def action(self, action: Any) -> Any:
        return action * np.float32(3)


MANY: dict[str, tuple[str, Wrap]] = {
    "VectorizeTransformObservation": (
        "CartPole-v1",
        lambda envs: vector.VectorizeTransformObservation(
            envs,
            wrappers.TransformObservation,
            func=twice,
            observation_space=Box(-np.inf, np.inf, (4,), np.float32),
        ),
    ),
    "VectorizeTransformAction": (
        "CartPole-v1",
        lambda envs: vector.VectorizeTransformAction(
            envs, wrappers.TransformAction, func=lambda action: 1 - action, action_space=None
        ),
    ),
    "VectorizeTransformReward": (
        "CartPole-v1",
        lambda envs: vector.VectorizeTransformReward(envs, wrappers.TransformReward, func=twice),
    ),
    "DictInfoToList": ("CliffWalking-v1", vector.DictInfoToList),
    "TransformObservation": ("CartPole-v1", lambda envs: vector.TransformObservation(envs, twice)),
    "FilterObservation": ("Blackjack-v1", lambda envs: vector.FilterObservation(envs, [0, 2])),
    "FlattenObservation": ("Blackjack-v1", vector.FlattenObservation),
    "ReshapeObservation": ("CartPole-v1", lambda envs: vector.ReshapeObservation(envs, (2, 2))),
    "RescaleObservation": (
        "MountainCar-v0",
        lambda envs: vector.RescaleObservation(envs, np.float32(-1), np.float32(1)),
    ),
    "DtypeObservation": ("CartPole-v1", lambda envs: vector.DtypeObservation(envs, np.float64)),
    "NormalizeObservation": ("Pendulum-v1", vector.NormalizeObservation),
    "TransformAction": ("CartPole-v1", lambda envs: vector.TransformAction(envs, lambda actions: 1 - actions)),
    "ClipAction": (
        "Pendulum-v1",
        lambda envs: vector.TransformAction(vector.ClipAction(envs), lambda actions: actions * np.float32(3)),
    ),
    "RescaleAction": ("Pendulum-v1", lambda envs: vector.RescaleAction(envs, np.float32(-1), np.float32(1))),
    "TransformReward": ("Pendulum-v1", lambda envs: vector.TransformReward(envs, twice)),
    "ClipReward": ("Pendulum-v1", lambda envs: vector.ClipReward(envs, -1.0, 0.0)),
    "NormalizeReward": ("Pendulum-v1", vector.NormalizeReward),
    "RecordEpisodeStatistics": ("CartPole-v1", vector.RecordEpisodeStatistics),
}

#: Of pictures, at random, or of other libraries' arrays: ours alone; what has to be installed, and what is looked at.
OURS_ALONE: dict[str, tuple[str | None, Callable[[Path], None]]] = {}

#: What is not run, and why.
NOT_RUN = {
    "AtariPreprocessing": "takes Atari's own envs, of the Arcade Learning Environment, and nothing else",
    "JaxToNumpy": "for envs that are written in JAX",
    "JaxToTorch": "for envs that are written in JAX",
    "ArrayConversion": "for envs whose arrays are another library's; NumpyToTorch is one of them",
}


def alone(name: str, needs: str | None = None) -> Callable[[Callable[[Path], None]], None]:
    def add(check: Callable[[Path], None]) -> None:
        OURS_ALONE[name] = (needs, check)

    return add


def drawn() -> Any:
    """One env that draws."""
    return gymnasium.make("rollcage/CartPole-v1", render_mode="rgb_array")


def picture_of(env: Any) -> Any:
    env.reset(seed=1)
    env.step(env.action_space.sample())
    picture = env.render()
    env.close()
    return picture


@alone("AddRenderObservation")
def _(_: Path) -> None:
    env = wrappers.AddRenderObservation(drawn(), render_only=False)
    observation, _info = env.reset(seed=1)
    assert observation["pixels"].shape == (400, 600, 3) and env.observation_space.contains(observation)
    env.close()


@alone("GrayscaleObservation")
def _(_: Path) -> None:
    env = wrappers.GrayscaleObservation(wrappers.AddRenderObservation(drawn()))
    assert env.reset(seed=1)[0].shape == env.step(0)[0].shape == (400, 600)
    env.close()


@alone("ResizeObservation", "cv2")
def _(_: Path) -> None:
    env = wrappers.ResizeObservation(wrappers.AddRenderObservation(drawn()), (40, 60))
    assert env.reset(seed=1)[0].shape == (40, 60, 3)
    env.close()


@alone("AddWhiteNoise")
def _(_: Path) -> None:
    assert picture_of(wrappers.AddWhiteNoise(drawn(), 0.5)).shape == (400, 600, 3)


@alone("ObstructView")
def _(_: Path) -> None:
    assert picture_of(wrappers.ObstructView(drawn(), 0.1, 16)).shape == (400, 600, 3)


@alone("RenderCollection")
def _(_: Path) -> None:
    env = wrappers.RenderCollection(drawn())
    env.reset(seed=1)
    env.step(0)
    assert len(env.render()) == 2
    env.close()


@alone("RecordVideo", "moviepy")
def _(folder: Path) -> None:
    env = wrappers.RecordVideo(drawn(), str(folder), video_length=5, step_trigger=lambda step: step == 0)
    env.reset(seed=1)
    for step in range(8):
        env.step(step % 2)
    env.close()
    assert list(folder.glob("*.mp4"))


@alone("HumanRendering", "pygame")
def _(_: Path) -> None:
    env = wrappers.HumanRendering(drawn())
    assert env.render_mode == "human"
    env.close()


@alone("NumpyToTorch", "array_api_compat")
def _(_: Path) -> None:
    torch = pytest.importorskip("torch")
    env = wrappers.NumpyToTorch(gymnasium.make("rollcage/CartPole-v1"))
    observation, _info = env.reset(seed=1)
    assert isinstance(observation, torch.Tensor)
    env.close()


@alone("vector.GrayscaleObservation")
def _(_: Path) -> None:
    envs = vector.GrayscaleObservation(rollcage.make_vec(twin("custom_image"), 2))
    shape = envs.env.observation_space.shape
    observations, _info = envs.reset(seed=1)
    assert observations.shape == shape[:-1] and envs.observation_space.contains(observations)
    envs.close()


@alone("vector.ResizeObservation", "cv2")
def _(_: Path) -> None:
    envs = vector.ResizeObservation(rollcage.make_vec(twin("custom_image"), 2), (20, 30))
    assert envs.reset(seed=1)[0].shape == (2, 20, 30, 3)
    envs.close()


@alone("vector.RecordVideo", "moviepy")
def _(folder: Path) -> None:
    envs = vector.RecordVideo(rollcage.make_vec("cartpole", 2, render_mode="rgb_array"), str(folder), video_length=5)
    envs.reset(seed=1)
    for _step in range(8):
        envs.step([0, 1])
    envs.close()
    assert list(folder.glob("*.mp4"))


@alone("vector.HumanRendering", "pygame")
def _(_: Path) -> None:
    envs = vector.HumanRendering(rollcage.make_vec("cartpole", 2, render_mode="rgb_array"))
    assert envs.render_mode == "human"
    envs.close()


@alone("vector.NumpyToTorch", "array_api_compat")
def _(_: Path) -> None:
    torch = pytest.importorskip("torch")
    envs = vector.NumpyToTorch(rollcage.make_vec("cartpole", 2))
    assert isinstance(envs.reset(seed=1)[0], torch.Tensor)
    envs.close()


@pytest.mark.parametrize("name", SINGLE)
def test_a_wrapper_does_what_it_does_around_gymnasiums_env(name: str) -> None:
    if name not in wrappers.__all__:
        pytest.skip(f"Gymnasium {gymnasium.__version__} has no {name}")
    id, wrap = SINGLE[name]
    theirs = wrap(gymnasium.make(id))
    limit = gymnasium.spec(id).max_episode_steps
    ours = wrap(gymnasium.make(f"rollcage/{id}", max_episode_steps=limit))
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    theirs.action_space.seed(3)
    alike(ours.reset(seed=7), theirs.reset(seed=7))
    over = 0
    for _ in range(STEPS):
        action = theirs.action_space.sample()
        one, other = ours.step(action), theirs.step(action)
        for step in (one, other):
            # Of seconds nothing is the same.
            if "episode" in step[4]:
                assert step[4]["episode"].pop("t") >= 0
        alike(one, other)
        if (one[2] or one[3]) and name != "Autoreset":
            over += 1
            # With a seed: a wrapper may have drawn from the generator that Gymnasium's env shares with it.
            alike(ours.reset(seed=over), theirs.reset(seed=over))
    assert over or id in ("Pendulum-v1", "MountainCar-v0") or name == "Autoreset"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("name", MANY)
def test_a_vector_wrapper_does_what_it_does_around_gymnasiums_envs(name: str) -> None:
    id, wrap = MANY[name]
    theirs = wrap(gymnasium.make_vec(id, 3, vectorization_mode="sync"))
    ours = wrap(gymnasium.make_vec(f"rollcage/{id}", 3))
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    theirs.action_space.seed(3)
    compare(ours.reset(seed=7), theirs.reset(seed=7))
    for _ in range(STEPS):
        actions = theirs.action_space.sample()
        # Each has its own: some wrappers write into what they are given.
        compare(ours.step(actions.copy()), theirs.step(actions))
    ours.close()
    theirs.close()


def compare(ours: Any, theirs: Any) -> None:
    *ours, our_infos = ours
    *theirs, their_infos = theirs
    alike(tuple(ours), tuple(theirs))
    both = our_infos if isinstance(our_infos, list) else [our_infos]
    for one, other in zip(both, their_infos if isinstance(their_infos, list) else [their_infos], strict=True):
        for infos in (one, other):
            if "episode" in infos:
                infos["episode"].pop("t")
                infos["episode"].pop("_t", None)
        alike(one, other)


@pytest.mark.parametrize("name", OURS_ALONE)
def test_a_wrapper_of_pictures_noise_or_other_arrays_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs, check = OURS_ALONE[name]
    if needs is not None:
        pytest.importorskip(needs)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    check(tmp_path)


def test_every_wrapper_has_a_row_and_every_row_a_wrapper() -> None:
    ours = {name for name in OURS_ALONE if not name.startswith("vector.")}
    exported = set(wrappers.__all__) - {"vector"}
    assert exported <= SINGLE.keys() | ours | NOT_RUN.keys()
    many = {name.removeprefix("vector.") for name in OURS_ALONE if name.startswith("vector.")}
    assert set(vector.__all__) == MANY.keys() | many | (NOT_RUN.keys() & set(vector.__all__))
    rows = SINGLE.keys() | ours | NOT_RUN.keys()
    # Before 1.3 there was none that repeats an action.
    assert rows - exported <= {"RepeatAction"}, f"rows for nothing: {rows - exported}"


@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode)[:2])
def test_every_kind_of_space_goes_through_sync_vector_env(mode: Any) -> None:
    """Our envs one by one in Gymnasium's vector env, and many at once in ours."""
    ours = rollcage.make_vec(hostile("spaces"), 2, seed=5, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: rollcage.Env(hostile("spaces"))] * 2, autoreset_mode=mode)
    assert ours.single_action_space == theirs.single_action_space
    assert ours.single_observation_space == theirs.single_observation_space
    same(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    theirs.action_space.seed(1)
    for _ in range(20):
        actions = theirs.action_space.sample()
        same(ours.step(actions)[:4], theirs.step(actions)[:4])
    ours.close()
    theirs.close()


def test_as_many_actions_as_envs() -> None:
    envs = rollcage.make_vec("cartpole", 4, autoreset_mode="disabled")
    envs.reset(seed=1)
    actions = envs.action_space.sample()
    for wrong in (actions[:3], np.concatenate([actions, actions[:1]]), actions[:0]):
        with pytest.raises(ValueError, match="shape"):
            envs.step(wrong)
    assert len(envs.step(actions)[0]) == 4
    envs.close()


def test_a_partial_reset_leaves_the_others_where_they_are() -> None:
    envs = rollcage.make_vec("cartpole", 3, autoreset_mode="disabled")
    first, _ = envs.reset(seed=[0, 1, 2])
    for _ in range(3):
        stepped, *_ = envs.step([0, 1, 1])
    again, _ = envs.reset(seed=[0, 1, 0], options={"reset_mask": np.array([True, True, False])})
    np.testing.assert_array_equal(again[:2], first[:2])
    np.testing.assert_array_equal(again[2], stepped[2])
    for mask in ([True], [True] * 4, [[True] * 3], [False] * 3):
        with pytest.raises(ValueError, match="reset_mask"):
            envs.reset(options={"reset_mask": np.array(mask)})
    for kind in (np.int64, np.float64):
        with pytest.raises(TypeError, match="reset_mask"):
            envs.reset(options={"reset_mask": np.ones(3, kind)})
    envs.close()
