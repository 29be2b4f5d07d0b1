"""Infos of every kind and with every key: nothing raises, nothing is lost, and what the host says only the host says."""

from __future__ import annotations

import json
import warnings
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import hostile
from gymnasium.vector import AutoresetMode

import rollcage
from rollcage._infos import RESERVED


def tells(*extras: Any, declared: bool | list[bool] = False, **kwargs: Any) -> rollcage.VectorEnv:
    """Envs of which each says an extra info in every step."""
    there = declared if isinstance(declared, list) else [declared] * len(extras)
    more = kwargs.pop("more", {})
    configs = [
        {"extra": extra if isinstance(extra, str) else json.dumps(extra), "declared": said, **more}
        for extra, said in zip(extras, there, strict=True)
    ]
    envs = rollcage.make_vec(hostile("tells"), len(configs), config=configs, **kwargs)
    envs.reset()
    return envs


def told(*extras: Any, **kwargs: Any) -> dict[str, Any]:
    """The infos of one step."""
    envs = tells(*extras, **kwargs)
    infos = envs.step([0] * len(extras))[4]
    envs.close()
    return infos


BIG = 2**64


@pytest.mark.parametrize(
    "values",
    [
        [1, None],
        [None, 1],
        [1, 2.5, None],
        [1, "x"],
        ["x", 1],
        [1, True],
        [True, 1],
        [1, [1, 2]],
        [[1, 2], 1],
        [1, {"a": 1}],
        [{"a": 1}, 1],
        [{"a": 1}, None, {"a": "x"}],
        [BIG, 1],
        [1, BIG],
        [2**63, 2**63],
        [-(2**63) - 1, 0.5],
        [0.5, 2**53 + 1],
        [int("9" * 300), -1],
        [[], {}, "", 0],
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
def test_infos_that_differ_in_kind_between_envs_are_columns_of_objects(values: list[Any], nested: bool) -> None:
    infos = told(*[{"in": {"q": value}} if nested else {"q": value} for value in values])
    if nested:
        assert infos["_in"].all()
        infos = infos["in"]
    assert infos["q"].dtype == object and infos["_q"].all()
    for got, value in zip(infos["q"], values, strict=True):
        assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], np.int64),
        ([1.5, 2.5], np.float64),
        ([True, False], np.bool_),
        ([2**63 - 1, -(2**63)], np.int64),
        # As some languages write 1.0.
        ([1, 0.5], np.float64),
        ([0.5, -3], np.float64),
    ],
    ids=str,
)
def test_infos_of_one_kind_are_columns_of_it(values: list[Any], dtype: Any) -> None:
    infos = told(*[{"q": value} for value in values], {})
    assert infos["q"].dtype == dtype and infos["_q"].tolist() == [True] * len(values) + [False]
    assert infos["q"].tolist() == [*values, dtype(0)]


def test_one_kind_gives_what_gymnasium_gives() -> None:
    """`SyncVectorEnv`'s own function over the same infos, where it loses nothing."""
    given: list[dict[str, Any]] = [
        {"a": 1, "b": 0.5, "c": True, "d": "x", "e": None, "f": [1, 2], "g": {"h": 1, "i": {"j": "k"}}},
        {"a": 3, "b": 1.5, "g": {"h": 2}},
        {},
        {"c": False, "d": "y", "f": [3]},
    ]
    theirs: dict[str, Any] = {}
    sync = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * len(given))
    for env, info in enumerate(given):
        theirs = sync._add_info(theirs, info, env)
    sync.close()
    ours = told(*given)
    from test_vector import same

    same(ours, theirs)


def test_an_extra_info_with_a_declared_fields_name_is_not_lost_and_raises_nothing() -> None:
    for extra, number in [(1, 1.0), (None, None), ("x", "x"), ([1, 2], [1, 2]), ({"a": 1}, {"a": 1}), (BIG, BIG)]:
        infos = told({"q": extra}, {}, {"q": extra, "pair": None}, declared=[False, True, True])
        assert infos["_q"].tolist() == [True, True, True]
        assert infos["q"].tolist() == [number, 0.5, number]
        assert infos["_pair"].tolist() == [False, True, True] and infos["pair"].dtype == object
        assert infos["pair"][1].tolist() == [1, -1] and infos["pair"][2] is None
    # One that all say is as ever.
    infos = told({}, {}, declared=True)
    assert infos["q"].dtype == np.float64 and infos["pair"].tolist() == [[1, -1], [1, -1]]
    envs = rollcage.Env(hostile("tells"), config={"extra": '{"q": null}', "declared": True})
    envs.reset()
    assert envs.step(0)[4]["q"] is None
    envs.close()


def test_who_says_an_info_cannot_be_forged() -> None:
    """A plugin may call an info `_x`; whose `x` count is the host's to know."""
    infos = told({"x": 1, "_x": 5, "_q": "all"}, {"_x": None}, {"_pair": [1]}, declared=[False, True, True])
    assert infos["_x"].tolist() == [True, False, False]
    assert infos["_q"].tolist() == infos["_pair"].tolist() == [False, True, True]


FORGED = dict.fromkeys(RESERVED | {"fine"}, 5) | {f"_{key}": "everybody" for key in RESERVED}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=["next-step", "same-step"])
def test_reserved_keys_cannot_be_forged_in_a_vector_env(mode: AutoresetMode) -> None:
    envs = tells(FORGED, {"fault": {}}, autoreset_mode=mode, more={"length": 2})
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    wrapped.reset()
    for step in range(1, 5):
        infos = wrapped.step([0, 0])[4]
        final = infos.pop("final_info", None)
        assert (final is not None) == (mode == AutoresetMode.SAME_STEP and step % 2 == 0)
        for some in [infos] if final is None else [infos, final]:
            # Those are the wrapper's own, and the host's.
            own = {"episode", "_episode", "final_obs", "_final_obs", "_final_info"}
            assert set(some) - own <= {"fine", "_fine"}, some
    assert envs.left_out_infos["fault"] >= 4 and set(envs.left_out_infos) == set(FORGED) - {"fine"}
    wrapped.close()


def test_reserved_keys_cannot_be_forged_in_a_single_env() -> None:
    env = rollcage.Env(hostile("tells"), config={"extra": json.dumps(FORGED)})
    env.reset()
    assert env.step(0)[4] == {"fine": 5}
    assert env.envs.left_out_infos["episode"] == 1
    env.close()


def test_a_forged_episode_does_not_end_learning() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.utils import safe_mean

    from rollcage.sb3 import make_vec_env

    for forged in (FORGED, {"episode": 5}, {"is_success": "yes"}, {"is_success": {}}):
        config = {"extra": json.dumps(forged), "length": 3}
        envs = make_vec_env(hostile("tells"), 2, config=config)
        envs.reset()
        for step in range(1, 7):
            _, _, dones, infos = envs.step([0, 1])
            for env in range(2):
                left = set(infos[env]) - {"fine", "TimeLimit.truncated"}
                assert left == ({"terminal_observation", "episode"} if dones[env] else set())
                assert infos[env]["TimeLimit.truncated"] is False
                if dones[env]:
                    assert infos[env]["episode"]["r"] == 3.0 and infos[env]["terminal_observation"] == ""
            assert dones.all() == (step % 3 == 0)
        assert envs.vector_env.left_out_infos
        envs.close()
        # What `learn` makes of such infos.
        cartpole = make_vec_env("cartpole", 2)
        model = sb3.PPO("MlpPolicy", cartpole, n_steps=4, batch_size=8, device="cpu")
        model.ep_info_buffer, model.ep_success_buffer = deque(maxlen=100), deque(maxlen=100)
        model._update_info_buffer(infos, dones)
        assert safe_mean([episode["r"] for episode in model.ep_info_buffer]) == 3.0
        safe_mean(model.ep_success_buffer)
        cartpole.close()


@pytest.mark.parametrize("value", [True, False, 1, 0.25])
def test_success_is_the_envs_to_tell(value: Any) -> None:
    infos = told({"is_success": value}, {"is_success": None})
    assert infos["is_success"].tolist() == [value, type(value)(0)] and infos["_is_success"].tolist() == [True, False]


def test_declared_infos_with_reserved_keys_are_left_out_and_it_is_said() -> None:
    for name in ("episode", "_fault", "TimeLimit.truncated"):
        with pytest.warns(UserWarning, match=f"are left out, because their keys are reserved for the host: '{name}'"):
            envs = tells({}, {}, declared=[True, False], more={"q_is_called": name})
        infos = envs.step([0, 0])[4]
        assert set(infos) == {"pair", "_pair"} and envs.left_out_infos == {name: 1}
        envs.close()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "infos that the env declares")
        infos = told({}, declared=True, more={"q_is_called": "is_success"})
    assert infos["is_success"].tolist() == [0.5]


def test_a_mask_of_an_env_without_masks_is_an_info_like_others() -> None:
    assert told({"action_mask": [1]})["action_mask"].tolist() == [[1]]


def test_infos_of_a_recv_and_of_the_last_call_are_as_those_of_a_step() -> None:
    envs = tells({"q": 1}, {"q": None}, {"q": "@"})
    envs.send([0, 0], [2, 1])
    infos = envs.recv(min_ready=2)[4]
    assert infos["q"].tolist() == [None, "1"] and infos["env_id"].tolist() == [1, 2]
    assert envs.last()[4]["q"].tolist() == [None, "1"]
    envs.close()
