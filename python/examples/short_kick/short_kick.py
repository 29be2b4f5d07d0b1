"""Short kick in Python: a humanoid stands before a ball and moves one leg until the ball has gone some way.

The simulator is a program behind a socket, which speaks as RoboCup's `rcssserver3d` does in agent sync mode: a message is
a length of four bytes, the highest first, and an S-expression, and every `(syn)` is answered by one cycle of 20 ms. The
env is a plain `gymnasium.Env`: it opens the socket in `reset`, by Python's own `socket`.
"""

from __future__ import annotations

import math
import re
import socket
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

#: The speed, rad/s, at which a joint turns at most: 7 degrees a cycle.
SPEED_MAX = 6.14
#: Gravity along the torso, m/s², below which the robot lies.
FALLEN = 5.0
#: Cycles after the waiting in which the ball must be seen.
SIGHT_CYCLES = 10
#: Bytes of the longest message that is taken.
MESSAGE_BYTES_MAX = 64 * 1024


class ShortKick(gymnasium.Env[Any, Any]):
    """Kick a ball with one leg of a humanoid, in a soccer simulator.

    The action is the speeds of the leg's six joints, rad/s. The observation is their angles in degrees, the ball as last
    seen (distance in m, to the left and upwards in degrees), and the torso's acceleration. The reward is how far the ball
    went forwards, in metres, and less 1 when the robot falls, which ends the episode, as does a ball that went far enough.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 50}

    def __init__(
        self,
        server_port: Annotated[int, range(1, 65536)],
        server_ip: str = "127.0.0.1",
        team: str = "rollcage",
        unum: Annotated[int, range(1, 12)] = 1,
        scene: str = "rsg/agent/nao/nao.rsg",
        leg: Literal["left", "right"] = "right",
        beam: tuple[float, float, float] = (-0.2, 0.05, 0.0),
        settle_cycles: Annotated[int, range(1, 1001)] = 50,
        kick_distance: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        """Prepare an agent; it connects in `reset`.

        Args:
            server_port: The simulator's port for agents: another simulator for every env.
            server_ip: Where the simulator is: an address or a name.
            team: The team's name.
            unum: The player's number.
            scene: The robot's model, a file of the simulator's.
            leg: The leg that kicks.
            beam: Where an episode begins: metres from the middle forwards and to the left, and a turn in degrees.
            settle_cycles: Cycles of 20 ms after the beam, in which the robot comes to stand.
            kick_distance (float in [0.01, 30]): How far the ball must go, in metres.
        """
        self.address = (server_ip, server_port)
        self.init = f"(init (unum {unum})(teamname {team}))"
        self.scene, self.letter, self.beam = scene, leg[0], beam
        self.settle_cycles, self.kick_distance, self.render_mode = settle_cycles, kick_distance, render_mode
        self.action_space = spaces.Box(-SPEED_MAX, SPEED_MAX, (6,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (12,), np.float32)
        self.connection: socket.socket | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.close()
        self.connection = socket.create_connection(self.address, timeout=10)
        # Every message waits for the one before it: nothing is gained by collecting them.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.angles, self.acceleration = np.zeros(6), np.array([0.0, 0.0, 9.81])
        self.ball: tuple[float, float, float] | None = None
        self.play_mode = ""
        self._cycle(f"(scene {self.scene})")
        self._cycle(self.init)
        self._cycle("(beam {} {} {})".format(*self.beam))
        for _ in range(self.settle_cycles):
            self._cycle("")
        # What was seen on the way was seen from elsewhere.
        self.ball = None
        for _ in range(SIGHT_CYCLES):
            self._cycle("")
            if self.ball is not None:
                self.start = self.place = self._ground()
                return self._observe(), {"play_mode": self.play_mode}
        raise RuntimeError(f"the ball is not in sight from the place to begin, in play mode {self.play_mode!r}")

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        self._cycle("".join(f"({self.letter}le{joint} {speed:.4f})" for joint, speed in enumerate(action, 1)))
        before, self.place = self.place, self._ground()
        moved = math.dist(self.place, self.start)
        fallen = bool(self.acceleration[2] < FALLEN)
        reward = self.place[0] - before[0] - float(fallen)
        info = {"ball_moved": moved, "fallen": fallen}
        return self._observe(), reward, fallen or moved >= self.kick_distance, False, info

    def render(self) -> str:
        ball = "not seen" if self.ball is None else "{:.2f} m, {:.0f} degrees to the left".format(*self.ball)
        return f"{self.letter} leg {np.round(self.angles).astype(int).tolist()}, ball {ball}"

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # ── The protocol ────────────────────────────────────────────────────────────────────────────────────────────────

    def _cycle(self, effectors: str) -> None:
        """Runs one cycle, and reads the perception after it."""
        assert self.connection is not None
        message = f"{effectors}(syn)".encode()
        try:
            self.connection.sendall(len(message).to_bytes(4, "big") + message)
            self._perceive()
        # A simulator that is killed leaves no end of its stream: whatever is still on its way is lost.
        except (BrokenPipeError, ConnectionResetError) as lost:
            raise ConnectionError("the simulator has closed the connection") from lost

    def _perceive(self) -> None:
        length = int.from_bytes(self._receive(4), "big")
        if not 0 < length <= MESSAGE_BYTES_MAX:
            raise ConnectionError(f"a message of {length} bytes, where 1 to {MESSAGE_BYTES_MAX} were expected")
        for name, *rest in parse(self._receive(length).decode()):
            if name == "GS":
                self.play_mode = next((words[1] for words in rest if words[0] == "pm"), self.play_mode)
            elif name == "ACC":
                self.acceleration = np.array([float(number) for number in rest[1][1:]])
            elif name == "HJ" and rest[0][1][:3] == f"{self.letter}lj":
                self.angles[int(rest[0][1][3:]) - 1] = float(rest[1][1])
            elif name == "See":
                for seen in rest:
                    if seen[0] == "B":
                        distance, left, up = (float(number) for number in seen[1][1:])
                        self.ball = (distance, left, up)

    def _receive(self, count: int) -> bytes:
        assert self.connection is not None
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise ConnectionError("the simulator has closed the connection")
            data += piece
        return data

    def _ground(self) -> tuple[float, float]:
        """The ball over ground, in metres forwards and to the left."""
        assert self.ball is not None
        distance, left, up = self.ball
        flat = distance * math.cos(math.radians(up))
        return flat * math.cos(math.radians(left)), flat * math.sin(math.radians(left))

    def _observe(self) -> np.ndarray[Any, Any]:
        return np.array([*self.angles, *(self.ball or (0, 0, 0)), *self.acceleration], np.float32)


def parse(message: str) -> list[Any]:
    """The lists of a message, each a list of words and lists."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", message):
        if token == "(":
            stack.append([])
        elif token != ")":
            stack[-1].append(token)
        elif len(stack) > 1:
            done = stack.pop()
            stack[-1].append(done)
        else:
            raise ValueError(f"a parenthesis that nothing opens, in {message[:200]!r}")
    if len(stack) > 1:
        raise ValueError(f"a parenthesis that nothing closes, in {message[:200]!r}")
    return stack[0]
