"""`rollcage.VectorEnv` beside Gymnasium's `SyncVectorEnv` over the same envs in Python: everything that both return."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import twin
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich import Rich

import rollcage

ENVS = 3
MODES = list(AutoresetMode)


def same(ours: Any, theirs: Any, path: str = "") -> None:
    """The same values, of the same types where numpy has one."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict) and set(ours) == set(theirs), f"{path}: {sorted(ours)} and {sorted(theirs)}"
        for key in theirs:
            same(ours[key], theirs[key], f"{path}[{key!r}]")
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs), path
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{path}[{index}]")
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        assert ours.dtype == object and ours.shape == theirs.shape, path
        for index, (one, other) in enumerate(zip(ours.flat, theirs.flat, strict=True)):
            same(one, other, f"{path}[{index}]")
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype, f"{path}: {ours.dtype} and {theirs.dtype}"
        np.testing.assert_array_equal(ours, theirs, path)
    else:
        assert ours == theirs, f"{path}: {ours!r} and {theirs!r}"


seeds = st.one_of(
    st.none(),
    st.integers(0, 2**62),
    st.lists(st.one_of(st.none(), st.integers(0, 2**62)), min_size=ENVS, max_size=ENVS),
)
masks = st.lists(st.booleans(), min_size=ENVS, max_size=ENVS).filter(any)
calls = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 2**32 - 1), st.integers(1, 12)),
    st.tuples(st.just("reset"), seeds, st.one_of(st.none(), masks), st.one_of(st.none(), st.integers(0, 900))),
    st.tuples(st.just("call"), st.integers(-5, 5), st.integers(-5, 5)),
    st.tuples(
        st.just("set_attr"), st.one_of(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=ENVS, max_size=ENVS))
    ),
    st.tuples(st.just("get_attr"), st.sampled_from(["level", "steps"])),
    st.tuples(st.just("render")),
)


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 2**62), script=st.lists(calls, min_size=1, max_size=14))
def test_random_calls_give_what_sync_vector_env_gives(mode: AutoresetMode, first: int, script: list[Any]) -> None:
    lengths = [7, 4, 1]
    theirs = SyncVectorEnv(
        [lambda length=length: Rich(length, render_mode="rgb_array") for length in lengths], autoreset_mode=mode
    )
    ours = rollcage.make_vec(
        twin("rich"),
        ENVS,
        config=lambda env: {"length": lengths[env]},
        autoreset_mode=mode,
        render_mode="rgb_array",
    )
    try:
        assert ours.observation_space == theirs.observation_space
        assert ours.action_space == theirs.action_space
        assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
        same(ours.reset(seed=first), theirs.reset(seed=first), "the first reset")
        over = np.zeros(ENVS, np.bool_)
        for number, (what, *arguments) in enumerate(script):
            where = f"call {number}, {what}"
            if what == "step":
                seed, steps = arguments
                theirs.action_space.seed(seed)
                for _ in range(steps):
                    if mode == AutoresetMode.DISABLED and over.any():
                        given_options = [{"reset_mask": over.copy()} for _ in range(2)]
                        same(ours.reset(options=given_options[0]), theirs.reset(options=given_options[1]), where)
                    actions = theirs.action_space.sample()
                    one, other = ours.step(actions), theirs.step(actions)
                    same(one, other, where)
                    over = other[2] | other[3]
            elif what == "reset":
                seed, mask, start = arguments
                options: list[dict[str, Any] | None] = [None, None]
                if mask is not None or start is not None:
                    options = [{} if start is None else {"start": start} for _ in range(2)]
                    for one in options:
                        if mask is not None and one is not None:
                            one["reset_mask"] = np.array(mask)
                same(ours.reset(seed=seed, options=options[0]), theirs.reset(seed=seed, options=options[1]), where)
                over &= ~np.array(mask) if mask is not None else False
            elif what == "call":
                a, b = arguments
                same(ours.call("add", a=a, b=b), theirs.call("add", a=a, b=b), where)
            elif what == "set_attr":
                ours.set_attr("level", arguments[0])
                theirs.set_attr("level", arguments[0])
            elif what == "get_attr":
                same(ours.get_attr(arguments[0]), theirs.get_attr(arguments[0]), where)
            else:
                same(ours.render(), theirs.render(), where)
    finally:
        ours.close()
        theirs.close()
    assert ours.closed


@pytest.mark.parametrize("mode", MODES[:2], ids=[mode.name for mode in MODES[:2]])
@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Acrobot-v1", "Blackjack-v1", "FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"]
)
def test_shipped_envs_give_what_gymnasiums_give(name: str, mode: AutoresetMode) -> None:
    if name not in gymnasium.registry:
        pytest.skip(f"Gymnasium {gymnasium.__version__} has another version of {name}")
    theirs = gymnasium.make_vec(name, ENVS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})
    ours = gymnasium.make_vec(f"rollcage/{name}", ENVS, autoreset_mode=mode)
    assert isinstance(ours, rollcage.VectorEnv)
    assert ours.single_action_space == theirs.single_action_space
    assert ours.single_observation_space == theirs.single_observation_space
    theirs.action_space.seed(3)
    alike(ours.reset(seed=7), theirs.reset(seed=7))
    for _ in range(300):
        actions = theirs.action_space.sample()
        alike(ours.step(actions), theirs.step(actions))
    ours.close()
    theirs.close()


def alike(ours: Any, theirs: Any) -> None:
    """The same, but that numbers may differ in the last bits (sine and cosine), and that FrozenLake's `prob`, an int in
    Gymnasium's resets, makes SyncVectorEnv round off the probabilities that stand beside one in a batch.
    """
    if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "i" and ours.dtype.kind == "f":
        ours = ours.astype(theirs.dtype)
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            alike(ours[key], theirs[key])
    elif isinstance(theirs, tuple):
        for one, other in zip(ours, theirs, strict=True):
            alike(one, other)
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                alike(one, other)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_every_kind_of_space_comes_and_goes() -> None:
    """The guest `spaces` shows its last action in its observation."""
    from conftest import hostile

    envs = rollcage.make_vec(hostile("spaces"), 2)
    observations, infos = envs.reset()
    assert envs.observation_space.contains(observations)
    envs.action_space.seed(1)
    for step in range(1, 13):
        actions = envs.action_space.sample()
        observations, rewards, _, _, infos = envs.step(actions)
        same(observations["act"], actions, "act")
        assert rewards.tolist() == [0.5, 0.5]
        assert ("odd one" in infos) == (step % 2 == 1)
        assert ("note" in infos) == (step % 4 == 0)
        if step % 4 == 0:
            assert infos["nested"]["steps"].tolist() == [step, step]
        assert observations["numbers"]["int64"][0].tolist() == [-(2**63), 2**63 - 1, -step]
    single = rollcage.Env(hostile("spaces"))
    observation, _ = single.reset()
    assert single.observation_space.contains(observation)
    action = single.action_space.sample()
    observation, *_ = single.step(action)
    same(observation["act"]["push"], action["push"])
    assert observation["act"]["say what"] == action["say what"]
    single.close()
    envs.close()


def test_copies_are_ones_own_and_views_are_not() -> None:
    envs = rollcage.make_vec("cartpole", 3, seed=1)
    first, _ = envs.reset()
    kept = first.copy()
    second, *_ = envs.step([0, 0, 0])
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    envs.close()

    envs = rollcage.make_vec("cartpole", 3, seed=1, copy=False)
    first, _ = envs.reset()
    np.testing.assert_array_equal(first, kept)
    again, *_ = envs.step([0, 0, 0])
    assert again is first
    np.testing.assert_array_equal(first, second)
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        # Once in a process: that nobody should write to it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        tensor = torch.from_numpy(first)
    exchanged = torch.from_dlpack(first)
    envs.step([1, 1, 1])
    assert torch.equal(tensor, exchanged) and np.shares_memory(tensor.numpy(), first)
    last = first.copy()
    envs.close()
    del envs
    import gc

    gc.collect()
    np.testing.assert_array_equal(first, last)
    assert torch.equal(tensor, torch.tensor(last))


def test_a_view_cannot_be_written_to() -> None:
    envs = rollcage.make_vec("cartpole", 3, seed=1, copy=False)
    first, _ = envs.reset()
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True
    rows = [envs.step([0, 0, 0])[0], envs.last()[0], envs.write_back(0, [1]), envs.restore(2, envs.snapshot(0))]
    copies = envs.branch(0, 2)
    rows += [copies.last()[0], copies.step([0, 0])[0]]
    assert not any(row.flags.writeable for row in rows)
    copies.close()
    envs.close()
    envs = rollcage.make_vec("cartpole", 3, seed=1)
    assert envs.reset()[0].flags.writeable
    envs.close()


def test_views_of_anything_but_a_box_are_copies_and_it_is_said() -> None:
    with pytest.warns(UserWarning, match="only observations of a Box"):
        envs = rollcage.make_vec("taxi", 2, seed=1, copy=False)
    first, _ = envs.reset()
    kept = first.copy()
    for _ in range(5):
        envs.step([0, 1])
    np.testing.assert_array_equal(first, kept)
    envs.close()


def test_send_and_recv() -> None:
    envs = rollcage.make_vec("cartpole", 4, seed=7)
    both = rollcage.make_vec("cartpole", 4, seed=7)
    envs.reset()
    both.reset()
    expected, *_ = both.step([0, 1, 0, 1])
    envs.send([1, 0], [3, 0])
    envs.send([1, 0], [1, 2])
    with pytest.raises(rollcage.UsageError, match="in flight"):
        envs.send([0], [2])
    got = {}
    while len(got) < 4:
        observations, rewards, _, _, infos = envs.recv(min_ready=1)
        assert len(rewards) == len(observations) == len(infos["env_id"]) >= 1
        got.update(zip(infos["env_id"].tolist(), observations, strict=True))
    np.testing.assert_array_equal([got[env] for env in range(4)], expected)
    observations, *_, infos = envs.recv(min_ready=1, timeout=0.01)
    assert observations.shape == (0, 4) and infos["env_id"].shape == (0,)
    envs.close()
    both.close()


def test_action_masks_after_a_recv_of_some_envs_are_those_of_all() -> None:
    from conftest import hostile

    envs = rollcage.make_vec(hostile("masked"), 4)
    envs.reset()
    # Of four choices, `steps mod 4` and the next are open.
    masks = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    envs.send([0, 1], [3, 1])
    infos = envs.recv(min_ready=2)[4]
    assert infos["action_mask"].tolist() == [masks[1]] * 2
    assert envs.action_masks().tolist() == [masks[0], masks[1], masks[0], masks[1]]
    envs.send([1], [3])
    envs.recv()
    assert envs.action_masks().tolist() == [masks[0], masks[1], masks[0], masks[2]]
    assert envs.call("action_masks")[3].tolist() == masks[2]
    assert envs.call_env(0, "action_masks").tolist() == masks[0]
    envs.close()


def test_steps_in_two_halves_are_neither_repeated_nor_lost() -> None:
    envs = rollcage.make_vec("cartpole", 2, seed=1)
    other = rollcage.make_vec("cartpole", 2, seed=1)
    envs.reset()
    other.reset()
    with pytest.raises(gymnasium.error.NoAsyncCallError, match="no step was begun") as never:
        envs.step_wait()
    assert never.value.name == "step" and isinstance(never.value, rollcage.UsageError)
    envs.step_async([0, 1])
    for call in (
        lambda: envs.step_async([1, 1]),
        lambda: envs.step([1, 1]),
        lambda: envs.reset(options={"reset_mask": np.array([True, False])}),
        lambda: envs.send([1], [0]),
    ):
        with pytest.raises(gymnasium.error.AlreadyPendingCallError, match="begun by `step_async`") as again:
            call()
    assert again.value.name == "step" and isinstance(again.value, rollcage.UsageError)
    np.testing.assert_array_equal(envs.step_wait()[0], other.step([0, 1])[0])
    with pytest.raises(rollcage.NoAsyncCallError):
        envs.step_wait()
    np.testing.assert_array_equal(envs.step([0, 1])[0], other.step([0, 1])[0])
    envs.send([0], [0])
    with pytest.raises(rollcage.AlreadyPendingCallError, match="env 0 is in flight"):
        envs.step([0, 0])
    envs.recv()
    envs.step_async([0, 0])
    # Whoever begins anew wants no answer any more.
    envs.reset()
    envs.step([0, 0])
    envs.close()
    other.close()


def test_a_text_of_all_of_unicode_is_not_copied_for_every_env() -> None:
    """Its table of characters is Gymnasium's, and takes a second and 100 MB."""
    from conftest import hostile

    envs = rollcage.make_vec(hostile("tells"), 8, config={"characters": 900_000})
    spaces = list(envs.observation_space.spaces)
    assert len({id(space.character_list) for space in [*spaces, envs.single_observation_space]}) == 1
    # Each draws for itself.
    envs.observation_space.seed(1)
    again = gymnasium.vector.utils.batch_space(envs.single_observation_space, 8)
    again.seed(1)
    drawn = envs.observation_space.sample()
    assert drawn == again.sample() and len(set(drawn)) > 1
    assert envs.observation_space.contains(drawn) and envs.observation_space == again
    envs.close()


def test_recv_gives_an_answer_to_its_own_action() -> None:
    """An env that is late stays in flight, and the answer is its own."""
    from conftest import hostile

    envs = rollcage.make_vec(
        hostile("slow"), 2, config=[{"in_call": "step", "at": 1, "length": -1}, {"at": -1, "length": -1}]
    )
    envs.reset()
    envs.step([0, 0])
    envs.send([0, 0], [0, 1])
    seen = []
    while len(seen) < 2:
        *_, infos = envs.recv(min_ready=1, timeout=5)
        seen += infos["env_id"].tolist()
    assert sorted(seen) == [0, 1]
    envs.close()


def test_statistics_of_episodes() -> None:
    envs = rollcage.make_vec("cartpole", 3, seed=7, episode_statistics=True)
    theirs = gymnasium.wrappers.vector.RecordEpisodeStatistics(rollcage.make_vec("cartpole", 3, seed=7))
    envs.reset()
    theirs.reset()
    ended = 0
    envs.action_space.seed(1)
    for _ in range(200):
        actions = envs.action_space.sample()
        ours, other = envs.step(actions)[4], theirs.step(actions)[4]
        assert ("episode" in ours) == ("episode" in other)
        if "episode" in ours:
            ended += int(ours["_episode"].sum())
            np.testing.assert_array_equal(ours["_episode"], other["_episode"])
            # Numbers, not objects: "t" once was an array of those.
            assert {key: ours["episode"][key].dtype for key in "rlt"} == {
                key: other["episode"][key].dtype for key in "rlt"
            }
            rows = ours["_episode"]
            np.testing.assert_array_equal(ours["episode"]["r"][rows], other["episode"]["r"][rows])
            np.testing.assert_array_equal(ours["episode"]["l"][rows], other["episode"]["l"][rows])
            assert (ours["episode"]["t"][rows] > 0).all()
    assert ended > 10
    envs.close()
    theirs.close()


def test_reset_options_reach_automatic_resets() -> None:
    envs = rollcage.make_vec(twin("rich"), 2, config={"length": 3}, seed=1)
    envs.reset()
    envs.set_reset_options(1, {"start": 100})
    counts = [envs.step([[0, 0], [0, 0]])[0]["count"].tolist() for _ in range(5)]
    assert max(count[1] for count in counts) >= 100 and max(count[0] for count in counts) < 100
    with pytest.raises(rollcage.UsageError):
        envs.set_reset_options(2, {})
    envs.close()


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(rollcage.UsageError, match="did you mean `cartpole`"):
        rollcage.make_vec("cartpol")
    with pytest.raises(rollcage.UsageError, match="unknown key; did you mean `map_name`"):
        rollcage.make_vec("frozenlake", config={"map_nam": "8x8"})
    with pytest.raises(rollcage.UsageError, match="config: a list of 2 for 3 envs"):
        rollcage.make_vec("frozenlake", 3, config=[{}, {}])
    with pytest.raises(rollcage.UsageError, match="num_envs: 0; from 1"):
        rollcage.make_vec("cartpole", 0)
    with pytest.raises(TypeError, match="num_envs: a whole number"):
        rollcage.make_vec("cartpole", "8")
    with pytest.raises(rollcage.UsageError, match="a lambda cannot be bundled"):
        rollcage.make_vec(lambda: gymnasium.make("CartPole-v1"))
    with pytest.raises(rollcage.UsageError, match="no limit is called 'step_timout'"):
        rollcage.make_vec("cartpole", limits={"step_timout": 1})
    with pytest.raises(rollcage.UsageError, match="autoreset_mode"):
        rollcage.make_vec("cartpole", autoreset_mode="sometimes")
    with pytest.raises(rollcage.UsageError, match="on_fault"):
        rollcage.make_vec("cartpole", on_fault="ignore")
    with pytest.raises(rollcage.UsageError, match="render_mode: cartpole does not have 'human'; it has rgb_array"):
        rollcage.make_vec("cartpole", render_mode="human")
    with pytest.raises(rollcage.UsageError, match="seed: -1"):
        rollcage.make_vec("cartpole", seed=-1)
    with pytest.raises(rollcage.UsageError, match="your|keys"):
        rollcage.make_vec("cartpole", grants=["dir=~/.ssh:/keys".replace("~", __import__("os").path.expanduser("~"))])
    envs = rollcage.make_vec("cartpole", 2)
    with pytest.raises(rollcage.UsageError, match="must be reset before its first step"):
        envs.step([0, 0])
    envs.reset(seed=1)
    before = envs.digest
    for actions, words in [
        ([0, 2], "env 1: action 2, allowed is 0 to 1"),
        ([0], "shape"),
        ([0.0, 1.0], "float64"),
        ([[0, 1]], "shape"),
    ]:
        with pytest.raises(rollcage.UsageError, match=words):
            envs.step(actions)
    assert envs.digest == before, "nothing was stepped"
    with pytest.raises(rollcage.UsageError, match="3 seeds for 2 envs"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(TypeError, match="reset_mask"):
        envs.reset(options={"reset_mask": [True, False]})
    with pytest.raises(rollcage.UsageError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, np.bool_)})
    with pytest.raises(rollcage.UnsupportedError):
        envs.call("no_such_method")
    with pytest.raises(AttributeError):
        envs.get_attr("no_such_attribute")
    with pytest.raises(rollcage.UsageError, match="no render_mode"):
        envs.render()
    with pytest.raises(TypeError, match="cannot be pickled"):
        __import__("pickle").dumps(envs)
    envs.close()
    envs.close()
    with pytest.raises(rollcage.ClosedError):
        envs.step([0, 0])
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.reset()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"memory_bytes": "64MiB"},
            r"memory_bytes: '64MiB'; a whole number of bytes.*\nhint: write memory_bytes=64 << 20",
        ),
        ({"memory_bytes": "1 gb"}, r"hint: write memory_bytes=1 << 30"),
        ({"memory_bytes": "much"}, "memory_bytes: 'much'; a whole number of bytes is expected$"),
        ({"memory_bytes": 64e6}, "memory_bytes: 64000000.0; a whole number of bytes"),
        ({"memory_bytes": -1}, "memory_bytes: -1; from 65536"),
        ({"memory_bytes": 100}, "memory_bytes: 100; from 65536"),
        ({"memory_bytes": 1 << 70}, "memory_bytes: .*; from 65536"),
        ({"memory_bytes": True}, "memory_bytes: True; a whole number"),
        ({"snapshot_bytes": "1MiB"}, "hint: write snapshot_bytes=1 << 20"),
        ({"fuel_per_step": "1e9"}, "fuel_per_step: '1e9'; a whole number is expected"),
        ({"sockets": 2.0}, "sockets: 2.0; a whole number is expected"),
        ({"restarts_in_window": 1 << 33}, "restarts_in_window: .*; from 0"),
        ({"step_timeout": "2s"}, "step_timeout: '2s'; a number of seconds.*\nhint: .*step_timeout=30.0"),
        ({"step_timeout": [1]}, "step_timeout: .*; a number of seconds"),
        ({"step_timeout": 0}, "step_timeout"),
        ({"step_timeout": float("nan")}, "step_timeout"),
    ],
)
def test_a_limit_of_another_type_is_said_with_what_to_write(limits: dict[str, Any], words: str) -> None:
    for form in (dict, rollcage.Limits):
        with pytest.raises(rollcage.UsageError, match=words):
            rollcage.make_vec("cartpole", limits=form(**limits))


def test_limits_of_numpys_numbers_are_numbers() -> None:
    limits = rollcage.Limits(memory_bytes=np.int64(64 << 20), step_timeout=np.float32(2.5), sockets=np.uint8(3))
    assert (limits.memory_bytes, limits.step_timeout, limits.sockets) == (64 << 20, 2.5, 3)
    rollcage.make_vec("cartpole", limits=limits).close()


def test_arguments_of_another_type_are_said_by_name() -> None:
    """Each names its argument: nothing ends in the extension's words."""
    import inspect

    wrong: dict[str, tuple[Any, str]] = {
        "plugin": (5, "plugin: .*got 5"),
        "num_envs": (2.5, "num_envs: a whole number"),
        "config": (5, "config: a dict"),
        "seed": ("7", "seed: a whole number"),
        "grants": (5, "grants: a list of texts"),
        "limits": (5, r"limits: a rollcage\.Limits or a dict"),
        "autoreset_mode": (5, "autoreset_mode: a text"),
        "max_episode_steps": ("200", "max_episode_steps: a whole number"),
        "on_fault": (None, "on_fault: a text"),
        "envs_per_worker": (1.5, "envs_per_worker: a whole number"),
        "policy": (5, "policy: the path of"),
        "policy_config": (5, "policy_config: a dict"),
        "policy_worker": (5, "policy_worker: a text"),
        "render_mode": (5, "render_mode"),
        "backend": (5, "backend: a text"),
        "recycle_after": (0.5, "recycle_after: a whole number"),
        "record": (5, "record|PathLike"),
        "start": (5, "start: a text"),
    }
    for name, (value, words) in wrong.items():
        arguments = {"plugin": "cartpole", name: value}
        with pytest.raises((TypeError, rollcage.UsageError), match=words):
            rollcage.make_vec(**arguments)
    # What else there is is a yes or a no, and everything is one of those.
    yes_or_no = {
        name for name, one in inspect.signature(rollcage.make_vec).parameters.items() if type(one.default) is bool
    }
    assert wrong.keys() | yes_or_no == set(inspect.signature(rollcage.make_vec).parameters)
    with pytest.raises(TypeError, match="plugin: expected the name of a shipped plugin"):
        rollcage.make_vec([lambda: None])
    with pytest.raises(TypeError, match="grants: .*got 5"):
        rollcage.make_vec("cartpole", grants=["clock", 5])


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_names_of_other_libraries_are_answered() -> None:
    answers: list[tuple[Any, dict[str, Any], str]] = [
        (rollcage.make_vec, {"n_envs": 2}, "n_envs: write num_envs"),
        (rollcage.VectorEnv, {"n_envs": 2}, "n_envs: write num_envs"),
        (rollcage.make_vec, {"id": "CartPole-v1"}, "id: write plugin"),
        (rollcage.make_vec, {"vectorization_mode": "sync"}, "vectorization_mode: leave it out"),
        (rollcage.make_vec, {"vector_kwargs": {"copy": False}}, "vector_kwargs: leave it out, and pass its entries"),
        (rollcage.make_vec, {"wrappers": [lambda env: env]}, r"gymnasium\.wrappers\.vector"),
        (rollcage.make_vec, {"env_kwargs": {"a": 1}}, "write config"),
        (rollcage.make_vec, {"shared_memory": False}, "leave it out"),
        (rollcage.make_vec, {"context": "spawn"}, "start= chooses"),
        (rollcage.make_vec, {"max_steps": 5}, "no argument is called max_steps"),
        (rollcage.make_vec, {"max_episode_step": 5}, "did you mean max_episode_steps"),
        (rollcage.make_vec, {"map_name": "8x8"}, r"a key of the config is config=\{'map_name': \.\.\.\}"),
        (rollcage.Env, {"num_envs": 2}, "many envs: see rollcage.make_vec"),
        (rollcage.Env, {"n_envs": 2}, "many envs: see rollcage.make_vec"),
        (rollcage.Env, {"copy": False}, "many envs"),
        (rollcage.Env, {"no_such_thing": 2}, "no argument is called no_such_thing"),
    ]
    for function, kwargs, words in answers:
        with pytest.raises(TypeError, match=words):
            function("cartpole", **kwargs) if "id" not in kwargs else function(**kwargs)
    with pytest.raises(TypeError, match="only plugin, num_envs may be positional"):
        rollcage.make_vec("cartpole", 2, {})
    rollcage.make_vec("cartpole", wrappers=None, vectorization_mode=None, vector_kwargs=None).close()


def test_configs_of_every_form() -> None:
    import dataclasses

    pydantic = pytest.importorskip("pydantic")

    @dataclasses.dataclass
    class Lake:
        map_name: str = "8x8"
        is_slippery: bool = False

    class Model(pydantic.BaseModel):
        map_name: str = "8x8"
        is_slippery: bool = False

    plain = {"map_name": "8x8", "is_slippery": np.bool_(False)}
    for config in (plain, Lake(), Model(), [plain, Lake()], lambda env: Model()):
        envs = rollcage.make_vec("frozenlake", 2, config=config)
        assert envs.single_observation_space.n == 64
        assert [config["is_slippery"] for config in envs.configs] == [False, False]
        envs.close()


def test_seeds_are_drawn_unless_said() -> None:
    envs = [rollcage.make_vec("cartpole", 2) for _ in range(2)]
    first, second = (one.reset()[0] for one in envs)
    assert not np.array_equal(first, second)
    again = rollcage.make_vec("cartpole", 2, seed=envs[0].initial_seed)
    np.testing.assert_array_equal(again.reset()[0], first)
    assert again.digest == envs[0].digest
    for one in [*envs, again]:
        one.close()


def test_make_vec_is_the_class_by_another_name() -> None:
    import inspect

    made = inspect.signature(rollcage.make_vec).parameters
    assert list(made.values()) == list(inspect.signature(rollcage.VectorEnv).parameters.values())
