"""TorchRL's `EnvBase` over rollcage: `Env`, a batch of sandboxed envs.

::

    from rollcage.torchrl import Env
    from torchrl.collectors import Collector

    env = Env("cartpole", num_envs=8, seed=7)
    for data in Collector(env, policy, frames_per_batch=1024, total_frames=100_000):
        ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from tensordict import NonTensorStack, TensorDict
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    Unbounded,
)
from torchrl.envs import EnvBase

from rollcage import _arguments as arguments
from rollcage._names import GYMNASIUM, answered
from rollcage._sources import PluginLike
from rollcage.errors import UnsupportedError, UsageError
from rollcage.vector import VectorEnv

__all__ = ["Env"]

#: Keys that TorchRL or this module gives a meaning to.
RESERVED = frozenset({"action", "done", "next", "reward", "terminated", "truncated", "snapshot", "_reset", "_step"})

#: The torch dtype of a Box, where it differs from numpy's. torch calculates with few kinds of unsigned integers.
DTYPES = {np.dtype(np.uint16): torch.int32, np.dtype(np.uint32): torch.int64}


class Env(EnvBase):
    """Envs of one plugin, each in a sandboxed process of its own, as one TorchRL env of batch size ``[num_envs]``.

    It steps all envs in one call of `rollcage.VectorEnv`, which `envs` holds, with autoreset disabled: TorchRL resets the envs
    whose episodes are over, by its ``_reset`` masks. One thread at a time may use it.

    A fault truncates the episode of its env, which TorchRL then resets; `envs.faults` lists the faults.

    Parameters
    ----------
    envs : str, path, class, EnvSpec or VectorEnv
        What `rollcage.VectorEnv` takes: a shipped plugin's name, a path, an env's class, an id of Gymnasium's registry or its
        `EnvSpec`. Or a `rollcage.VectorEnv` with ``autoreset_mode="disabled"`` (`rollcage.ray.make_vec` makes one too).
    num_envs : int, optional
        How many envs: 1 by default. Not with a `VectorEnv`.
    device : torch.device or str, optional
        The device of the tensors. The envs run on CPUs.
    categorical_action_encoding : bool
        How values of a Discrete or MultiDiscrete are encoded, as in TorchRL's `GymEnv`: by default as one-hot vectors; with True
        as numbers from 0.
    observation_key : str, optional
        The key of the observations. By default ``observation``, and for a Dict its own keys at the root of the tensordict; with a
        key given, a Dict's keys are nested below it.
    **kwargs
        Arguments of `rollcage.VectorEnv`: ``config``, ``seed``, ``grants``, ``limits``, ``max_episode_steps``, ``on_fault``,
        ``clip_actions``, ``require_sandbox`` and others.

    Attributes
    ----------
    envs : VectorEnv
        The envs.

    Raises
    ------
    UsageError
        The plugin cannot be run, an argument is wrong, or a key of the observations has another meaning in TorchRL.
    UnsupportedError
        A space has no tensors: a Text, or a Box of uint64.

    Notes
    -----
    Keys, for N envs: observations, for a Box of shape *s* a tensor of its dtype and shape (N, *s*), and (N, 1) for the shape ();
    uint16 becomes int32, uint32 becomes int64. For a Discrete of *n* values an int64 tensor of shape (N, *n*), or (N,) with
    ``categorical_action_encoding``; for a MultiDiscrete (N, sum of nvec), or (N, number of elements); for a MultiBinary int8 of
    its shape. The members of a Tuple have the keys ``"0"``, ``"1"`` and so on. ``action`` is encoded likewise; the keys of a Dict
    or Tuple are nested below it. ``reward`` is float32 of shape (N, 1). ``terminated``, ``truncated`` and ``done`` are bool of
    shape (N, 1).

    Envs with masks have ``action_mask``, bool of shape (N, choices), True where open: what `MaskedCategorical` and
    `MaskedOneHotCategorical` of TorchRL read. As for TorchRL's own envs, random actions keep to it under the transform
    `ActionMask`. Where an episode is over and nothing is open, the mask is all True.

    Examples
    --------
    ::

        from torchrl.envs import check_env_specs

        env = Env("cartpole", num_envs=4, seed=7)
        check_env_specs(env)
        data = env.rollout(100, break_when_any_done=False)      # batch size [4, 100]
        env.close()

    """

    _supports_set_state = True

    @answered({name: text for name, text in GYMNASIUM.items() if name != "env_fns"}, passed_to=VectorEnv.__init__)
    def __init__(
        self,
        envs: PluginLike | VectorEnv,
        num_envs: int | None = None,
        *,
        device: torch.device | str | None = "cpu",
        categorical_action_encoding: bool = False,
        observation_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(envs, VectorEnv):
            if num_envs is not None or kwargs:
                given = ", ".join([*(["num_envs"] if num_envs is not None else []), *kwargs])
                raise UsageError(f"{given}: the VectorEnv was made already; give them to make_vec")
            if envs.autoreset_mode != AutoresetMode.DISABLED:
                raise UsageError(
                    "rollcage.torchrl.Env: TorchRL resets envs by itself",
                    ["make the VectorEnv with autoreset_mode='disabled'"],
                )
        else:
            if kwargs.pop("autoreset_mode", None) is not None:
                raise UsageError("autoreset_mode: leave it out: TorchRL resets envs by itself, by its `_reset` masks")
            if kwargs.pop("copy", True) is not True:
                raise UsageError("copy=False: leave it out: TorchRL keeps observations, so each call gives new ones")
            envs = VectorEnv(envs, 1 if num_envs is None else num_envs, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        many = envs.num_envs
        super().__init__(device=device, batch_size=[many])
        self.envs = envs
        #: For `branch`.
        self._how: dict[str, Any] = {
            "device": device,
            "categorical_action_encoding": categorical_action_encoding,
            "observation_key": observation_key,
        }
        try:
            self._observations = _node(envs.single_observation_space, categorical_action_encoding, "observations")
            self._actions = _node(envs.single_action_space, categorical_action_encoding, "actions")
            self._key = _root_key(envs, observation_key)
        except (UsageError, UnsupportedError):
            envs.close()
            raise
        self._make_specs(many)
        #: The seeds of each env's next reset.
        self._seeds: list[int | None] = [None] * many
        #: The last observation of each env, in Gymnasium's batched form; None before the first reset.
        self._last: Any = None
        self._terminated = np.zeros(many, np.bool_)
        self._truncated = np.zeros(many, np.bool_)
        self.is_closed = False

    def _make_specs(self, many: int) -> None:
        on = {"shape": (many,), "device": self.device}
        seen = self._observations.spec(many, self.device)
        members = dict(seen.items()) if self._key is None else {self._key: seen}
        choices = self._mask_choices
        if choices:
            members["action_mask"] = Binary(choices, shape=(many, choices), device=self.device, dtype=torch.bool)
        self.observation_spec = Composite(members, **on)
        self.action_spec = Composite({"action": self._actions.spec(many, self.device)}, **on)
        self.reward_spec = Unbounded((many, 1), device=self.device, dtype=torch.float32)
        flag = Categorical(2, shape=(many, 1), device=self.device, dtype=torch.bool)
        self.done_spec = Composite({"done": flag, "terminated": flag.clone(), "truncated": flag.clone()}, **on)

    @property
    def _mask_choices(self) -> int:
        """The choices of an env's action mask; 0 without masks."""
        return int(self.envs.action_masks().shape[1]) if self.envs.action_masked else 0

    # ── What TorchRL calls ──────────────────────────────────────────────────────────────────────────────────────────

    def _reset(
        self,
        tensordict: Any = None,
        *,
        set_state: bool = False,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        """Resets all envs, or those of the tensordict's ``_reset``; with `set_state`, to its snapshots."""
        if set_state:
            return self.restore(tensordict)
        asked = None if tensordict is None else tensordict.get("_reset", None)
        which = np.ones(self.envs.num_envs, np.bool_) if asked is None else _flags(asked)
        if which.any():
            if seed is not None:
                self._set_seed(seed)
            seeds = [one if reset else None for one, reset in zip(self._seeds, which.tolist(), strict=True)]
            given = dict(options or {}) if which.all() else {**(options or {}), "reset_mask": which}
            self._last, _ = self.envs.reset(
                seed=None if all(one is None for one in seeds) else seeds, options=given or None
            )
            self._seeds = [None if reset else one for one, reset in zip(self._seeds, which.tolist(), strict=True)]
            self._terminated[which] = self._truncated[which] = False
        return self.current()

    def _step(self, tensordict: Any) -> Any:
        """Steps all envs, or those of the tensordict's ``_step``; of the others the last answers are repeated."""
        actions = self._actions.given(tensordict.get("action"))
        asked = tensordict.get("_step", None)
        if asked is None or (which := _flags(asked)).all():
            self._last, rewards, terminated, truncated, _ = self.envs.step(actions)
            self._terminated, self._truncated = terminated.copy(), truncated.copy()
        else:
            ids = np.flatnonzero(which)
            self.envs.send(_rows(actions, ids), ids)
            seen, answers, ended, cut, _ = self.envs.recv(min_ready=len(ids))
            self._last = _with_rows(self._last, seen, ids)
            rewards = np.zeros(self.envs.num_envs)
            rewards[ids], self._terminated[ids], self._truncated[ids] = answers, ended, cut
        told = self.current()
        told.set("reward", torch.from_numpy(rewards.astype(np.float32)).unsqueeze(-1).to(self.device))
        return told

    def _set_seed(self, seed: int | None) -> None:
        """Sets the seeds of the next reset: env *i* gets ``seed + i``. None leaves the envs' generators as they are."""
        if seed is not None:
            many = self.envs.num_envs
            first = arguments.count("seed", int(seed), 0, arguments.SEED_MAX - many + 1)
            self._seeds = [first + env for env in range(many)]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Ends every env and its worker. May be called again."""
        super().close(raise_if_closed=raise_if_closed)
        self.envs.close()

    def _mask(self) -> torch.Tensor:
        """The action masks. Where an episode is over and nothing is open, all is: a policy may sample there too."""
        masks = torch.from_numpy(self.envs.action_masks().astype(np.bool_)).to(self.device)
        over = torch.from_numpy(self._terminated | self._truncated).to(self.device)
        return masks | (over & ~masks.any(-1)).unsqueeze(-1)

    # ── Copies ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def current(self) -> Any:
        """The present observations, masks and done flags, without a step or a reset.

        Returns
        -------
        TensorDict, batch size [num_envs]
            What ``rollout(..., auto_reset=False, tensordict=env.current())`` goes on from.

        Raises
        ------
        UsageError
            The envs were not reset yet.

        """
        if self._last is None:
            raise UsageError("the envs were not reset yet", ["call reset"])
        seen = self._observations.seen(self._last, self.device)
        members = seen if self._key is None else {self._key: seen}
        if self.envs.action_masked:
            members["action_mask"] = self._mask()
        for key, flags in (
            ("terminated", self._terminated),
            ("truncated", self._truncated),
            ("done", self._terminated | self._truncated),
        ):
            members[key] = torch.from_numpy(flags.copy()).unsqueeze(-1).to(self.device)
        return TensorDict(members, batch_size=self.batch_size, device=self.device)

    def branch(self, env: int, count: int, *, reseed: int | Sequence[int] | None = None) -> Env:
        """Live copies of one env at its present step: see `rollcage.VectorEnv.branch`.

        Returns
        -------
        Env
            Of batch size [count]. Go on from its `current`; a reset begins new episodes.

        Raises
        ------
        UsageError, FaultError
            As of `rollcage.VectorEnv.branch`.

        """
        other = Env(self.envs.branch(env, count, reseed=reseed), **self._how)
        if self._last is not None:
            other._last = _rows(self._last, np.full(count, env))
        other._terminated[:], other._truncated[:] = self._terminated[env], self._truncated[env]
        return other

    def write_back(self, env: int, to: int | Sequence[int], *, source: Env | None = None) -> Any:
        """Makes other envs copies of one, which may be of a branch, `source`: see `rollcage.VectorEnv.write_back`.

        Returns
        -------
        TensorDict, batch size [num_envs]
            As of `current`.

        Raises
        ------
        UsageError
            As of `rollcage.VectorEnv.write_back`.

        """
        self._last = self.envs.write_back(env, to, source=None if source is None else source.envs)
        copied = self if source is None else source
        self._terminated[to], self._truncated[to] = copied._terminated[env], copied._truncated[env]
        return self.current()

    def snapshot(self) -> Any:
        """All envs as data: `current`, and below ``snapshot`` the bytes of `rollcage.VectorEnv.snapshot` for each env.

        `restore` brings them back, here or on any machine. The tensordict can be indexed, pickled and kept in a buffer:
        ``data[2].expand(8)`` is env 2 for eight envs.

        Returns
        -------
        TensorDict, batch size [num_envs]

        Raises
        ------
        UsageError
            As of `rollcage.VectorEnv.snapshot`.

        """
        data = self.current()
        data.set("snapshot", NonTensorStack(*[self.envs.snapshot(env) for env in range(self.envs.num_envs)]))
        return data

    def restore(self, data: Any) -> Any:
        """Brings each env to the state of a snapshot. ``env.reset(data, set_state=True)`` does the same.

        Parameters
        ----------
        data : TensorDict, batch size [num_envs]
            What `snapshot` returned, of these envs or others.

        Returns
        -------
        TensorDict, batch size [num_envs]
            As of `current`.

        Raises
        ------
        UsageError
            There are no snapshots in it, or as of `rollcage.VectorEnv.restore`: envs before the refused one are restored then.

        """
        if data is None or "snapshot" not in data:
            raise UsageError("restore: a tensordict with the key 'snapshot' is expected, as snapshot() returns it")
        for env in range(self.envs.num_envs):
            self._last = self.envs.restore(env, data[env]["snapshot"])
            self._terminated[env], self._truncated[env] = (bool(data[env][key]) for key in ("terminated", "truncated"))
        return self.current()

    def __repr__(self) -> str:
        return f"rollcage.torchrl.Env({self.envs.plugin}, batch_size=[{self.envs.num_envs}], device={self.device})"

    def __reduce__(self) -> Any:
        raise arguments.not_copied(repr(self), "envs.")


# ── Spaces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Node(ABC):
    """A space of Gymnasium's and its spec: batches of numpy's to tensors and back."""

    @abstractmethod
    def spec(self, many: int, device: Any) -> Any:
        """TorchRL's spec of a batch of `many`."""

    @abstractmethod
    def seen(self, values: Any, device: Any) -> Any:
        """The tensors of a batch of Gymnasium's."""

    @abstractmethod
    def given(self, values: Any) -> Any:
        """A batch of Gymnasium's from tensors."""


class Numbers(Node):
    """A Box or MultiBinary."""

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        self.space = space
        self.dtype = np.dtype(space.dtype)
        # A tensor for each env, as TorchRL's own conversion has it.
        self.shape = tuple(space.shape) or (1,)
        self.tensors = DTYPES.get(self.dtype) or torch.from_numpy(np.zeros(0, self.dtype)).dtype

    def spec(self, many: int, device: Any) -> Any:
        shape = (many, *self.shape)
        if isinstance(self.space, spaces.MultiBinary):
            return Binary(self.shape[-1], shape=shape, device=device, dtype=self.tensors)
        if self.tensors == torch.bool:
            return Binary(self.shape[-1], shape=shape, device=device, dtype=torch.bool)
        low, high = (
            torch.from_numpy(np.broadcast_to(bound.reshape(self.shape), shape).astype(self._numpy)).to(device)
            for bound in (self.space.low, self.space.high)
        )
        if self.tensors.is_floating_point and bool(torch.isinf(low).all() and torch.isinf(high).all()):
            return Unbounded(shape, device=device, dtype=self.tensors)
        return Bounded(low, high, shape, device=device, dtype=self.tensors)

    @property
    def _numpy(self) -> npt.DTypeLike:
        """numpy's dtype of the tensors."""
        return torch.zeros(0, dtype=self.tensors).numpy().dtype

    def seen(self, values: Any, device: Any) -> torch.Tensor:
        array = np.asarray(values).reshape((-1, *self.shape)).astype(self._numpy, copy=False)
        return torch.from_numpy(array).to(device)

    def given(self, values: Any) -> npt.NDArray[Any]:
        array = values.detach().cpu().numpy()
        given: npt.NDArray[Any] = array.reshape((len(array), *self.space.shape)).astype(self.dtype, copy=False)
        return given


class Choice(Node):
    """A Discrete: a number from 0, or a one-hot vector."""

    def __init__(self, space: spaces.Discrete, *, categorical: bool) -> None:
        self.choices, self.start = int(space.n), int(space.start)
        self.categorical = categorical

    def spec(self, many: int, device: Any) -> Any:
        if self.categorical:
            return Categorical(self.choices, shape=(many,), device=device, dtype=torch.int64)
        return OneHot(self.choices, shape=(many, self.choices), device=device, dtype=torch.int64)

    def seen(self, values: Any, device: Any) -> torch.Tensor:
        numbers = torch.from_numpy(np.asarray(values, np.int64) - self.start).to(device)
        return numbers if self.categorical else torch.nn.functional.one_hot(numbers, self.choices)

    def given(self, values: Any) -> npt.NDArray[np.int64]:
        numbers: npt.NDArray[np.int64] = (values if self.categorical else values.argmax(-1)).cpu().numpy()
        return numbers.astype(np.int64, copy=False) + self.start


class Choices(Node):
    """A MultiDiscrete: numbers from 0, or one-hot vectors behind one another."""

    def __init__(self, space: spaces.MultiDiscrete, *, categorical: bool) -> None:
        self.shape = tuple(space.nvec.shape)
        self.choices = [int(n) for n in space.nvec.reshape(-1)]
        self.start = space.start.reshape(-1)
        self.categorical = categorical

    def spec(self, many: int, device: Any) -> Any:
        if self.categorical:
            shape = (many, len(self.choices))
            return MultiCategorical(self.choices, shape=shape, device=device, dtype=torch.int64)
        return MultiOneHot(self.choices, shape=(many, sum(self.choices)), device=device, dtype=torch.int64)

    def seen(self, values: Any, device: Any) -> torch.Tensor:
        numbers = torch.from_numpy(np.asarray(values, np.int64).reshape(-1, len(self.choices)) - self.start).to(device)
        if self.categorical:
            return numbers
        columns = zip(numbers.unbind(-1), self.choices, strict=True)
        return torch.cat([torch.nn.functional.one_hot(column, many) for column, many in columns], -1)

    def given(self, values: Any) -> npt.NDArray[np.int64]:
        if not self.categorical:
            values = torch.stack([part.argmax(-1) for part in values.split(self.choices, -1)], -1)
        numbers: npt.NDArray[np.int64] = values.cpu().numpy().astype(np.int64, copy=False) + self.start
        return numbers.reshape((-1, *self.shape))


class Members(Node):
    """A Dict or Tuple."""

    def __init__(self, members: Mapping[str, Node], *, is_tuple: bool) -> None:
        self.members = dict(members)
        self.is_tuple = is_tuple

    def spec(self, many: int, device: Any) -> Any:
        members = {key: node.spec(many, device) for key, node in self.members.items()}
        return Composite(members, shape=(many,), device=device)

    def seen(self, values: Any, device: Any) -> dict[str, Any]:
        parts = values if self.is_tuple else [values[key] for key in self.members]
        return {key: node.seen(part, device) for (key, node), part in zip(self.members.items(), parts, strict=True)}

    def given(self, values: Any) -> Any:
        parts = {key: node.given(values.get(key)) for key, node in self.members.items()}
        return tuple(parts.values()) if self.is_tuple else parts


def _node(space: spaces.Space[Any], categorical: bool, path: str) -> Node:
    """The node of a space. `path` is for messages."""
    if isinstance(space, spaces.Dict):
        return Members(
            {key: _node(one, categorical, f"{path}[{key!r}]") for key, one in space.spaces.items()}, is_tuple=False
        )
    if isinstance(space, spaces.Tuple):
        return Members(
            {str(at): _node(one, categorical, f"{path}[{at}]") for at, one in enumerate(space.spaces)}, is_tuple=True
        )
    if isinstance(space, spaces.Discrete):
        return Choice(space, categorical=categorical)
    if isinstance(space, spaces.MultiDiscrete):
        return Choices(space, categorical=categorical)
    if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and space.dtype != np.uint64):
        return Numbers(space)
    what = "of uint64" if isinstance(space, spaces.Box) else "of texts"
    raise UnsupportedError(f"{path}: there are no tensors {what} for {type(space).__name__}")


def _root_key(envs: VectorEnv, key: str | None) -> str | None:
    """The key of the observations; None where those of a Dict are at the root."""
    reserved = RESERVED | {"action_mask"} if envs.action_masked else RESERVED
    names = [key]
    if key is None:
        if not isinstance(envs.single_observation_space, spaces.Dict):
            return "observation"
        names = list(envs.single_observation_space.spaces)
    for name in names:
        if name in reserved:
            raise UsageError(
                f"the key {name!r} of the observations has another meaning in TorchRL",
                ["observation_key='observation' nests the keys of a Dict"],
            )
    return key


def _flags(values: Any) -> npt.NDArray[np.bool_]:
    """The rows of a mask of TorchRL's."""
    flags: npt.NDArray[np.bool_] = values.reshape(len(values), -1).any(-1).cpu().numpy()
    return flags


def _with_rows(batch: Any, rows: Any, ids: npt.NDArray[np.intp]) -> Any:
    """A copy of a batch of Gymnasium's, with other values in some rows."""
    if isinstance(batch, dict):
        return {key: _with_rows(part, rows[key], ids) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_with_rows(part, some, ids) for part, some in zip(batch, rows, strict=True))
    other = batch.copy()
    other[ids] = rows
    return other


def _rows(batch: Any, ids: npt.NDArray[np.intp]) -> Any:
    """Some rows of a batch of Gymnasium's."""
    if isinstance(batch, dict):
        return {key: _rows(part, ids) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_rows(part, ids) for part in batch)
    return batch[ids]
