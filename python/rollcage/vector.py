"""Gymnasium's `VectorEnv` over rollcage: `make_vec`.

The path of a step: actions to bytes (`_spaces`), the host (`_rollcage`, without the GIL), bytes to arrays (`_spaces`), and
infos, if there are any (`_infos`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rollcage import _arguments as arguments
from rollcage import _rollcage as native
from rollcage._arguments import Configs, GrantsLike, Limits
from rollcage._infos import Infos, add
from rollcage._names import GYMNASIUM, answered
from rollcage._rollouts import PolicyLike, Rollout, played, policy_file
from rollcage._sources import PluginLike
from rollcage._spaces import Values
from rollcage._types import Bytes, Flags, Reals, Row
from rollcage.errors import Fault, RollcageError, UnsupportedError, UsageError

__all__ = ["VectorEnv", "make_vec"]

Stepped = tuple[Any, Reals, Flags, Flags, dict[str, Any]]

#: Reset options of one env.
Options = Mapping[str, Any]


class VectorEnv(gymnasium.vector.VectorEnv[Any, Any, npt.NDArray[Any]]):
    """Envs of one plugin, each a wasm instance in a sandboxed process of its own, as Gymnasium's `VectorEnv`.

    One thread at a time may use it; it may be made in one thread and used in another. Without `close` its workers end when
    it is garbage collected, or with this process, however that ends.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec
        The name of a shipped plugin (`rollcage.shipped()`), or the path of a ``.wasm`` file. For an env in Python the path of its
        folder, its class (or a function that makes one), or an id of Gymnasium's registry (``CartPole-v1``) or its `EnvSpec`,
        whose limit, arguments and wrappers come along. The class is that of an importable module: its source and that of what
        it imports are bundled with CPython and numpy, and run in the sandbox; nothing of it runs in this process. A shipped
        plugin's name wins over an id.
    num_envs : int
        How many envs, from 1 to 4096.
    config : mapping, dataclass or pydantic model; or a list of them, or a function of the env's index
        The config. It is validated before anything starts, and defaults are filled in. A list has one for each env.
    seed : int, optional
        The seed of the first reset: env *i* gets ``seed + i``. Drawn if None; see `initial_seed`.
    grants : list of str, or path
        Directories, sockets, ports and more that every env gets, as for ``rollcage run --grant`` (``"dir=./levels:/levels"``);
        or the path of a grants file. Nothing by default.
    limits : Limits or mapping, optional
        Timeouts in seconds, memory in bytes, restarts.
    autoreset_mode : AutoresetMode or str
        When an ended env is reset: ``next-step`` (Gymnasium's default), ``same-step`` or ``disabled``.
    max_episode_steps : int, optional
        A time limit in steps in place of the env's own; -1 for none, so that only the env ends its episodes.
    on_fault : {"restart", "raise", "mask"}
        The policy for faults. ``restart``: the episode is truncated and the env is started anew. ``raise``: the call raises a
        `FaultError` after every other env has answered (`last` returns those answers). ``mask``: the env is not stepped until
        it is reset.
    render_mode : str, optional
        ``rgb_array`` or ``ansi``, where the env has it. With ``_list`` behind it every reset and step keeps a picture, and
        `render` returns the pictures since the last call, as Gymnasium's `RenderCollection`.
    episode_statistics : bool
        Put ``episode`` (``r`` return, ``l`` length, ``t`` seconds) into the infos of steps that end an episode. Off by default,
        since `gymnasium.wrappers.vector.RecordEpisodeStatistics` refuses a key that is already there.
    clip_actions : bool
        Clip the numbers of actions to the bounds of their Box before the envs see them, as Gymnasium's `ClipAction` does.
        Otherwise the env decides (`actions_out_of_bounds`). ``pass``: the env gets the numbers unchanged. ``refuse``: they are
        a `UsageError`, except that numbers outside by rounding are set to the bound. NaN and infinities are always refused.
    copy : bool
        Return a new array of observations with each call. Otherwise, if the observations are a Box, each call returns the same
        array, a read-only view of the host's memory that the next call overwrites: see Notes.
    require_sandbox : bool or {"seccomp", "full", "strict"}
        The level of the sandbox without which nothing is started; ``True`` is ``strict``. ``seccomp``: the filter of system
        calls. ``full``: every attempt of SECURITY.md's table is stopped, by whichever layer. ``strict``: every layer but the
        namespaces. Without it a layer that is not active is a warning.
    backend : {"native", "pulley"}
        Whether guest code is compiled or interpreted.
    recycle_after : int, optional
        Start an env anew, with its services, after so many episodes.
    envs_per_worker : int or "auto"
        Envs that share a worker process, each in a wasm store of its own; ``auto`` makes a worker a core. Many cheap envs step
        several times faster so. They are apart by wasm alone, and a fault that ends the process is a fault of all its envs
        (kind ``sibling``). Sockets, ports, services, the real clock, `branch` and ``fork-after-create`` need an env to a
        worker, which is the default.
    policy : path, model or Module, optional
        A policy that can act in the envs' workers (`rollout`): the path of a policy component (``.wasm``) or of a network
        (``.onnx``); or a model of Stable-Baselines3's or a `torch.nn.Module`, as `export_policy` takes them. It is as untrusted
        as an env, and is given nothing of the outside.
    policy_config : mapping, optional
        The config of the policy; ``{"deterministic": False}`` makes a network's policy sample.
    policy_worker : {"env", "own"}
        The process of the policy: the env's worker, where the two are apart by wasm alone, or a worker of its own, behind all
        layers of the sandbox. That takes a turn of both processes for each step. No result depends on it.
    record : path, optional
        A folder, empty or not there yet, into which everything that happens is recorded: `rollcage replay` runs it again and
        compares it (`docs/rollout.md`). `finish_recording` and `close` close the recording. A relative path begins at the
        working directory in which the envs were made.
    embed_plugin : bool
        Put the plugin into the recording, so that the folder is all that another person needs.
    start : {"fork", "fork-after-create", "fork-after-import", "spawn"}, optional
        How envs are started. ``fork``: as copies of a template process, a locked worker that has instantiated nothing; the
        default where every layer of the sandbox is active. ``fork-after-create``: as copies of one env that was created, whose
        large tables are then in memory once (one config for all). ``fork-after-import``: as copies of an instance that has
        imported its modules; the default for plugins that ask for it. ``spawn``: by an exec each.
    branching : bool
        Whether `branch` and `write_back` work. Without it, workers lack the system calls that copy a process.
    debug : bool
        Pass what envs print to stderr at once.

    Raises
    ------
    UsageError
        The plugin cannot be run, or an argument is wrong: nothing has started.
    FaultError
        An env cannot be started. No process is left.

    Notes
    -----
    The view of ``copy=False`` lives as long as it is used, also after `close`. It is read-only, unlike that of Gymnasium's
    vector envs, since the host also shows it for an env that does not answer. `torch.from_dlpack` takes it, and
    `torch.from_numpy` does so with a warning; do not write to the tensor. The bytes of a Box are an env's unchecked claim,
    copied or not: they can hold any number, NaN included, whatever ``low`` and ``high`` are. Values of all other spaces are
    checked.

    """

    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]
    #: True until the envs are made: `close` may be called after a failed `__init__`.
    closed = True

    @answered(GYMNASIUM)
    def __init__(
        self,
        plugin: PluginLike,
        num_envs: int = 1,
        *,
        config: Configs = None,
        seed: int | None = None,
        grants: GrantsLike = None,
        limits: Limits | Mapping[str, Any] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        on_fault: str = "restart",
        render_mode: str | None = None,
        episode_statistics: bool = False,
        clip_actions: bool = False,
        copy: bool = True,
        require_sandbox: bool | str = False,
        backend: str = "native",
        recycle_after: int | None = None,
        envs_per_worker: int | str = 1,
        policy: PolicyLike | None = None,
        policy_config: Mapping[str, Any] | None = None,
        policy_worker: str = "env",
        record: str | os.PathLike[str] | None = None,
        embed_plugin: bool = False,
        start: str | None = None,
        branching: bool = True,
        debug: bool = False,
    ) -> None:
        self.plugin, self.num_envs = getattr(plugin, "__name__", str(plugin)), num_envs
        mode = arguments.autoreset(autoreset_mode)
        if render_mode is not None:
            arguments.word("render_mode", render_mode)
        self.initial_seed = arguments.seed(seed)
        # A model of a trainer's is written to a file, which is needed until the host has read it.
        with contextlib.ExitStack() as files:
            file = None if policy is None else files.enter_context(policy_file(policy))
            given = arguments.native(
                plugin,
                num_envs,
                config=config,
                seed=self.initial_seed,
                grants=grants,
                limits=arguments.limits(limits),
                autoreset_mode=mode,
                max_episode_steps=max_episode_steps,
                on_fault=on_fault,
                backend=backend,
                require_sandbox=require_sandbox,
                debug=debug,
                recycle_after=recycle_after,
                envs_per_worker=envs_per_worker,
                policy=file,
                policy_config=policy_config,
                policy_worker=policy_worker,
                record=record,
                embed_plugin=embed_plugin,
                start=start,
                branching=branching,
                most=self._most_envs,
            )
            self._native = self._made(given, copy)
        self.closed = False
        known = self._native.known()
        self.num_envs = given["num_envs"]
        self.plugin = known["name"]
        self.max_episode_steps: int | None = known["max_episode_steps"]
        self.own_max_episode_steps: int | None = known["own_max_episode_steps"]
        self.reward_threshold: float | None = known["reward_threshold"]
        self.sha256: str = known["sha256"]
        self._observations = Values(known["observation_space"], self.num_envs)
        self._clip_actions = bool(clip_actions)
        self._actions = Values(known["action_space"], self.num_envs, clip=self._clip_actions)
        self.single_observation_space = self._observations.space
        self.single_action_space = self._actions.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {
            "render_modes": known["render_modes"],
            "render_fps": known["render_fps"] or 30,
            "autoreset_mode": mode,
        }
        if render_mode is not None and render_mode.removesuffix("_list") not in known["render_modes"]:
            self.close()
            raise arguments.no_render_mode(self.plugin, render_mode, known["render_modes"])
        self.render_mode = render_mode
        self._pictures: list[list[Any]] = [[] for _ in range(self.num_envs)]
        self._seeds = list(range(self.initial_seed, self.initial_seed + self.num_envs))
        self.autoreset_mode = mode
        self.action_masked: bool = known["action_masked"]
        #: Whether actions outside the bounds of their Box are refused or passed to the env: ``refuse`` or ``pass``.
        self.actions_out_of_bounds: str = known["actions_out_of_bounds"]
        self._infos = Infos(self._native, known)
        self._statistics = episode_statistics
        self._begun = np.full(self.num_envs, time.perf_counter())
        # Only a Box can be viewed; values of other spaces are put together, and so copied.
        self._view = None
        if not copy and self._observations.is_box:
            self._view = self._observations.read(self._native.observations(), contiguous=False)
        elif not copy:
            copies = "copy=False: only observations of a Box can be views; these are copied"
            warnings.warn(copies, stacklevel=2)
        for warning in (*known["warnings"], *self._infos.warnings()):
            warnings.warn(warning, stacklevel=2)
        for wall, why in known["missing_walls"]:
            warnings.warn(f"the sandbox is incomplete: its layer `{wall}` is not active: {why}", stacklevel=2)

    #: How many envs there may be.
    _most_envs = 4096

    def _made(self, given: dict[str, Any], copy: bool) -> native.Envs:
        """Makes the envs of these arguments, and starts them."""
        return native.Envs(given, copy)

    # ── Reset and step ──────────────────────────────────────────────────────────────────────────────────────────────

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Options | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all envs, or those of ``options["reset_mask"]``.

        Parameters
        ----------
        seed : int, list of int or None, optional
            An int is env 0's seed, and env *i* gets ``seed + i``; a list has one for each, where None goes on with the env's
            generators. The first reset without a seed uses the seed that the envs were made with.
        options : mapping, optional
            The env's reset options. ``reset_mask`` in it, an array of bool of shape (num_envs,), is taken out: only those envs
            are reset, and the rows of the others stay as they are.

        Returns
        -------
        observations : batched observations
            As `observation_space`; for a Box of shape *s* an array of shape (num_envs, *s*).
        infos : dict
            Each key an array of shape (num_envs, …), and ``_key`` says whose rows count.

        Raises
        ------
        UsageError
            Seeds, mask or options are wrong, or the env refuses the options.
        FaultError
            An env cannot be brought up within its budget of restarts.

        """
        (observations, _, _, _, events), mask = self._begin(seed, options)
        self._collect(None if mask is None else np.flatnonzero(mask), anew=True)
        return self._observe(observations), self._infos.vector(self.num_envs, events, mask)

    def _begin(self, seed: int | Sequence[int | None] | None, options: Options | None) -> tuple[Row, Flags | None]:
        """Resets, and returns the mask of the envs that were reset: None for all."""
        options = dict(options) if options else {}
        mask = self._reset_mask(options.pop("reset_mask", None))
        text = arguments.to_json(options) if options else None
        seeds = arguments.seeds(seed, self.num_envs)
        row = self._native.reset(None if mask is None else mask.tolist(), seeds, text)
        self._seeded(seeds, mask)
        if self._statistics:
            self._begun[slice(None) if mask is None else mask] = time.perf_counter()
        return row, mask

    def _seeded(self, seeds: Sequence[int | None] | None, mask: Flags | None = None) -> None:
        """Notes the seeds of a reset."""
        for env, seed in enumerate(seeds or ()):
            if seed is not None and (mask is None or mask[env]):
                self._seeds[env] = seed

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed that each env was last reset with, or will be for the first time. Its generators are in its worker."""
        return tuple(self._seeds)

    def step(self, actions: Any) -> Stepped:
        """Steps every env.

        Parameters
        ----------
        actions : batched actions
            As `action_space`: for a Discrete an integer array of shape (num_envs,), for a Box of shape *s* an array of shape
            (num_envs, *s*).

        Returns
        -------
        observations : batched observations
        rewards : ndarray of float64, shape (num_envs,)
        terminations, truncations : ndarray of bool, shape (num_envs,)
            A fault truncates its episode.
        infos : dict
            ``fault`` and ``fault_message`` where an env met a fault; ``masked`` where an env is not stepped after a fault;
            ``action_mask`` (int8, shape (num_envs, choices)) if the env has masks; in same-step mode ``final_obs`` and
            ``final_info``; ``episode`` if asked for; and the env's own.

        Raises
        ------
        UsageError
            An action is not in the space (no env was stepped), or the env refuses it; with autoreset disabled, an episode is
            over.
        FaultError
            An env's fault, with ``on_fault="raise"`` or when its budget of restarts is spent; `last` has the other answers.

        """
        stepped = self._stepped(self._native.step(self._actions.write(actions)))
        self._collect()
        return stepped

    def step_async(self, actions: Any) -> None:
        """Begins a step of every env, without waiting. See `step`.

        Raises
        ------
        AlreadyPendingCallError
            A step was begun and not waited for, or an env is in flight. (`step` refuses that too. `reset` of all envs does not:
            it gives up the answers.)

        """
        self._native.step_async(self._actions.write(actions))

    def step_wait(self) -> Stepped:
        """Waits for the step that `step_async` began. After an interruption it may be called again. See `step`.

        Raises
        ------
        NoAsyncCallError
            No step was begun, or its answers were given.

        """
        stepped = self._stepped(self._native.step_wait())
        self._collect()
        return stepped

    def last(self) -> Stepped:
        """The result of the last call: after an error of one env, the answers of the others."""
        return self._stepped(self._native.last())

    def send(self, actions: Any, env_ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> None:
        """Begins a step of some envs, without waiting: `recv` returns the answers.

        Parameters
        ----------
        actions : batched actions
            One for each entry of `env_ids`, in order.
        env_ids : sequence of int
            The envs; none twice, and none whose answer has not been received yet.

        """
        ids = [arguments.count("env_ids", env, 0, self.num_envs - 1) for env in env_ids]
        self._native.send(self._actions.write(actions, len(ids)), ids)

    def recv(self, min_ready: int = 1, timeout: float | None = None) -> Stepped:
        """Waits until some of the envs that were sent actions have answered, and returns those that have.

        Parameters
        ----------
        min_ready : int
            How many to wait for; if fewer are in flight, all of them.
        timeout : float, optional
            Seconds. An env that has not answered by then stays in flight: its answer belongs to its action, and a later `recv`
            returns it.

        Returns
        -------
        observations, rewards, terminations, truncations, infos
            As of `step`, with a row for each env that has answered. ``infos["env_id"]`` has these envs (int64, ascending).

        """
        ids, row = self._native.recv(arguments.count("min_ready", min_ready), timeout)
        env_ids = np.array(ids, np.int64)
        stepped = self._stepped(row, env_ids)
        self._collect(env_ids)
        stepped[4]["env_id"], stepped[4]["_env_id"] = env_ids, np.ones(len(env_ids), np.bool_)
        return stepped

    def _stepped(self, row: Row, ids: npt.NDArray[np.int64] | None = None) -> Stepped:
        observations, rewards, terminations, truncations, events = row
        infos = self._infos.vector(len(rewards), events, None)
        if events & native.FINAL:
            self._final(infos, len(rewards), events)
        if self._statistics:
            self._episodes(infos, len(rewards), events, ids)
        return self._observe(observations), rewards, terminations, truncations, infos

    def _observe(self, data: Bytes | None) -> Any:
        if data is None:
            if self._view is not None:
                return self._view
            data = self._native.observations().copy()
        return self._observations.read(data)

    def _final(self, infos: dict[str, Any], rows: int, events: int) -> None:
        finals = self._native.finals()
        which, data, _, _ = finals
        final = self._infos.final(rows, finals, events)
        batch = self._observations.read(data)
        column = np.full(rows, None, dtype=object)
        for row in np.flatnonzero(which).tolist():
            column[row] = self._observations.node.item(batch, row)
        infos["final_obs"], infos["_final_obs"] = column, which.copy()
        infos["final_info"], infos["_final_info"] = final, which.copy()

    def _episodes(self, infos: dict[str, Any], rows: int, events: int, ids: npt.NDArray[np.int64] | None) -> None:
        now = time.perf_counter()
        begun = self._begun if ids is None else self._begun[ids]
        if events & native.EPISODE:
            ended = self._native.episodes()
            told = [(row, {"r": r, "l": length, "t": round(float(now - begun[row]), 6)}) for row, r, length in ended]
            add(infos, [(row, {"episode": episode}) for row, episode in told], rows)
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                begun[[row for row, _, _ in ended]] = now
        if events & native.RESET:
            begun[self._native.was_reset()] = now
        if ids is not None:
            self._begun[ids] = begun

    def _reset_mask(self, mask: Any) -> Flags | None:
        if mask is None:
            return None
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"options['reset_mask']: an array of bool is expected, got {kind}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise UsageError(
                f"options['reset_mask']: shape ({self.num_envs},) and at least one True are expected, got {mask!r}"
            )
        return mask

    # ── What else an env can do ─────────────────────────────────────────────────────────────────────────────────────

    def render(self) -> tuple[Any, ...]:
        """A picture of each env, in `render_mode`.

        Returns
        -------
        tuple of ndarray of uint8, shape (height, width, 3); or of str
            One for each env; rows from the top, R G B. With ``rgb_array_list`` a list of pictures for each env.

        """
        if self.render_mode is None:
            raise UsageError("render: no render_mode was given", ["pass render_mode='rgb_array' to make_vec"])
        if self.render_mode.endswith("_list"):
            return tuple(self._take_pictures(env) for env in range(self.num_envs))
        return tuple(self.render_env(env) for env in range(self.num_envs))

    def _collect(self, envs: npt.NDArray[Any] | None = None, *, anew: bool = False) -> None:
        """Keeps a picture of each of these envs, where the render mode asks for a list of them."""
        if self.render_mode is None or not self.render_mode.endswith("_list"):
            return
        for env in range(self.num_envs) if envs is None else envs.tolist():
            if anew:
                self._pictures[env] = []
            # An env that is masked after a fault has no picture.
            with contextlib.suppress(RollcageError):
                self._pictures[env].append(self.render_env(env))

    def _take_pictures(self, env: int) -> list[Any]:
        pictures, self._pictures[env] = self._pictures[env], []
        return pictures

    def render_env(self, env: int) -> Any:
        """A picture of one env, in `render_mode`, or as pixels without one."""
        frame = self._native.render(env, (self.render_mode or "rgb_array").removesuffix("_list"))
        if isinstance(frame, str):
            return frame
        height, width, pixels = frame
        return pixels.reshape(height, width, 3)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of each env; the name of an attribute gives its value.

        Parameters
        ----------
        name : str
            A method or attribute of the env's author, or one of `render`, `action_masks`, `render_mode`, `metadata`,
            `observation_space`, `action_space` and `spec`, which the host knows.
        *args, **kwargs
            Values that JSON has. The env gets an object: the keyword arguments, and the list ``args`` of the positional ones, if
            there are any.

        Returns
        -------
        tuple
            The answer of each env.

        Raises
        ------
        UnsupportedError
            There is no such method or attribute (an `AttributeError` too).

        """
        return tuple(self.call_env(env, name, *args, **kwargs) for env in range(self.num_envs))

    def call_env(self, env: int, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """`call` of one env."""
        known = self._known_to_host(env, name)
        if known is not None:
            return known[0]
        given = {"args": list(args), **kwargs} if args else kwargs
        try:
            return json.loads(self._native.call(env, name, arguments.to_json(given)))
        except UnsupportedError as no_method:
            if given:
                raise
            try:
                return json.loads(self._native.get_attribute(env, name))
            except UnsupportedError:
                raise no_method from None

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each env.

        Raises
        ------
        UnsupportedError
            There is no such attribute (an `AttributeError` too).

        """
        return tuple(self.get_env_attr(env, name) for env in range(self.num_envs))

    def get_env_attr(self, env: int, name: str) -> Any:
        """`get_attr` of one env."""
        known = self._known_to_host(env, name)
        return known[0] if known is not None else json.loads(self._native.get_attribute(env, name))

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of each env: a list or tuple has one value for each, anything else is for all.

        Raises
        ------
        UnsupportedError
            There is no such attribute, or it does not take the value.

        """
        for env, value in enumerate(self._one_for_each(values)):
            self.set_env_attr(env, name, value)

    def _one_for_each(self, values: Any) -> Sequence[Any]:
        """A value of `set_attr` for each env."""
        if not isinstance(values, (list, tuple)):
            return [values] * self.num_envs
        if len(values) != self.num_envs:
            raise UsageError(f"set_attr: {len(values)} values for {self.num_envs} envs")
        return values

    def set_env_attr(self, env: int, name: str, value: Any) -> None:
        """`set_attr` of one env."""
        self._native.set_attribute(env, name, arguments.to_json(value))

    def set_reset_options(self, env: int, options: Options | None) -> None:
        """Sets options for an env's next reset, also an automatic one. Used once; options of an explicit reset win."""
        text = None if options is None else arguments.to_json(dict(options))
        self._native.set_reset_options(arguments.count("env", env, 0, self.num_envs - 1), text)

    def reseed(self, env: int, seed: int) -> None:
        """Gives an env new random streams for what is still to come; its state stays."""
        env = arguments.count("env", env, 0, self.num_envs - 1)
        self._native.reseed(env, arguments.count("seed", seed, 0, arguments.SEED_MAX))

    def action_masks(self) -> npt.NDArray[np.int8]:
        """The action mask of each env: int8, 1 where open, shape (num_envs, choices). An env in flight has its last one."""
        if not self.action_masked:
            raise UnsupportedError(f"{self.plugin} has no action masks")
        return self._infos.masks()

    def _known_to_host(self, env: int, name: str) -> tuple[Any] | None:
        if name == "render":
            listed = self.render_mode is not None and self.render_mode.endswith("_list")
            return (self._take_pictures(env) if listed else self.render_env(env),)
        if name == "np_random_seed":
            return (self._seeds[env],)
        if name == "action_masks" and self.action_masked:
            return (self.action_masks()[env],)
        if name in ("render_mode", "metadata", "spec"):
            return (getattr(self, name),)
        if name in ("observation_space", "action_space"):
            return (getattr(self, f"single_{name}"),)
        return None

    # ── Copies ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def branch(self, env: int, count: int, *, reseed: int | Sequence[int] | None = None) -> VectorEnv:
        """Live copies of one env at its present step, each in a process of its own: envs of a `VectorEnv` of their own.

        Copies share memory until one of them writes to it, and nothing else: none sees what another does from now on. Given the
        same actions, each goes on to the bit as the env would. Copies can be branched again. The env itself does not change.

        Parameters
        ----------
        env : int
        count : int
            How many copies.
        reseed : int or sequence of int, optional
            New random streams from now on: an int *s* gives copy *k* the seed ``s + k``, a sequence has one for each. Without
            it, every copy draws what the env would draw.

        Returns
        -------
        VectorEnv
            With ``num_envs=count``; step it without a reset. Close it, or let it be collected.

        Raises
        ------
        UsageError
            There is no such env; it is in flight, masked, or has sockets, ports or services; or ``branching=False``.
        FaultError
            The env is dead.

        """
        many = arguments.count("count", count, 1, 4096)
        seeds = None if reseed is None else arguments.seeds(reseed, many)
        if seeds is not None and None in seeds:
            raise UsageError("reseed: a seed for each copy is expected")
        env = arguments.count("env", env, 0, self.num_envs - 1)
        native_envs = self._native.branch(env, many, cast("Any", seeds))
        return self._beside(native_envs, env, many)

    def _beside(self, native_envs: native.Envs, env: int, many: int) -> VectorEnv:
        """A VectorEnv of other envs with the same plugin and spaces."""
        other = VectorEnv.__new__(VectorEnv)
        other.__dict__.update(self.__dict__)
        known = native_envs.known()
        other._native, other.num_envs, other.closed = native_envs, many, False
        other._observations = Values(known["observation_space"], many)
        other._actions = Values(known["action_space"], many, clip=self._clip_actions)
        other.observation_space = batch_space(other.single_observation_space, many)
        other.action_space = batch_space(other.single_action_space, many)
        other._infos = Infos(native_envs, known)
        other._begun = np.full(many, time.perf_counter())
        other._pictures = [[] for _ in range(many)]
        other._seeds = [self._seeds[env]] * many
        if self._view is not None:
            other._view = other._observations.read(native_envs.observations(), contiguous=False)
        return other

    def write_back(self, env: int, to: int | Sequence[int], *, source: VectorEnv | None = None) -> Any:
        """Makes other envs copies of one, in the middle of its episode: of an env of `source`, a branch of these, if given.

        Returns
        -------
        observations
            Of all envs. Envs in `to` have the observation of the copied env.

        Raises
        ------
        UsageError
            As of `branch`; or the run is recorded, and the rows of such an env would have no beginning.

        """
        ids = [to] if isinstance(to, int) else list(to)
        ids = [arguments.count("to", index, 0, self.num_envs - 1) for index in ids]
        from_native = None if source is None else source._native
        index = arguments.count("env", env, 0, (source or self).num_envs - 1)
        row = self._native.write_back(from_native, index, ids)
        return self._observe(row[0])

    def snapshot(self, env: int) -> bytes:
        """An env as data: the calls that its instance was given, and the digest of its answers.

        `restore` brings the env back, here or on any machine; so does ``rollcage run --from FILE``. A snapshot is JSON and has a
        few bytes a step.

        Raises
        ------
        UsageError
            The env has sockets, a real clock or real randomness; it is dead after a fault; or its calls have more than
            `Limits.snapshot_bytes`.

        """
        return self._native.snapshot(arguments.count("env", env, 0, self.num_envs - 1))

    def restore(self, env: int, snapshot: bytes) -> Any:
        """Brings an env to the state of a snapshot: it is given the same calls again, and its digest is compared.

        Return and length of the episode that goes on include its steps before the snapshot.

        Returns
        -------
        observations
            Of all envs; `env` has that of the snapshot.

        Raises
        ------
        UsageError
            The snapshot was changed, is of another plugin, limits or time limit, or gives another digest; or the run is
            recorded. No env has changed then.

        """
        row = self._native.restore(arguments.count("env", env, 0, self.num_envs - 1), bytes(snapshot))
        return self._observe(row[0])

    def step_many(self, env: int, actions: Any) -> tuple[Any, Reals, bool, bool]:
        """Takes several steps of one env in one call of its worker, without a policy between them. Ends with the episode.

        Parameters
        ----------
        env : int
        actions : batched actions
            One for each step.

        Returns
        -------
        observations : batched observations
            After each step that was taken.
        rewards : ndarray of float64, shape (steps,)
        terminated, truncated : bool
            Whether the last step ended the episode; a fault truncates it.

        """
        index, many = arguments.count("env", env, 0, self.num_envs - 1), len(actions)
        _, data, rewards, terminated, truncated = self._native.step_many(index, self._actions.write(actions, many))
        return self._observations.read(data), rewards, terminated, truncated

    # ── Properties ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def started_by(self) -> str | None:
        """How the envs were started: ``fork``, ``fork-after-create``, ``fork-after-import`` or ``spawn``."""
        return self._native.started_by()

    def rollout(
        self,
        policy: PolicyLike | npt.ArrayLike | None = None,
        steps: int | None = None,
        *,
        episodes: int | None = None,
        returns_only: bool = False,
        policy_config: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Lets the envs play by themselves, thousands of steps in a turn of their workers.

        Episodes end and begin again on the way. Digests and recordings are those of the same steps taken one by one. Envs that
        were not reset yet, or whose episode is over, are reset first.

        Parameters
        ----------
        policy : "random", array, path, model or Module, optional
            Who acts. None: the policy that the envs were made with. ``"random"``: samples of the action space. An array of
            actions of shape (steps, num_envs, …), for a Box or Discrete: they are taken in order, and end the rollout. A path, a
            model or a Module: as `VectorEnv`'s argument ``policy``; it is put beside the envs, whose workers are started anew
            for it, in the state that they have.
        steps : int, optional
            Steps of each env.
        episodes : int, optional
            Episodes of all envs together, in even shares: for *n* envs, env *i* plays one more than the others if *i* is less
            than the remainder. Episodes that a fault ended do not count. Without `steps` and `episodes`, 1,000 steps.
        returns_only : bool
            Keep returns and lengths of episodes, and no columns.
        policy_config : mapping, optional
            The config of a policy that is named here.

        Returns
        -------
        Rollout
            What was played: columns of shape (steps, num_envs, …).

        Raises
        ------
        UsageError
            There is no policy, it cannot be put beside these envs, or actions are not in the space.
        FaultError
            An env's fault under ``on_fault="raise"``, or of kind ``policy``: the policy cannot go on, and the envs can.
        KeyboardInterrupt
            Each env ends its turn after the step under way.

        """
        if steps is not None and episodes is not None:
            raise UsageError("rollout: steps and episodes; give one of them")
        given: list[Bytes] = []
        acting = "policy"
        if isinstance(policy, str) and policy == "random":
            acting = "random"
        elif isinstance(policy, (np.ndarray, list, tuple)):
            acting, given = "given", self._given(policy)
            if steps is not None or episodes is not None:
                raise UsageError("rollout: given actions end it; leave out steps and episodes")
        elif policy is not None:
            with policy_file(cast("PolicyLike", policy)) as file:
                self._native.set_policy(file, arguments.policy_config_text(policy_config))
        elif policy_config is not None:
            raise UsageError("rollout: policy_config without a policy; `make_vec` takes that of its own")
        if episodes is not None:
            amount, many = "episodes", arguments.count("episodes", episodes, 1, 2**63 - 1)
        else:
            amount, many = "steps", arguments.count("steps", 1000 if steps is None else steps, 0, 2**63 - 1)
        names, envs = self._native.rollout(acting, given, amount, many, bool(returns_only))
        return played(names, envs, self._observations, self._actions, kept=not returns_only)

    def _given(self, actions: Any) -> list[Bytes]:
        """Each env's actions, as bytes, of an array of shape (steps, num_envs, …)."""
        array = np.asarray(actions)
        if array.ndim < 2 or array.shape[1] != self.num_envs:
            raise UsageError(f"rollout: actions of shape {array.shape}; (steps, {self.num_envs}, …) is expected")
        columns = (self._actions.write(np.ascontiguousarray(array[:, env]), len(array)) for env in range(self.num_envs))
        return [np.ascontiguousarray(column).reshape(-1) for column in columns]

    @property
    def envs_per_worker(self) -> int:
        """The most envs that one worker has: 1, unless they share workers."""
        return self._native.envs_per_worker()

    @property
    def configs(self) -> list[dict[str, Any]]:
        """The config of each env, defaults filled in."""
        return [cast("dict[str, Any]", json.loads(text)) for text in self._native.configs()]

    @property
    def pids(self) -> list[int | None]:
        """The process id of each env's worker; None where none runs."""
        return self._native.pids()

    @property
    def instances(self) -> list[int]:
        """How often each env was started anew."""
        return self._native.instances()

    @property
    def digest(self) -> str:
        """The digest of the run so far (`docs/digest.md`), 64 hex digits."""
        return self._native.digests()[0]

    @property
    def digests(self) -> list[str]:
        """The digest of each env so far."""
        return self._native.digests()[1]

    @property
    def faults(self) -> list[Fault]:
        """The faults so far, the first thousand."""
        return self._native.fault_log()[1]

    @property
    def oddities(self) -> list[dict[str, Any]]:
        """Odd answers so far that are no faults, an entry for each kind that there was.

        The keys are ``kind`` (``nan_reward``, ``infinite_reward``, ``outside_space``: an observation with an element outside the
        bounds of its Box, or NaN), ``times``, and of the first one ``env``, ``episode``, ``step`` (0 is the reset) and ``example``.
        """
        return self._native.oddities()

    @property
    def left_out_infos(self) -> dict[str, int]:
        """How often an env's info had a reserved key, by key. Its value was left out.

        The keys are ``fault``, ``fault_message``, ``masked``, ``episode``, ``terminal_observation``, ``TimeLimit.truncated``,
        ``final_obs``, ``final_observation``, ``final_info``, ``env_id``, ``action_mask`` of an env with masks, and each of them
        with an underscore before it; and ``is_success`` where it is neither a boolean nor a number.
        """
        return dict(self._infos.left_out)

    def log(self, env: int) -> str:
        """The newest 64 KiB that an env printed: a stranger's words."""
        return self._native.log(arguments.count("env", env, 0, self.num_envs - 1))

    # ── The end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def finish_recording(self) -> str | None:
        """Closes the recording, if there is one, and returns its receipt (`docs/receipts.md`), 64 hex digits.

        Later calls are not recorded. `close` does the same, and warns where it fails.

        Raises
        ------
        HostError
            The recording could not be written to the end. The part written before stays readable, and is marked as a part.

        """
        return self._native.finish_recording()

    def close(self, **kwargs: Any) -> None:
        """Ends every env and its worker. May be called again. From another thread it ends the call that is under way.

        Warns (`RuntimeWarning`) where a recording could not be finished.
        Ctrl-C cuts the goodbyes of the envs short (``Limits.close_timeout``), and is raised when they have ended.
        """
        if not self.closed:
            self.closed = True
            self._native.close()

    def close_extras(self, **kwargs: Any) -> None:
        """Does nothing: `close` does everything."""

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.plugin}, num_envs={self.num_envs})"

    def __reduce__(self) -> Any:
        raise arguments.not_copied(repr(self), "")


@answered(GYMNASIUM)
def make_vec(
    plugin: PluginLike,
    num_envs: int = 1,
    *,
    config: Configs = None,
    seed: int | None = None,
    grants: GrantsLike = None,
    limits: Limits | Mapping[str, Any] | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    on_fault: str = "restart",
    render_mode: str | None = None,
    episode_statistics: bool = False,
    clip_actions: bool = False,
    copy: bool = True,
    require_sandbox: bool | str = False,
    backend: str = "native",
    recycle_after: int | None = None,
    envs_per_worker: int | str = 1,
    policy: PolicyLike | None = None,
    policy_config: Mapping[str, Any] | None = None,
    policy_worker: str = "env",
    record: str | os.PathLike[str] | None = None,
    embed_plugin: bool = False,
    start: str | None = None,
    branching: bool = True,
    debug: bool = False,
) -> VectorEnv:
    """Makes envs of a plugin: Gymnasium's `VectorEnv`. The arguments are those of `VectorEnv`.

    Examples
    --------
    >>> import rollcage
    >>> envs = rollcage.make_vec("cartpole", num_envs=3, seed=7)
    >>> observations, infos = envs.reset()
    >>> observations.shape, observations.dtype
    ((3, 4), dtype('float32'))
    >>> observations, rewards, terminations, truncations, infos = envs.step([0, 1, 1])
    >>> rewards
    array([1., 1., 1.])
    >>> envs.close()

    An env in Python, by its class, by an id of Gymnasium's registry, or by its folder::

        envs = rollcage.make_vec(MyEnv, 8, config=lambda env: {"size": 5 + env})
        envs = rollcage.make_vec("CartPole-v1", 8)
        envs = rollcage.make_vec("./my_env", 8, config={"size": 9})

    """
    return VectorEnv(
        plugin,
        num_envs,
        config=config,
        seed=seed,
        grants=grants,
        limits=limits,
        autoreset_mode=autoreset_mode,
        max_episode_steps=max_episode_steps,
        on_fault=on_fault,
        render_mode=render_mode,
        episode_statistics=episode_statistics,
        clip_actions=clip_actions,
        copy=copy,
        require_sandbox=require_sandbox,
        backend=backend,
        recycle_after=recycle_after,
        envs_per_worker=envs_per_worker,
        policy=policy,
        policy_config=policy_config,
        policy_worker=policy_worker,
        record=record,
        embed_plugin=embed_plugin,
        start=start,
        branching=branching,
        debug=debug,
    )
