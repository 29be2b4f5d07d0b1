"""Writes a trained policy as one ``.onnx`` file, which the policy ``onnx`` plays inside the workers.

The writer is our own: the layers that policies are usually made of need torch alone. Other layers go through
`torch.onnx.export`, which needs the packages ``onnx`` and ``onnxscript``.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rollcage.errors import UnsupportedError, UsageError

__all__ = ["export_policy"]

#: The key of the metadata in the model, and the version of what stands there.
KEY = "rollcage"
VERSION = 1

#: The versions of the format that are written: the opset has every operator in use since 2021.
IR_VERSION = 8
OPSET = 17

#: What a module of the user's own may say that its outputs are, and how many outputs that takes at least.
DISTRIBUTIONS = {
    "categorical": 1,
    "multi_categorical": 1,
    "bernoulli": 1,
    "gaussian": 2,
    "squashed_gaussian": 2,
    "deterministic": 1,
    "q_values": 1,
}


def export_policy(
    model: Any,
    path: str | os.PathLike[str],
    *,
    deterministic: bool = True,
    example_observation: Any = None,
    distribution: str | None = None,
) -> Path:
    """Writes a policy as an ``.onnx`` file that ``rollcage`` plays, and returns its path.

    Preprocessing is part of the file: the statistics of `VecNormalize`, the scale of images, the order of their axes.

    Parameters
    ----------
    model : stable_baselines3 algorithm or torch.nn.Module
        PPO, A2C, DQN, SAC, TD3, DDPG or sb3_contrib's MaskablePPO; or a module that takes a batch of observations and returns
        what `distribution` says.
    path : str or path
        The file to write.
    deterministic : bool, optional
        Whether the most likely action is taken; otherwise actions are drawn. The config of the policy can say otherwise.
    example_observation : array or dict of arrays, optional
        One observation, without a batch's axis. A module needs it, unless its first layer is a `Linear`. For a
        Stable-Baselines3 model that was loaded without its env, it tells whether images have their channels last.
    distribution : str, optional
        What a module returns: "categorical", "multi_categorical", "bernoulli", "deterministic" or "q_values" (one tensor, then
        optionally the value); "gaussian" or "squashed_gaussian" (means, logarithms of the standard deviations, then optionally
        the value). Without it, the file has no metadata and the usual meaning: the greatest of the logits, or the action itself.

    Raises
    ------
    UnsupportedError
        The model, or a part of it, cannot be exported.
    UsageError
        An argument is missing or wrong.

    """
    torch = _torch()
    if isinstance(model, torch.nn.Module):
        recipe = _of_module(model, example_observation, distribution, deterministic)
    elif hasattr(model, "policy") and hasattr(model, "observation_space"):
        if distribution is not None:
            raise UsageError("distribution: a Stable-Baselines3 model says it itself")
        recipe = _of_sb3(model, example_observation, deterministic)
    else:
        raise UsageError(
            f"model: a {type(model).__name__} is neither a Stable-Baselines3 algorithm nor a torch.nn.Module"
        )
    try:
        data = recipe.written()
    except _UnknownLayerError as layer:
        data = recipe.exported_by_torch(str(layer))
    path = Path(path)
    path.write_bytes(data)
    return path


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UsageError(f"export_policy needs torch ({error}): pip install torch") from None


class _UnknownLayerError(Exception):
    """A layer that the writer does not know; the message is its class."""


#: A tensor of the graph, or several by name: what goes from layer to layer.
Flow = Any


class _Recipe:
    """What to export: inputs with their shapes, and for each output the layers that lead to it."""

    def __init__(
        self, inputs: Mapping[str, Sequence[int]], metadata: Mapping[str, Any] | None, *, is_dict: bool = False
    ) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.metadata = metadata
        #: Whether the first layer takes the inputs by name, even a single one.
        self.is_dict = is_dict
        self.outputs: dict[str, list[Any]] = {}

    def written(self) -> bytes:
        """The file, by our own writer."""
        graph = _Graph()
        given: Flow = {name: name for name in self.inputs} if self.is_dict else next(iter(self.inputs))
        # Layers that several outputs share are written once.
        done: dict[tuple[int, ...], Flow] = {}
        outputs = []
        for name, layers in self.outputs.items():
            flow = given
            way: tuple[int, ...] = ()
            for layer in layers:
                way = (*way, id(layer))
                if way not in done:
                    done[way] = graph.layer(layer, flow)
                flow = done[way]
            if isinstance(flow, dict):
                raise _UnknownLayerError("a dict as an output")
            graph.node("Identity", [flow], output=name)
            outputs.append(name)
        return graph.model(self.inputs, outputs) + _metadata_field(self.metadata)

    def exported_by_torch(self, layer: str) -> bytes:
        """The file, by torch's exporter: for the layers that ours does not know."""
        torch = _torch()
        for package in ("onnx", "onnxscript"):
            if importlib.util.find_spec(package) is None:
                raise UnsupportedError(
                    f"the layer {layer} needs torch's own exporter, and that the package {package}: "
                    "pip install onnx onnxscript"
                )
        chains, is_dict = self.outputs, self.is_dict

        class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.parts = torch.nn.ModuleList(
                    {id(part): part for chain in chains.values() for part in chain}.values()
                )

            def forward(self, *given: Any) -> Any:
                flow: Flow = dict(zip(names, given, strict=True)) if is_dict else given[0]
                results: list[Any] = []
                for chain in chains.values():
                    result = flow
                    for part in chain:
                        result = part(result)
                    results.extend(result if isinstance(result, (tuple, list)) else [result])
                return tuple(results)

        names = list(self.inputs)
        examples = tuple(torch.zeros(1, *shape) for shape in self.inputs.values())
        net = Net().eval()
        outputs = list(self.outputs)
        if self.metadata is not None and outputs == [_TUPLE]:
            outputs = list(self.metadata["outputs_in_order"])
        elif outputs == [_TUPLE]:
            outputs = ["action"]
        buffer = io.BytesIO()
        try:
            program = torch.onnx.export(
                net, examples, input_names=names, output_names=outputs, dynamo=True, verbose=False
            )
            program.save(buffer)
        except Exception as error:
            raise UnsupportedError(f"torch cannot export the layer {layer}: {error}") from error
        return buffer.getvalue() + _metadata_field(self.metadata)


#: Stands for the outputs of a module that returns several.
_TUPLE = "*"


def _metadata_field(metadata: Mapping[str, Any] | None) -> bytes:
    """The metadata as a field of the model: one that is appended counts as if it stood before."""
    if metadata is None:
        return b""
    text = json.dumps({key: value for key, value in metadata.items() if key != "outputs_in_order"})
    return _bytes(14, _text(1, KEY) + _text(2, text))


# ── Stable-Baselines3 ───────────────────────────────────────────────────────────────────────────────────────────────


def _of_sb3(model: Any, example: Any, deterministic: bool) -> _Recipe:
    torch = _torch()
    policy = model.policy
    kind = type(model).__name__
    policy.set_training_mode(False)
    inputs, prepare, observation = _prepared(model, example)
    metadata: dict[str, Any] = {
        "version": VERSION,
        "distribution": "",
        "policy": "policy",
        "deterministic": bool(deterministic),
        "observation": observation,
    }
    recipe = _Recipe(inputs, metadata, is_dict=isinstance(model.observation_space, gymnasium.spaces.Dict))
    if hasattr(policy, "action_net") and hasattr(policy, "mlp_extractor"):
        if getattr(policy, "lstm_actor", None) is not None:
            raise UnsupportedError(f"{kind}: recurrent policies are not exported")
        if getattr(model, "use_sde", False):
            raise UnsupportedError(f"{kind}: state-dependent exploration (use_sde) is not exported")
        if getattr(policy, "share_features_extractor", True):
            features = values = policy.features_extractor
        else:
            features, values = policy.pi_features_extractor, policy.vf_features_extractor
        recipe.outputs["policy"] = [prepare, features, policy.mlp_extractor.policy_net, policy.action_net]
        name = type(policy.action_dist).__name__
        for part, distribution in (
            ("MultiCategorical", "multi_categorical"),
            ("Categorical", "categorical"),
            ("Bernoulli", "bernoulli"),
            ("DiagGaussian", "gaussian"),
        ):
            if part in name:
                metadata["distribution"] = distribution
                break
        else:
            raise UnsupportedError(f"{kind}: the distribution {name} is not exported")
        if metadata["distribution"] == "gaussian":
            recipe.outputs["log_std"] = [_module(torch, "Constant")(policy.log_std)]
            metadata.update(log_std="log_std", bounds="unscale" if policy.squash_output else "clip")
        recipe.outputs["value"] = [prepare, values, policy.mlp_extractor.value_net, policy.value_net]
        metadata["value"] = "value"
    elif hasattr(policy, "q_net"):
        if not hasattr(policy.q_net, "q_net"):
            raise UnsupportedError(f"{kind}: its networks are not known")
        recipe.outputs["policy"] = [prepare, policy.q_net.features_extractor, policy.q_net.q_net]
        metadata["distribution"] = "q_values"
    elif hasattr(policy, "actor") and hasattr(policy.actor, "mu"):
        actor = policy.actor
        metadata["bounds"] = "unscale"
        if getattr(actor, "use_sde", False):
            raise UnsupportedError(f"{kind}: state-dependent exploration (use_sde) is not exported")
        if hasattr(actor, "latent_pi"):
            metadata.update(distribution="squashed_gaussian", log_std="log_std")
            recipe.outputs["policy"] = [prepare, actor.features_extractor, actor.latent_pi, actor.mu]
            # The bounds of stable_baselines3.sac.policies.
            clamp = torch.nn.Hardtanh(-20.0, 2.0)
            recipe.outputs["log_std"] = [prepare, actor.features_extractor, actor.latent_pi, actor.log_std, clamp]
        else:
            metadata["distribution"] = "deterministic"
            recipe.outputs["policy"] = [prepare, actor.features_extractor, actor.mu]
    else:
        raise UnsupportedError(f"{kind}: its networks are not known; export a torch.nn.Module of your own instead")
    return recipe


def _prepared(model: Any, example: Any) -> tuple[dict[str, Sequence[int]], Any, str]:
    """The inputs, the layer that prepares them as the trainer does, and how observations become numbers."""
    from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage, is_vecenv_wrapped, unwrap_vec_wrapper

    torch = _torch()
    env = model.get_env()
    if env is not None and is_vecenv_wrapped(env, VecFrameStack):
        raise UnsupportedError("VecFrameStack: a policy sees one observation at a time; stack frames in the env")
    transpose = unwrap_vec_wrapper(env, VecTransposeImage) if env is not None else None
    normalize = model.get_vec_normalize_env()
    space = model.observation_space
    is_dict = isinstance(space, gymnasium.spaces.Dict)
    given = dict(space.spaces) if is_dict else {"observation": space}
    inputs: dict[str, Sequence[int]] = {}
    parts: dict[str, Any] = {}
    one_hot = False
    for key, part in given.items():
        shown = example[key] if is_dict and example is not None else example
        steps: list[Any] = []
        if isinstance(part, (gymnasium.spaces.Discrete, gymnasium.spaces.MultiDiscrete)):
            one_hot = True
            shape: tuple[int, ...] = (get_flattened_obs_dim(part),)
        elif isinstance(part, gymnasium.spaces.MultiBinary):
            shape = (int(np.prod(part.shape)),) if not is_dict else tuple(part.shape)
        elif isinstance(part, gymnasium.spaces.Box):
            shape = tuple(part.shape)
        else:
            raise UnsupportedError(f"observations of a {type(part).__name__} are not exported")
        skips = getattr(transpose, "skip", False) or (transpose is not None and not _turns(transpose, key, is_dict))
        last = transpose is not None and is_image_space(part) and not skips
        if env is None and shown is not None and np.shape(shown) != shape and len(shape) == 3:
            last = np.shape(shown) == (shape[1], shape[2], shape[0])
            if not last:
                raise UsageError(f"example_observation: the shape {np.shape(shown)} does not fit the model's {shape}")
        if last:
            shape = (shape[1], shape[2], shape[0])
        if normalize is not None and normalize.norm_obs and isinstance(part, gymnasium.spaces.Box):
            keys = normalize.norm_obs_keys
            if not is_dict or keys is None or key in keys:
                statistics = normalize.obs_rms[key] if is_dict else normalize.obs_rms
                steps.append(_normalized(torch, statistics, normalize, shape, last))
        if last:
            steps.append(_module(torch, "Permute")((0, 3, 1, 2)))
        is_image = isinstance(part, gymnasium.spaces.Box) and is_image_space(part, normalized_image=False)
        if is_image and getattr(model.policy, "normalize_images", True):
            steps.append(_module(torch, "Divide")(255.0))
        inputs[key] = shape
        parts[key] = torch.nn.Sequential(*steps)
    prepare = _module(torch, "Each")(parts) if is_dict else parts["observation"]
    return inputs, prepare, "one_hot" if one_hot else "numbers"


def _turns(transpose: Any, key: str, is_dict: bool) -> bool:
    """Whether a wrapper moves the channels of an image to the front."""
    keys = getattr(transpose, "image_space_keys", None)
    return not is_dict or keys is None or key in keys


def _normalized(torch: Any, statistics: Any, normalize: Any, shape: Sequence[int], last: bool) -> Any:
    mean = np.asarray(statistics.mean, dtype=np.float64)
    factor = 1.0 / np.sqrt(np.asarray(statistics.var, dtype=np.float64) + normalize.epsilon)
    if last and mean.shape != tuple(shape):
        # The statistics are of what came out of the wrapper that moves the channels.
        mean, factor = (np.moveaxis(array, 0, -1) for array in (mean, factor))
    return _module(torch, "Normalize")(mean, factor, float(normalize.clip_obs))


# ── A module ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_module(module: Any, example: Any, distribution: str | None, deterministic: bool) -> _Recipe:
    torch = _torch()
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise UsageError(f"distribution: {distribution!r} is not one of {', '.join(DISTRIBUTIONS)}")
    if distribution is None and not deterministic:
        raise UsageError("deterministic: actions are drawn only where `distribution` says what the module returns")
    module.eval()
    if example is None:
        first = next((layer for layer in module.modules() if not list(layer.children())), None)
        if not isinstance(first, torch.nn.Linear):
            raise UsageError("example_observation: one observation is needed, for its shape")
        inputs: dict[str, Sequence[int]] = {"observation": (first.in_features,)}
        example = np.zeros(first.in_features, dtype=np.float32)
    elif isinstance(example, Mapping):
        inputs = {key: np.shape(value) for key, value in example.items()}
    else:
        inputs = {"observation": np.shape(example)}
    metadata: dict[str, Any] | None = None
    if distribution is not None:
        least = DISTRIBUTIONS[distribution]
        with torch.no_grad():
            given = {key: torch.zeros(1, *shape) for key, shape in inputs.items()}
            result = module(given if isinstance(example, Mapping) else given["observation"])
        count = len(result) if isinstance(result, (tuple, list)) else 1
        if count not in (least, least + 1):
            raise UsageError(
                f"distribution: {distribution!r} takes {least} or {least + 1} outputs, and the module has {count}"
            )
        names = ["policy", *(["log_std"] if least == 2 else []), "value"][:count]
        metadata = {
            "version": VERSION,
            "distribution": distribution,
            **{name: name for name in names},
            "deterministic": bool(deterministic),
            "outputs_in_order": names,
        }
    recipe = _Recipe(inputs, metadata, is_dict=isinstance(example, Mapping))
    name = "policy" if metadata is not None else "action"
    single = metadata is None or metadata["outputs_in_order"] == ["policy"]
    recipe.outputs[name if single else _TUPLE] = [module]
    return recipe


# ── Layers of our own ───────────────────────────────────────────────────────────────────────────────────────────────

_MODULES: dict[str, Any] = {}


def _module(torch: Any, name: str) -> Any:
    """A layer of our own. The classes are made late, so that importing rollcage does not import torch."""
    if _MODULES:
        return _MODULES[name]

    class Constant(torch.nn.Module):  # type: ignore[misc]
        """The same row, whatever comes in."""

        def __init__(self, row: Any) -> None:
            super().__init__()
            self.register_buffer("row", row.detach().clone().reshape(1, -1))

        def forward(self, _: Any) -> Any:
            return self.row

    class Normalize(torch.nn.Module):  # type: ignore[misc]
        """`VecNormalize`, with statistics that stand still."""

        def __init__(self, mean: npt.NDArray[np.float64], factor: npt.NDArray[np.float64], clip: float) -> None:
            super().__init__()
            self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
            self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.float32))
            self.clip = clip

        def forward(self, given: Any) -> Any:
            return torch.clip((given - self.mean) * self.factor, -self.clip, self.clip)

    class Permute(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, order: Sequence[int]) -> None:
            super().__init__()
            self.order = tuple(order)

        def forward(self, given: Any) -> Any:
            return given.permute(self.order)

    class Divide(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, given: Any) -> Any:
            return given / self.by

    class Each(torch.nn.Module):  # type: ignore[misc]
        """A layer for each part of a Dict."""

        def __init__(self, parts: Mapping[str, Any]) -> None:
            super().__init__()
            self.names = list(parts)
            self.parts = torch.nn.ModuleList(parts.values())

        def forward(self, given: Any) -> Any:
            return {name: part(given[name]) for name, part in zip(self.names, self.parts, strict=True)}

    _MODULES.update(Constant=Constant, Normalize=Normalize, Permute=Permute, Divide=Divide, Each=Each)
    return _MODULES[name]


# ── The format ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Graph:
    """A graph in the ONNX format, in the making."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._count = 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"

    def tensor(self, values: Any) -> str:
        """Adds weights."""
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
        array = np.ascontiguousarray(array, dtype=np.int64 if array.dtype.kind in "iu" else np.float32)
        name = self._name("weights")
        kind = 7 if array.dtype == np.int64 else 1
        sides = b"".join(_number(1, side) for side in array.shape)
        little = array.astype(array.dtype.newbyteorder("<"))
        self._tensors.append(sides + _number(2, kind) + _text(8, name) + _bytes(9, little.tobytes()))
        return name

    def node(self, operator: str, inputs: Iterable[str], output: str | None = None, **attributes: Any) -> str:
        """Adds an operator, and returns the name of its result."""
        output = output or self._name(operator)
        node = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
        for name, value in attributes.items():
            node += _bytes(5, _text(1, name) + _attribute(value))
        self._nodes.append(node)
        return output

    def model(self, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> bytes:
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "policy")
        graph += b"".join(_bytes(5, tensor) for tensor in self._tensors)
        for name, shape in inputs.items():
            sides = _bytes(1, _text(2, "batch")) + b"".join(_bytes(1, _number(1, side)) for side in shape)
            graph += _bytes(11, _text(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, sides))))
        for name in outputs:
            # A row for each of the batch, but one row where it does not depend on what comes in.
            sides = b"".join(_bytes(1, _text(2, f"{name}_{side}")) for side in ("rows", "size"))
            graph += _bytes(12, _text(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, sides))))
        opset = _bytes(8, _number(2, OPSET))
        return _number(1, IR_VERSION) + _text(2, "rollcage") + opset + _bytes(7, graph)

    def layer(self, layer: Any, flow: Flow) -> Flow:
        """Adds a layer, and returns what comes out of it."""
        torch = _torch()
        name = type(layer).__name__
        if isinstance(layer, torch.nn.Sequential):
            for part in layer:
                flow = self.layer(part, flow)
            return flow
        # Those of Stable-Baselines3, by name: it need not be installed.
        if name == "CombinedExtractor":
            parts = [self.layer(extractor, flow[key]) for key, extractor in layer.extractors.items()]
            return self.node("Concat", parts, axis=1)
        if name == "NatureCNN":
            return self.layer(layer.linear, self.layer(layer.cnn, flow))
        if name == "FlattenExtractor":
            return self.layer(layer.flatten, flow)
        if isinstance(layer, _module(torch, "Each")):
            return {key: self.layer(part, flow[key]) for key, part in zip(layer.names, layer.parts, strict=True)}
        if isinstance(layer, _module(torch, "Constant")):
            return self.tensor(layer.row)
        if isinstance(flow, dict):
            raise _UnknownLayerError(name)
        if isinstance(layer, _module(torch, "Normalize")):
            centred = self.node("Sub", [flow, self.tensor(layer.mean)])
            scaled = self.node("Mul", [centred, self.tensor(layer.factor)])
            return self.node(
                "Clip", [scaled, self.tensor(np.float32(-layer.clip)), self.tensor(np.float32(layer.clip))]
            )
        if isinstance(layer, _module(torch, "Permute")):
            return self.node("Transpose", [flow], perm=list(layer.order))
        if isinstance(layer, _module(torch, "Divide")):
            return self.node("Div", [flow, self.tensor(np.float32(layer.by))])
        # Exact types: a subclass may do something else.
        writer = _WRITERS.get(name) if getattr(torch.nn, name, None) is type(layer) else None
        if writer is None:
            raise _UnknownLayerError(name)
        return writer(self, layer, flow)


def _linear(graph: _Graph, layer: Any, flow: str) -> str:
    inputs = [flow, graph.tensor(layer.weight)]
    if layer.bias is not None:
        inputs.append(graph.tensor(layer.bias))
    return graph.node("Gemm", inputs, transB=1)


def _convolution(graph: _Graph, layer: Any, flow: str) -> str:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _UnknownLayerError(f"{type(layer).__name__} with padding {layer.padding!r} of {layer.padding_mode}")
    inputs = [flow, graph.tensor(layer.weight)]
    if layer.bias is not None:
        inputs.append(graph.tensor(layer.bias))
    return graph.node(
        "Conv",
        inputs,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        pads=[*layer.padding, *layer.padding],
        group=layer.groups,
    )


def _flatten(graph: _Graph, layer: Any, flow: str) -> str:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise _UnknownLayerError(f"Flatten from {layer.start_dim} to {layer.end_dim}")
    return graph.node("Flatten", [flow], axis=1)


def _layer_norm(graph: _Graph, layer: Any, flow: str) -> str:
    if layer.weight is None:
        raise _UnknownLayerError("LayerNorm without weights")
    inputs = [flow, graph.tensor(layer.weight)]
    if layer.bias is not None:
        inputs.append(graph.tensor(layer.bias))
    return graph.node("LayerNormalization", inputs, axis=-len(layer.normalized_shape), epsilon=float(layer.eps))


def _batch_norm(graph: _Graph, layer: Any, flow: str) -> str:
    if layer.running_mean is None or layer.weight is None:
        raise _UnknownLayerError(f"{type(layer).__name__} without statistics")
    tensors = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    return graph.node("BatchNormalization", [flow, *map(graph.tensor, tensors)], epsilon=float(layer.eps))


def _pool(graph: _Graph, layer: Any, flow: str) -> str:
    def pair(value: Any) -> list[int]:
        return [value, value] if isinstance(value, int) else list(value)

    if layer.ceil_mode or pair(getattr(layer, "dilation", 1)) != [1, 1]:
        raise _UnknownLayerError(f"{type(layer).__name__} with ceil_mode or dilation")
    more: dict[str, Any] = {}
    if type(layer).__name__ == "AvgPool2d":
        more["count_include_pad"] = int(layer.count_include_pad)
    return graph.node(
        "AveragePool" if more else "MaxPool",
        [flow],
        kernel_shape=pair(layer.kernel_size),
        strides=pair(layer.stride),
        pads=pair(layer.padding) * 2,
        **more,
    )


def _clip(low: str, high: str) -> Callable[[_Graph, Any, str], str]:
    def write(graph: _Graph, layer: Any, flow: str) -> str:
        bounds = (getattr(layer, low), getattr(layer, high))
        return graph.node("Clip", [flow, *(graph.tensor(np.float32(bound)) for bound in bounds)])

    return write


def _plain(operator: str, **attributes: str) -> Callable[[_Graph, Any, str], str]:
    """An operator whose attributes are those of the layer, as floats."""

    def write(graph: _Graph, layer: Any, flow: str) -> str:
        given: dict[str, Any] = {name: float(getattr(layer, own)) for name, own in attributes.items()}
        return graph.node(operator, [flow], **given)

    return write


def _silu(graph: _Graph, layer: Any, flow: str) -> str:
    return graph.node("Mul", [flow, graph.node("Sigmoid", [flow])])


def _mish(graph: _Graph, layer: Any, flow: str) -> str:
    return graph.node("Mul", [flow, graph.node("Tanh", [graph.node("Softplus", [flow])])])


def _softmax(operator: str) -> Callable[[_Graph, Any, str], str]:
    def write(graph: _Graph, layer: Any, flow: str) -> str:
        if layer.dim is None:
            raise _UnknownLayerError(f"{operator} without dim")
        return graph.node(operator, [flow], axis=int(layer.dim))

    return write


def _same(graph: _Graph, layer: Any, flow: str) -> str:
    return flow


#: The layers of torch.nn that are written without torch's exporter.
_WRITERS: dict[str, Callable[[_Graph, Any, str], str]] = {
    "Linear": _linear,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "Flatten": _flatten,
    "LayerNorm": _layer_norm,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "MaxPool2d": _pool,
    "AvgPool2d": _pool,
    "ReLU": _plain("Relu"),
    "ReLU6": _clip("min_val", "max_val"),
    "Hardtanh": _clip("min_val", "max_val"),
    "LeakyReLU": _plain("LeakyRelu", alpha="negative_slope"),
    "ELU": _plain("Elu", alpha="alpha"),
    "SELU": _plain("Selu"),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "Softsign": _plain("Softsign"),
    "SiLU": _silu,
    "Mish": _mish,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "Identity": _same,
    "Dropout": _same,
}


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(int(number))


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _attribute(value: Any) -> bytes:
    if isinstance(value, float):
        return _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _number(3, value) + _number(20, 2)
    return b"".join(_number(8, int(each)) for each in value) + _number(20, 7)
