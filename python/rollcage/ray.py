"""Envs on the nodes of a Ray cluster, as one Gymnasium `VectorEnv`: `make_vec`.

::

    import rollcage.ray

    envs = rollcage.ray.make_vec("cartpole", num_envs=1024, seed=7)
    observations, infos = envs.reset()

Each node has one actor, the host of its share of the envs. Ray (the extra ``rollcage[ray]``) starts the actors, carries the
plugin to them, and says when a node is gone. `docs/clusters.md` has more.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

try:
    import ray
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("rollcage.ray needs Ray: pip install 'rollcage[ray]'", name="ray") from error
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rollcage import _arguments as arguments
from rollcage import _rollcage as native
from rollcage import _sources as sources
from rollcage import vector
from rollcage._host import Host, Outcome, Plugin
from rollcage._names import GYMNASIUM, answered
from rollcage._nodes import Link, LostError, Nodes, shares_of
from rollcage._sources import PluginLike
from rollcage.errors import HostError, RollcageError, UnsupportedError, UsageError

__all__ = ["VectorEnv", "make_vec"]

#: What Ray's own types leave out.
_RAY: Any = ray
#: The most nodes of one run.
NODES_MAX = 4096


class VectorEnv(vector.VectorEnv):
    """Envs of one plugin on several nodes of a Ray cluster: `rollcage.VectorEnv` over one host on each node.

    It is one run. Seeds, env numbers in faults and errors, configs and digests are those of the whole, whatever node an env is on,
    and the same on one node and on many. A step is sent once to each node and gathered once. Ray is initialised (`ray.init`) if
    it was not.

    A node that dies is a fault of its envs, of the kind ``node_lost``, told within 30 s. As ``on_fault`` says, they are started
    anew on other nodes (``restart``), are masked until they are reset, which starts them anew, or the fault is raised. What an
    instance had done is gone with its node: the digest of its env is None then, and that of the run.

    Parameters
    ----------
    plugin, num_envs, **kwargs
        As of `rollcage.VectorEnv`; but for ``copy``, which is always true. Grants name files, programs and services of the nodes:
        they are checked on every node before anything starts. Relative paths begin in this process's working directory, if a
        node has that folder. ``record`` is a folder on each node, or one that they share: each node writes a folder in it.
    nodes : "auto", int, or sequence of int
        How many nodes, in even shares; or the share of each. ``auto``: all that are alive and have the CPUs.
    cpus_per_node : float
        CPUs that Ray is to reserve for the host of each node.
    strategy : {"STRICT_SPREAD", "SPREAD", "PACK", "STRICT_PACK"}
        How Ray places the hosts. ``STRICT_SPREAD``: each on a node of its own. With the others several can be on one.
    placement_timeout : float
        Seconds that Ray has for placing them.
    node_losses : int
        How many losses of a node are absorbed. With the next one, the fault is raised.

    Raises
    ------
    UsageError
        The plugin cannot be run, an argument is wrong, or Ray cannot place the hosts in time: the message says what is missing.
        Nothing has started.
    FaultError
        An env cannot be started. No process is left.

    """

    _most_envs = NODES_MAX * 4096

    def __init__(
        self,
        plugin: PluginLike,
        num_envs: int = 1,
        *,
        nodes: str | int | Sequence[int] = "auto",
        cpus_per_node: float = 1,
        strategy: str = "STRICT_SPREAD",
        placement_timeout: float = 60,
        node_losses: int = 3,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("copy", True) is not True:
            raise UsageError("copy=False: observations that come from other nodes are no views of this one's memory")
        envs = arguments.count("num_envs", num_envs, 1, self._most_envs)
        self._placing = _Placing(
            wanted=nodes,
            cpus=float(cpus_per_node),
            strategy=strategy,
            timeout=float(placement_timeout),
            losses=arguments.count("node_losses", node_losses, 0),
        )
        super().__init__(plugin, envs, **kwargs)

    def _made(self, given: dict[str, Any], copy: bool) -> native.Envs:
        # The interface of the extension's envs, and not their class, is what everything above is written for.
        return cast("native.Envs", _nodes_of(self._placing, given))

    @property
    def _nodes(self) -> Nodes:
        return cast("Nodes", self._native)

    # ── What an env can do, in one message to each node ─────────────────────────────────────────────────────────────

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As of `rollcage.VectorEnv`, with one message to each node."""
        if self._known_to_host(0, name) is not None:
            return super().call(name, *args, **kwargs)
        given = arguments.to_json({"args": list(args), **kwargs} if args else kwargs)
        outcomes = self._nodes.many("call", dict.fromkeys(range(self.num_envs), (name, given)))
        if not args and not kwargs:
            no_method = {env: (name,) for env, one in outcomes.items() if isinstance(one.error, UnsupportedError)}
            if no_method:
                attributes = self._nodes.many("get_attribute", no_method)
                # An env with neither is told of the method.
                outcomes |= {env: one for env, one in attributes.items() if one.error is None}
        return tuple(_parsed(outcomes[env]) for env in range(self.num_envs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """As of `rollcage.VectorEnv`, with one message to each node."""
        if self._known_to_host(0, name) is not None:
            return super().get_attr(name)
        outcomes = self._nodes.many("get_attribute", dict.fromkeys(range(self.num_envs), (name,)))
        return tuple(_parsed(outcomes[env]) for env in range(self.num_envs))

    def set_attr(self, name: str, values: Any) -> None:
        """As of `rollcage.VectorEnv`, with one message to each node."""
        texts = [arguments.to_json(value) for value in self._one_for_each(values)]
        outcomes = self._nodes.many("set_attribute", {env: (name, text) for env, text in enumerate(texts)})
        for env in range(self.num_envs):
            if (error := outcomes[env].error) is not None:
                raise error

    # ── Properties ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def digest(self) -> str | None:  # type: ignore[override]
        """The digest of the run so far, 64 hex digits; None where an env was on a node that is gone."""
        return self._nodes.digests()[0]

    @property
    def digests(self) -> list[str | None]:  # type: ignore[override]
        """The digest of each env so far; None where it was on a node that is gone."""
        return self._nodes.digests()[1]

    @property
    def portable(self) -> bool:
        """Whether every instance is whole: no node was lost."""
        return not bool(self._nodes.lost.any())

    @property
    def shares(self) -> list[int]:
        """How many envs each host has, in the order of the envs."""
        return [link.envs for link in self._nodes.links]

    @property
    def node_names(self) -> list[str | None]:
        """The node of each host, as Ray names it; None where it is gone."""
        return [None if link.host is None else link.name for link in self._nodes.links]

    def finish_recording(self) -> list[str | None]:  # type: ignore[override]
        """Closes the recordings of all nodes. Returns the receipt of each; None without a recording."""
        return self._nodes.finish_recording()

    def _beside(self, native_envs: native.Envs, env: int, many: int) -> vector.VectorEnv:
        other = super()._beside(native_envs, env, many)
        other.__class__ = type(self)
        return other


@answered(GYMNASIUM, passed_to=vector.VectorEnv.__init__)
def make_vec(
    plugin: PluginLike,
    num_envs: int = 1,
    *,
    nodes: str | int | Sequence[int] = "auto",
    cpus_per_node: float = 1,
    strategy: str = "STRICT_SPREAD",
    placement_timeout: float = 60,
    node_losses: int = 3,
    **kwargs: Any,
) -> VectorEnv:
    """Makes envs of a plugin on the nodes of a Ray cluster. The arguments are those of `VectorEnv`."""
    return VectorEnv(
        plugin,
        num_envs,
        nodes=nodes,
        cpus_per_node=cpus_per_node,
        strategy=strategy,
        placement_timeout=placement_timeout,
        node_losses=node_losses,
        **kwargs,
    )


def _parsed(outcome: Outcome) -> Any:
    if outcome.error is not None:
        raise outcome.error
    return json.loads(outcome.value)


# ── Ray ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Placing:
    """How hosts are placed."""

    wanted: str | int | Sequence[int]
    cpus: float
    strategy: str
    timeout: float
    losses: int

    def shares(self, envs: int) -> list[int]:
        """How many envs each node is to have."""
        if isinstance(self.wanted, str):
            if self.wanted != "auto":
                raise UsageError(f"nodes: {self.wanted!r}; 'auto', a number or the share of each node is possible")
            fit = [node for node in _alive() if node["Resources"].get("CPU", 0) >= self.cpus]
            if not fit:
                raise UsageError(f"nodes: no node has {self.cpus:g} CPUs", [_present()])
            return shares_of(envs, min(envs, len(fit)))
        if isinstance(self.wanted, Sequence):
            shares = [arguments.count("nodes", share, 1, 4096) for share in self.wanted]
            if sum(shares) != envs:
                raise UsageError(f"nodes: shares of {sum(shares)} envs; there are {envs}")
            return shares
        many = arguments.count("nodes", self.wanted, 1, NODES_MAX)
        if many > envs:
            raise UsageError(f"nodes: {many} nodes for {envs} envs; each has at least one")
        return shares_of(envs, many)


class _OnNode:
    """A host on a node."""

    def __init__(self) -> None:
        self._host = Host()

    def facts(self) -> dict[str, Any]:
        return {**self._host.facts(), "node": ray.get_runtime_context().get_node_id()}

    def assemble(self, given: dict[str, Any], plugin: Plugin, policy: Plugin | None, folder: str) -> Outcome:
        return self._host.assemble(given, plugin, policy, folder)

    def ask(self, part: int, call: str, *given: Any) -> Outcome:
        return self._host.ask(part, call, *given)

    @_RAY.method(concurrency_group="presence")  # type: ignore[untyped-decorator]
    def ping(self) -> Outcome:
        """Answers whatever the envs are doing."""
        return Outcome()


_Actor: Any = _RAY.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"presence": 1})(_OnNode)


class _Ray:
    """Ray as what carries calls to hosts."""

    def __init__(self, placing: _Placing, given: dict[str, Any], plugin: Any, policy: Any) -> None:
        self._placing, self._given, self._plugin, self._policy = placing, given, plugin, policy
        self._folder = os.getcwd()
        self._group: PlacementGroup | None = None
        #: Each actor with the node that it is on, as far as that is known; and the nodes on which one was lost.
        self._hosts: list[tuple[Any, str | None]] = []
        self._suspects: set[str | None] = set()

    # ── Calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, host: Any, part: int, call: str, *given: Any) -> Any:
        return host.ask.remote(part, call, *given)

    def ping(self, host: Any) -> Any:
        return host.ping.remote()

    def wait(self, tokens: Sequence[Any], many: int, timeout: float | None) -> list[Any]:
        if not tokens or many <= 0:
            return []
        ready: list[Any] = ray.wait(list(tokens), num_returns=many, timeout=timeout)[0]
        return ready

    def take(self, token: Any) -> Any:
        try:
            return ray.get(token)
        except RayTaskError as error:
            raise _cause(error) from None
        except RayError as error:
            raise LostError(_one_line(error)) from error

    # ── Hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, shares: list[int]) -> list[Link]:
        """Starts an actor for each share, without envs."""
        bundles = [{"CPU": self._placing.cpus} for _ in shares]
        self._group = placement_group(bundles, strategy=self._placing.strategy)
        if not self._group.wait(timeout_seconds=self._placing.timeout):
            raise self._not_placed(len(shares))
        first, links = 0, []
        for bundle, envs in enumerate(shares):
            strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
            actor = _Actor.options(num_cpus=self._placing.cpus, scheduling_strategy=strategy).remote()
            self._hosts.append((actor, None))
            links.append(Link(first, envs, actor, f"of share {bundle}"))
            first += envs
        return links

    def _not_placed(self, nodes: int) -> UsageError:
        spread = " of its own" if self._placing.strategy == "STRICT_SPREAD" else ""
        return UsageError(
            f"nodes: {nodes} hosts, each on a node{spread} with {self._placing.cpus:g} free CPUs, were not placed within "
            f"{self._placing.timeout:g} s",
            [
                _present(),
                "start further nodes (`ray start --address=…`), or ask for fewer (`nodes=`, `cpus_per_node=`); on one node, "
                "`strategy='PACK'`",
            ],
        )

    def prepare(self, links: list[Link]) -> None:
        """Checks grants and compiles on every node; starts nothing."""
        facts = [link.host.facts.remote() for link in links]
        for link, fact in zip(links, facts, strict=True):
            told = self._heeded(link, fact)
            self._hosts = [(one, told["node"] if one is link.host else node) for one, node in self._hosts]
            link.name = _name_of(told)
            if (other := _other_build(told)) is not None:
                raise UsageError(other, ["install the same version on every node"])
        outcomes = [self._assemble(link.host, link.first, link.envs, 0) for link in links]
        self._all(links, outcomes, before_start=True)

    def start(self, links: list[Link]) -> list[dict[str, Any]]:
        """Starts the envs of every node. Returns what each knows of them."""
        return self._all(links, [link.host.ask.remote(0, "start") for link in links], before_start=False)

    def _assemble(self, host: Any, first: int, envs: int, first_instance: int) -> Any:
        given = {**self._given, "num_envs": envs, "first_env": first, "first_instance": first_instance}
        configs = given["configs"]
        if len(configs) > 1:
            given["configs"] = configs[first : first + envs]
        if given["record"] is not None:
            again = f"-from-{first_instance}" if first_instance else ""
            given["record"] = os.path.join(given["record"], f"envs-{first:05}-{first + envs - 1:05}{again}")
        return host.assemble.remote(given, self._plugin, self._policy, self._folder)

    def _all(self, links: list[Link], tokens: list[Any], *, before_start: bool) -> list[Any]:
        """Waits for an outcome of every node. An error of one is told once all have answered."""
        values, error = [], None
        for link, token in zip(links, tokens, strict=True):
            outcome = self._heeded(link, token)
            if outcome.error is not None and error is None:
                error = _on_node(outcome.error, link.name) if before_start and len(links) > 1 else outcome.error
            values.append(outcome.value)
        if error is not None:
            raise error
        return values

    def _heeded(self, link: Link, token: Any) -> Any:
        try:
            return self.take(token)
        except LostError as lost:
            raise HostError(
                f"node {link.name} was lost while the envs were started: {lost}; every node needs rollcage, installed or by "
                "Ray's runtime_env"
            ) from lost

    def replace(self, link: Link, first_instance: int) -> tuple[Any, str]:
        taken = {node for _, node in self._hosts}
        alive = [node for node in _alive() if node["Resources"].get("CPU", 0) > 0]
        # Before others a node on which nothing was lost, and without a host of this run. Ray may not know yet that one is gone.
        alive.sort(key=lambda node: (node["NodeID"] in self._suspects, node["NodeID"] in taken))
        reasons = []
        for node in alive:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            actor = _Actor.options(num_cpus=0, scheduling_strategy=strategy).remote()
            try:
                told = ray.get(actor.facts.remote(), timeout=self._placing.timeout)
                if (other := _other_build(told)) is not None:
                    reasons.append(other)
                    self.give_up(actor)
                    continue
                outcome = ray.get(self._assemble(actor, link.first, link.envs, first_instance))
                if outcome.error is None:
                    outcome = ray.get(actor.ask.remote(0, "start"))
            except RayTaskError as error:
                raise _cause(error) from None
            except (RayError, GetTimeoutError) as error:
                reasons.append(_one_line(error))
                self._suspects.add(node["NodeID"])
                self.give_up(actor)
                continue
            if outcome.error is not None:
                reasons.append(str(outcome.error))
                self.give_up(actor)
                continue
            self._hosts.append((actor, node["NodeID"]))
            return actor, _name_of(told)
        raise LostError("; ".join(reasons) or "no node of the cluster is alive")

    def give_up(self, host: Any) -> None:
        self._suspects.update(node for one, node in self._hosts if one is host)
        self._hosts = [(one, node) for one, node in self._hosts if one is not host]
        with contextlib.suppress(RayError):
            ray.kill(host, no_restart=True)

    def close(self) -> None:
        for host, _ in list(self._hosts):
            self.give_up(host)
        group, self._group = self._group, None
        if group is not None and ray.is_initialized():
            with contextlib.suppress(RayError):
                remove_placement_group(group)


def _nodes_of(placing: _Placing, given: dict[str, Any]) -> Nodes:
    """Places hosts, prepares all of them, then starts their envs."""
    if not ray.is_initialized():
        ray.init()
    shares = placing.shares(given["num_envs"])
    plugin = _carried(native.opened(given.pop("plugin"), sources.options()))
    policy = given.pop("policy")
    if policy is not None:
        policy = ray.put(Plugin.of_file(policy))
    for machine in arguments.of_machine():
        del given[machine]
    engine = _Ray(placing, given, plugin, policy)
    try:
        links = engine.place(shares)
        engine.prepare(links)
        known = _common(links, engine.start(links))
    except BaseException:
        engine.close()
        raise
    mode, on_fault = given["autoreset_mode"], given["on_fault"]
    return Nodes(engine, links, known, mode=mode, on_fault=on_fault, losses=placing.losses)


#: Plugins in Ray's object store, by job and content: they are put there once.
_CARRIED: dict[tuple[str, str], Any] = {}


def _carried(plugin: native.Plugin) -> Any:
    key = (ray.get_runtime_context().get_job_id(), plugin.sha256)
    if key not in _CARRIED:
        _CARRIED[key] = ray.put(Plugin(plugin.name, plugin.in_python, plugin.to_bytes()))
    return _CARRIED[key]


def _common(links: list[Link], known: list[dict[str, Any]]) -> dict[str, Any]:
    """What all nodes know of the envs: warnings of any of them, and layers that are missing on any."""
    first = dict(known[0])
    for link, other in zip(links, known, strict=True):
        for what in ("observation_space", "action_space", "info_fields"):
            if other[what] != first[what]:
                raise UsageError(
                    f"envs 0 and {link.first} have different spaces",
                    ["one VectorEnv steps envs of one shape; run configs of other shapes apart"],
                )
    warnings: dict[str, None] = {}
    missing: dict[str, str] = {}
    for link, other in zip(links, known, strict=True):
        warnings.update(dict.fromkeys(other["warnings"]))
        for wall, why in other["missing_walls"]:
            # Told once, of the first node that lacks the layer.
            missing.setdefault(wall, f"{why} (on node {link.name})")
    return {**first, "warnings": list(warnings), "missing_walls": list(missing.items())}


def _name_of(told: dict[str, Any]) -> str:
    """A node's name for messages, from the facts of its host."""
    return f"{told['name']} ({told['node'][:8]})"


def _other_build(told: dict[str, Any]) -> str | None:
    """What is wrong with a node whose rollcage is not this one."""
    if told["build"] == native.BUILD:
        return None
    return (
        f"node {_name_of(told)} has another build of rollcage than this process: {told['build']}, here {native.BUILD}"
    )


def _cause(error: RayTaskError) -> BaseException:
    """The exception that our own code raised on a node: a mistake of ours, and no loss."""
    cause: BaseException = cast("Any", error).as_instanceof_cause()
    return cause


def _alive() -> list[dict[str, Any]]:
    return [node for node in _RAY.nodes() if node["Alive"]]


def _present() -> str:
    """The nodes that are there, for a message."""
    nodes = [f"{node['NodeManagerAddress']} ({node['Resources'].get('CPU', 0):g} CPUs)" for node in _alive()]
    free = _RAY.available_resources().get("CPU", 0)
    return f"Ray has {len(nodes)} nodes, {free:g} CPUs are free in all: {', '.join(nodes) or 'none'}"


def _on_node(error: RollcageError, name: str) -> RollcageError:
    """An error from before anything started, with the node in its message."""
    if isinstance(error, UsageError):
        message, *_ = str(error).split("\nhint: ")
        return type(error)(f"on node {name}: {message}", error.hints)
    return error


def _one_line(error: BaseException) -> str:
    """The first sentence of what Ray says, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return native.one_line(" ".join(lines[:2])[:300]) or type(error).__name__
