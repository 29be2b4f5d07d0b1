"""A stranger's words in messages, infos and warnings: nothing in them acts on a terminal or passes for a line of ours."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from conftest import hostile

import rollcage

#: Clears a screen, goes to the line's begin, turns the reading order around, begins a line, and is not seen.
WORDS = "\x1b[2J\x1b]0;x\x07a\rb\x9b31m\u202e\u2066c\nhint: d\u200b\x00\x7f"
ESCAPED = r"\u{1b}[2J\u{1b}]0;x\u{7}a\rb\u{9b}31m\u{202e}\u{2066}c; hint: d\u{200b}\u{0}\u{7f}"


def harmless(text: str) -> None:
    hidden = [character for character in text if unicodedata.category(character) in ("Cc", "Cf") and character != "\n"]
    assert not hidden, f"{hidden} in {text!a}"


def failing(**kwargs: Any) -> rollcage.VectorEnv:
    config = {"fails": WORDS, "prints": WORDS, "refuses": WORDS}
    envs = rollcage.make_vec(hostile("tells"), 2, config=[config, {}], **kwargs)
    envs.reset()
    envs.step([0, 0])
    return envs


def test_an_envs_words_are_escaped_in_infos_and_faults() -> None:
    envs = failing()
    infos = envs.step([0, 0])[4]
    assert ESCAPED in infos["fault_message"][0]
    harmless(infos["fault_message"][0])
    fault = envs.faults[0]
    assert fault.message == infos["fault_message"][0]
    harmless(str(fault))
    # What it printed is there as it is, for who wants it.
    assert "\x1b[2J" in fault.log and "\x1b[2J" in envs.log(0)
    envs.close()


def test_an_envs_words_are_escaped_in_exceptions() -> None:
    envs = failing(on_fault="raise", render_mode="ansi")
    with pytest.raises(rollcage.GuestError) as raised:
        envs.step([0, 0])
    harmless(str(raised.value))
    assert ESCAPED in str(raised.value) and "the last lines it printed" in str(raised.value)
    assert not any(line.startswith("hint: d") for line in str(raised.value).splitlines())
    envs.reset()
    for call in (lambda: envs.call("x"), lambda: envs.get_attr("x"), lambda: envs.render_env(0)):
        with pytest.raises(rollcage.UsageError) as refused:
            call()
        harmless(str(refused.value))
        assert r"\u{1b}[2J" in str(refused.value)
    envs.close()


def test_names_of_files_are_escaped_in_exceptions_and_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(rollcage.UsageError) as refused:
        rollcage.make_vec("/nowhere/\x1b[2J\u202e.wasm")
    harmless(str(refused.value))
    assert r"/nowhere/\u{1b}[2J\u{202e}.wasm" in str(refused.value)
    monkeypatch.setenv("ROLLCAGE_CACHE", "/proc/nowhere/\x1b[2J")
    with pytest.warns(UserWarning, match="the plugin is compiled each time") as caught:
        rollcage.make_vec("cartpole").close()
    assert any(r"\u{1b}[2J" in str(warning.message) for warning in caught)
    for warning in caught:
        harmless(str(warning.message))


def test_an_authors_words_are_escaped_in_spaces() -> None:
    envs = rollcage.make_vec(hostile("tells"), 1, config={"characters": 0x3000})
    text = repr(envs.single_observation_space)
    harmless(text)
    assert len(text) < 2000
    action = hostile("spaces")
    envs.close()
    envs = rollcage.make_vec(action, 1)
    envs.reset()
    with pytest.raises(rollcage.UsageError, match="a dict with the keys .*say what.* is expected"):
        envs.step({})
    envs.close()


def test_stable_baselines3_gets_escaped_words_too() -> None:
    pytest.importorskip("stable_baselines3")
    from rollcage.sb3 import make_vec_env

    envs = make_vec_env(hostile("tells"), 1, config={"fails": WORDS})
    envs.reset()
    envs.step([0])
    info = envs.step([0])[3][0]
    harmless(info["fault_message"])
    assert ESCAPED in info["fault_message"]
    envs.close()
