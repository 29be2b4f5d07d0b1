"""What `rollcage.export_policy` writes gives PyTorch's numbers, when the policy ``onnx`` runs it: here natively, over an example
of its crate."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rollcage import export_policy
from rollcage.errors import UnsupportedError, UsageError

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")

from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")

#: How far numbers may lie from PyTorch's, and the margin from which on the same action is the greatest.
NEAR = 1e-5
MARGIN = 1e-4


class Drawn(gymnasium.Env[Any, Any]):
    """Observations and rewards without a sense, in spaces of any kind."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return (
            self.observation_space.sample(),
            float(self.np_random.random()),
            bool(self.np_random.random() < 0.1),
            False,
            {},
        )

    def action_masks(self) -> Any:
        return np.ones(self.action_space.n, dtype=bool)  # type: ignore[attr-defined]


SIGHT = spaces.Box(-2.0, 2.0, (4,), np.float32)
IMAGE = spaces.Box(0, 255, (4, 36, 36), np.uint8)
ARM = spaces.Box(-2.0, 3.0, (3,), np.float32)


@pytest.fixture(scope="session")
def program() -> Path:
    """The example `evaluate` of the policy's crate."""
    manifest = ROOT / "guest-envs/Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--package", "onnx-policy", "--example", "evaluate"]
    subprocess.run([*command, "--manifest-path", manifest, "--target-dir", TARGET], check=True)
    return TARGET / "release/examples/evaluate"


def described(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        low, high = float(space.low.flat[0]), float(space.high.flat[0])
        return {"type": "box", "dtype": str(space.dtype), "shape": space.shape, "low": low, "high": high}
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "multidiscrete", "nvec": space.nvec.tolist()}
    return {"type": "multibinary", "n": int(space.n)}  # type: ignore[attr-defined]


def recorded(space: spaces.Space[Any], count: int) -> Any:
    space.seed(7)
    if isinstance(space, spaces.Box):
        generator = np.random.default_rng(7)
        if space.dtype == np.uint8:
            return generator.integers(0, 256, (count, *space.shape), dtype=np.uint8)
        return generator.normal(0.0, 1.0, (count, *space.shape)).astype(space.dtype)
    return np.stack([space.sample() for _ in range(count)])


class Evaluated:
    """What the policy answers to each observation."""

    def __init__(
        self,
        program: Path,
        model: Path,
        observation: spaces.Space[Any],
        action: spaces.Space[Any],
        observations: Any,
        **config: Any,
    ) -> None:
        folder = model.parent
        text = {"observation": described(observation), "action": described(action), **config}
        (folder / "spaces.json").write_text(json.dumps(text))
        rows = observations.reshape(len(observations), -1)
        if not isinstance(observation, spaces.Box):
            rows = rows.astype(np.int8 if isinstance(observation, spaces.MultiBinary) else np.int64)
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
        (folder / "observations").write_bytes(rows.tobytes())
        ran = subprocess.run(
            [program, model, folder / "spaces.json", folder / "observations"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise RuntimeError(ran.stderr.strip())
        print(ran.stderr)
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        assert len(lines) == len(observations)
        self.outputs = {name: np.array([line["outputs"][name] for line in lines]) for name in lines[0]["outputs"]}
        self.extras = {name: np.array([line["extras"][name] for line in lines]) for name in lines[0]["extras"]}
        self.actions = np.array([line["action"] for line in lines], dtype=np.uint8)

    def choices(self) -> Any:
        return self.actions.view(np.int64)

    def numbers(self, count: int) -> Any:
        return self.actions.view(np.float32)[:, :count]


def near(found: Any, wanted: Any) -> None:
    wanted = np.asarray(wanted).reshape(np.shape(found))
    worst = np.abs(found - wanted).max()
    print("furthest from PyTorch:", worst)
    assert worst < NEAR


def same_choices(found: Any, logits: Any) -> None:
    best = np.sort(logits, axis=1)
    clear = best[:, -1] - best[:, -2] > MARGIN
    assert clear.mean() > 0.9
    assert (found[clear] == logits.argmax(axis=1)[clear]).all()


def of(model: Any, observations: Any) -> Any:
    return model.policy.obs_to_tensor(observations)[0]


def test_ppo_over_10_000_observations(program: Path, tmp_path: Path) -> None:
    model = sb3.PPO("MlpPolicy", "CartPole-v1", seed=7, n_steps=256, device="cpu").learn(2_000)
    observations = recorded(SIGHT, 10_000)
    path = export_policy(model, tmp_path / "ppo.onnx")
    found = Evaluated(program, path, SIGHT, spaces.Discrete(2), observations)
    with torch.no_grad():
        seen = of(model, observations)
        distribution = model.policy.get_distribution(seen)
        values = model.policy.predict_values(seen).numpy()
    logits = distribution.distribution.logits.numpy()
    near(found.outputs["value"], values)
    near(found.extras["value"], values)
    chosen = found.choices()[:, 0]
    same_choices(chosen, logits)
    near(found.extras["log_prob"], logits[np.arange(len(logits)), chosen])
    # The file has logits that are not normalised.
    raw = found.outputs["policy"]
    near(raw - np.log(np.exp(raw).sum(axis=1, keepdims=True)), logits)


def test_draws_follow_the_probabilities(program: Path, tmp_path: Path) -> None:
    model = sb3.PPO("MlpPolicy", "CartPole-v1", seed=7, n_steps=256, device="cpu").learn(2_000)
    observations = np.repeat(recorded(SIGHT, 1), 20_000, axis=0)
    path = export_policy(model, tmp_path / "ppo.onnx", deterministic=False)
    found = Evaluated(program, path, SIGHT, spaces.Discrete(2), observations, seed=3)
    with torch.no_grad():
        probabilities = model.policy.get_distribution(of(model, observations[:1])).distribution.probs.numpy()[0]
    share = found.choices()[:, 0].mean()
    assert abs(share - probabilities[1]) < 4 * np.sqrt(probabilities.prod() / 20_000)
    # The config has the last word.
    again = Evaluated(program, path, SIGHT, spaces.Discrete(2), observations[:100], deterministic=True)
    assert (again.choices()[:, 0] == probabilities.argmax()).all()


def test_statistics_are_folded_in(program: Path, tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    model = sb3.A2C("MlpPolicy", env, seed=7, device="cpu").learn(2_000)
    observations = recorded(SIGHT, 2_000)
    found = Evaluated(program, export_policy(model, tmp_path / "a2c.onnx"), SIGHT, spaces.Discrete(2), observations)
    with torch.no_grad():
        seen = of(model, env.normalize_obs(observations))
        near(found.outputs["value"], model.policy.predict_values(seen).numpy())
        same_choices(found.choices()[:, 0], model.policy.get_distribution(seen).distribution.logits.numpy())


@pytest.mark.parametrize("last", [False, True])
def test_images(program: Path, tmp_path: Path, last: bool) -> None:
    space = spaces.Box(0, 255, (36, 36, 3), np.uint8) if last else IMAGE
    model = sb3.PPO("CnnPolicy", Drawn(space, spaces.Discrete(5)), seed=7, n_steps=16, device="cpu").learn(32)
    observations = recorded(space, 64)
    found = Evaluated(program, export_policy(model, tmp_path / "cnn.onnx"), space, spaces.Discrete(5), observations)
    with torch.no_grad():
        seen = of(model, np.moveaxis(observations, -1, 1) if last else observations)
        near(found.outputs["value"], model.policy.predict_values(seen).numpy())
        logits = model.policy.get_distribution(seen).distribution.logits.numpy()
    raw = found.outputs["policy"]
    near(raw - np.log(np.exp(raw).sum(axis=1, keepdims=True)), logits)


def test_gaussians(program: Path, tmp_path: Path) -> None:
    model = sb3.PPO("MlpPolicy", Drawn(SIGHT, ARM), seed=7, n_steps=64, device="cpu").learn(128)
    observations = recorded(SIGHT, 2_000)
    path = export_policy(model, tmp_path / "ppo.onnx")
    found = Evaluated(program, path, SIGHT, ARM, observations)
    predicted, _ = model.predict(observations, deterministic=True)
    near(found.numbers(3), predicted)
    with torch.no_grad():
        distribution = model.policy.get_distribution(of(model, observations))
        near(found.extras["log_prob"], distribution.log_prob(distribution.mode()).numpy())
    drawn = Evaluated(program, path, SIGHT, ARM, np.repeat(observations[:1], 20_000, axis=0), deterministic=False)
    mean, std = distribution.distribution.mean.numpy()[0], distribution.distribution.stddev.numpy()[0]
    inside = np.clip(np.random.default_rng(7).normal(mean, std, (200_000, 3)), -2.0, 3.0)
    assert np.abs(drawn.numbers(3).mean(axis=0) - inside.mean(axis=0)).max() < 0.04
    assert np.abs(drawn.numbers(3).std(axis=0) - inside.std(axis=0)).max() < 0.04


@pytest.mark.parametrize(
    "action", [spaces.MultiDiscrete([3, 2, 4]), spaces.MultiBinary(5)], ids=["multi-discrete", "multi-binary"]
)
def test_several_choices(program: Path, tmp_path: Path, action: spaces.Space[Any]) -> None:
    model = sb3.PPO("MlpPolicy", Drawn(SIGHT, action), seed=7, n_steps=64, device="cpu").learn(128)
    observations = recorded(SIGHT, 500)
    found = Evaluated(program, export_policy(model, tmp_path / "ppo.onnx"), SIGHT, action, observations)
    predicted, _ = model.predict(observations, deterministic=True)
    actions = found.choices() if isinstance(action, spaces.MultiDiscrete) else found.actions[:, :5]
    assert (actions == predicted).mean() > 0.999
    with torch.no_grad():
        distribution = model.policy.get_distribution(of(model, observations))
        log_prob = distribution.log_prob(torch.as_tensor(actions.astype(np.float32))).numpy()
    near(found.extras["log_prob"], log_prob)


@pytest.mark.parametrize(
    "observation",
    [spaces.Discrete(7), spaces.MultiDiscrete([3, 5]), spaces.MultiBinary(6)],
    ids=["discrete", "multi-discrete", "multi-binary"],
)
def test_observations_without_numbers(program: Path, tmp_path: Path, observation: spaces.Space[Any]) -> None:
    model = sb3.PPO("MlpPolicy", Drawn(observation, spaces.Discrete(3)), seed=7, n_steps=64, device="cpu").learn(128)
    observations = recorded(observation, 200)
    found = Evaluated(
        program, export_policy(model, tmp_path / "ppo.onnx"), observation, spaces.Discrete(3), observations
    )
    with torch.no_grad():
        near(found.outputs["value"], model.policy.predict_values(of(model, observations)).numpy())


def test_q_values(program: Path, tmp_path: Path) -> None:
    model = sb3.DQN("MlpPolicy", "CartPole-v1", seed=7, learning_starts=50, device="cpu").learn(500)
    observations = recorded(SIGHT, 2_000)
    found = Evaluated(program, export_policy(model, tmp_path / "dqn.onnx"), SIGHT, spaces.Discrete(2), observations)
    with torch.no_grad():
        values = model.q_net(of(model, observations)).numpy()
    near(found.outputs["policy"], values)
    same_choices(found.choices()[:, 0], values)
    near(found.extras["value"], values.max(axis=1))


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG"])
def test_scaled_actions(program: Path, tmp_path: Path, algorithm: str) -> None:
    model = getattr(sb3, algorithm)("MlpPolicy", Drawn(SIGHT, ARM), seed=7, learning_starts=10, device="cpu").learn(30)
    observations = recorded(SIGHT, 1_000)
    found = Evaluated(program, export_policy(model, tmp_path / "sac.onnx"), SIGHT, ARM, observations)
    predicted, _ = model.predict(observations, deterministic=True)
    near(found.numbers(3), predicted)
    if algorithm == "SAC":
        with torch.no_grad():
            mean, log_std, _ = model.actor.get_action_dist_params(of(model, observations))
            distribution = model.actor.action_dist.proba_distribution(mean, log_std)
            log_prob = distribution.log_prob(torch.tanh(mean), mean).numpy()
        assert np.abs(found.extras["log_prob"] - log_prob).max() < 1e-3
    else:
        assert not found.extras


def test_maskable_ppo(program: Path, tmp_path: Path) -> None:
    model = contrib.MaskablePPO("MlpPolicy", Drawn(SIGHT, spaces.Discrete(4)), seed=7, n_steps=64, device="cpu").learn(
        128
    )
    observations = recorded(SIGHT, 500)
    found = Evaluated(program, export_policy(model, tmp_path / "mask.onnx"), SIGHT, spaces.Discrete(4), observations)
    with torch.no_grad():
        logits = model.policy.get_distribution(of(model, observations)).distribution.logits.numpy()
    same_choices(found.choices()[:, 0], logits)


def test_networks_of_ones_own(program: Path, tmp_path: Path) -> None:
    nn = torch.nn
    nets = {"activation_fn": nn.ELU, "net_arch": {"pi": [32, 16], "vf": [8]}, "share_features_extractor": False}
    model = sb3.PPO("MlpPolicy", Drawn(SIGHT, spaces.Discrete(3)), policy_kwargs=nets, seed=7, n_steps=64, device="cpu")
    observations = recorded(SIGHT, 500)
    found = Evaluated(program, export_policy(model, tmp_path / "ppo.onnx"), SIGHT, spaces.Discrete(3), observations)
    with torch.no_grad():
        near(found.outputs["value"], model.policy.predict_values(of(model, observations)).numpy())


@pytest.mark.parametrize("keys", [["pose"], ["camera", "pose", "tile"]])
def test_inputs_of_a_dict(tmp_path: Path, keys: list[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    all_parts = {"camera": spaces.Box(0, 255, (36, 36, 3), np.uint8), "pose": SIGHT, "tile": spaces.Discrete(4)}
    space = spaces.Dict({key: all_parts[key] for key in keys})
    model = sb3.PPO("MultiInputPolicy", Drawn(space, spaces.Discrete(3)), seed=7, n_steps=64, device="cpu")
    session = onnxruntime.InferenceSession(export_policy(model, tmp_path / "dict.onnx"))
    assert [given.name for given in session.get_inputs()] == keys
    seen = {key: recorded(space[key], 50) for key in keys}
    given = {key: part.astype(np.float32) for key, part in seen.items()}
    if "tile" in keys:
        given["tile"] = np.eye(4, dtype=np.float32)[seen["tile"]]
    if "camera" in keys:
        seen["camera"] = np.moveaxis(seen["camera"], -1, 1)
    (values,) = session.run(["value"], given)
    with torch.no_grad():
        near(values, model.policy.predict_values(of(model, seen)).numpy())


def layers() -> dict[str, Any]:
    nn = torch.nn
    small = spaces.Box(0, 1, (2, 12, 10), np.float32)
    flat = [nn.Linear(4, 16), nn.LayerNorm(16), nn.SiLU(), nn.Linear(16, 8), nn.Mish(), nn.Linear(8, 8), nn.Hardtanh()]
    more = [nn.LeakyReLU(0.2), nn.SELU(), nn.Softsign(), nn.ReLU6(), nn.Sigmoid(), nn.Linear(8, 3), nn.LogSoftmax(-1)]
    picture = [nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    groups = [nn.Conv2d(8, 8, (3, 2), stride=(2, 1), dilation=(1, 2), groups=4), nn.AvgPool2d(2, padding=1)]
    return {"flat": (SIGHT, [*flat, *more]), "picture": (small, [*picture, *groups, nn.Flatten(), nn.LazyLinear(3)])}


@pytest.mark.parametrize("kind", ["flat", "picture"])
def test_layers(program: Path, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(7)
    space, parts = layers()[kind]
    module = torch.nn.Sequential(*parts)
    observations = recorded(space, 300)
    module.train()
    module(torch.as_tensor(observations))
    module.eval()
    path = export_policy(module, tmp_path / "net.onnx", example_observation=observations[0])
    found = Evaluated(program, path, space, spaces.Discrete(3), observations)
    with torch.no_grad():
        logits = module(torch.as_tensor(observations)).numpy()
    near(found.outputs["action"], logits)
    assert not found.extras
    assert (found.choices()[:, 0] == found.outputs["action"].argmax(axis=1)).all()


def test_torchs_own_exporter(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.logits, self.value = torch.nn.Linear(4, 16), torch.nn.Linear(16, 3), torch.nn.Linear(16, 1)

        def forward(self, given: Any) -> Any:
            hidden = torch.tanh(self.first(given)) + torch.nn.functional.gelu(self.first(given)).clamp(-1, 1)
            hidden = torch.cat(
                [hidden[:, :8].softmax(-1), hidden[:, 8:].reshape(-1, 2, 4).transpose(1, 2).flatten(1)], 1
            )
            return self.logits(hidden - hidden.mean(-1, keepdim=True)), self.value(hidden)

    torch.manual_seed(7)
    module = Net()
    observations = recorded(SIGHT, 300)
    path = export_policy(
        module,
        tmp_path / "net.onnx",
        example_observation=observations[0],
        distribution="categorical",
        deterministic=False,
    )
    found = Evaluated(program, path, SIGHT, spaces.Discrete(3), observations, deterministic=True)
    with torch.no_grad():
        logits, values = (output.numpy() for output in module(torch.as_tensor(observations)))
    near(found.outputs["policy"], logits)
    near(found.extras["value"], values)


def test_mistakes_are_told(program: Path, tmp_path: Path) -> None:
    nn = torch.nn
    path = tmp_path / "net.onnx"
    export_policy(nn.Sequential(nn.Linear(4, 3)), path)
    wide = spaces.Box(-1, 1, (6,), np.float32)
    with pytest.raises(RuntimeError, match=r"the input `observation` of shape \(\?, 4\) expects 4 numbers.* has 6"):
        Evaluated(program, path, wide, spaces.Discrete(3), recorded(wide, 1))
    with pytest.raises(RuntimeError, match="its output `action` has 3 numbers where 2 are expected"):
        Evaluated(program, path, SIGHT, spaces.Discrete(2), recorded(SIGHT, 1))
    with pytest.raises(RuntimeError, match="so no action can be drawn"):
        Evaluated(program, path, SIGHT, spaces.Discrete(3), recorded(SIGHT, 1), deterministic=False)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RuntimeError, match="cut off"):
        Evaluated(program, path, SIGHT, spaces.Discrete(3), recorded(SIGHT, 1))
    with pytest.raises(UsageError, match="neither a Stable-Baselines3 algorithm nor a torch.nn.Module"):
        export_policy("ppo", path)
    with pytest.raises(UsageError, match="example_observation"):
        export_policy(nn.Sequential(nn.Conv2d(1, 1, 1)), path)
    with pytest.raises(UsageError, match="is not one of"):
        export_policy(nn.Linear(4, 3), path, distribution="normal")
    with pytest.raises(UsageError, match="takes 2 or 3 outputs, and the module has 1"):
        export_policy(nn.Linear(4, 3), path, distribution="gaussian")
    sde = sb3.PPO("MlpPolicy", Drawn(SIGHT, ARM), use_sde=True, device="cpu")
    with pytest.raises(UnsupportedError, match="use_sde"):
        export_policy(sde, path)
