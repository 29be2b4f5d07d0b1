"""A toy of a soccer simulator: it speaks to an agent as `rcssserver3d` does, in agent sync mode.

    python3 toy_soccer.py --port 3100

One client after the other; each begins a new game. The same effectors give the same perceptions.
"""

from __future__ import annotations

import argparse
import math
import re
import socket

#: Seconds of a cycle.
CYCLE = 0.02
#: Cycles between two looks.
EYES = 3
#: Metres from hip to knee and from knee to foot, and how far the toes are from the foot.
THIGH, SHIN, TOES = 0.12, 0.11, 0.08
#: How high the eyes are, a ball's radius, how far aside of the foot's middle a ball is still hit, where the hips are.
EYES_HEIGHT, BALL, WIDTH, HIP = 0.54, 0.042, 0.06, 0.055
#: How much faster than the foot a ball leaves it, and how much of its speed it keeps in a cycle.
BOUNCE, ROLLING = 1.6, 0.98
#: Degrees that a leg is lifted sideways when the robot falls over.
BALANCE = 24.0
#: Bounds of a leg's joints, degrees.
BOUNDS = [(-90.0, 1.0), (-45.0, 45.0), (-25.0, 100.0), (-130.0, 1.0), (-45.0, 75.0), (-45.0, 45.0)]


class Game:
    """A robot and a ball."""

    def __init__(self) -> None:
        self.cycles, self.fallen, self.speed = 0, False, 0.0
        self.angles = {f"{leg}l{joint}": 0.0 for leg in "lr" for joint in range(1, 7)}
        self.speeds = dict.fromkeys(self.angles, 0.0)
        #: The ball as the robot sees it over ground, forwards and to the left.
        self.ball = [0.2, -0.05]

    def take(self, words: list[str]) -> None:
        """One effector: a beam, or the speed of a joint; all others are for a real simulator."""
        if words[0] == "beam":
            self.ball, self.speed, self.fallen = [-float(words[1]), -float(words[2])], 0.0, False
        elif (found := re.fullmatch(r"([lr])le([1-6])", words[0])) is not None:
            self.speeds[f"{found[1]}l{found[2]}"] = float(words[1])

    def reach(self, leg: str) -> float:
        """How far the toes of a leg are before the hips."""
        hip = math.radians(self.angles[f"{leg}l3"])
        knee = hip + math.radians(self.angles[f"{leg}l4"])
        return THIGH * math.sin(hip) + SHIN * math.sin(knee) + TOES

    def cycle(self) -> None:
        """20 ms."""
        self.cycles += 1
        before = {leg: self.reach(leg) for leg in "lr"}
        for name, speed in self.speeds.items():
            low, high = BOUNDS[int(name[-1]) - 1]
            self.angles[name] = min(max(self.angles[name] + math.degrees(speed * CYCLE), low), high)
        self.fallen = self.fallen or any(abs(self.angles[f"{leg}l2"]) > BALANCE for leg in "lr")
        for leg, hip in (("l", HIP), ("r", -HIP)):
            reach = self.reach(leg)
            hits = before[leg] <= self.ball[0] <= reach + BALL and abs(self.ball[1] - hip) <= WIDTH
            if hits and reach > before[leg] and not self.fallen:
                self.speed = BOUNCE * (reach - before[leg]) / CYCLE
        self.ball[0] += self.speed * CYCLE
        self.speed *= ROLLING

    def perception(self) -> str:
        """What the agent is told."""
        x, y = self.ball
        flat, high = math.hypot(x, y), BALL - EYES_HEIGHT
        polar = (math.hypot(flat, high), math.degrees(math.atan2(y, x)), math.degrees(math.atan2(high, flat)))
        torso = "9.81 0.00 0.00" if self.fallen else "0.00 0.00 9.81"
        text = f"(time (now {self.cycles * CYCLE:.2f}))(GS (t 0.00) (pm BeforeKickOff))(ACC (n torso) (a {torso}))"
        text += "".join(f"(HJ (n {name[:2]}j{name[2]}) (ax {angle:.2f}))" for name, angle in self.angles.items())
        if self.cycles % EYES == 0 and not self.fallen:
            text += "(See (G2R (pol 15.05 -4.00 1.00)) (B (pol {:.4f} {:.4f} {:.4f})))".format(*polar)
        return text


def play(client: socket.socket) -> None:
    """One agent's game, until it leaves."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    game = Game()
    with client.makefile("rwb") as stream:
        while len(length := stream.read(4)) == 4:
            message = stream.read(int.from_bytes(length, "big")).decode()
            for effector in re.findall(r"\(([^()]+)\)", message):
                if (words := effector.split()) == ["syn"]:
                    game.cycle()
                    answer = game.perception().encode()
                    stream.write(len(answer).to_bytes(4, "big") + answer)
                    stream.flush()
                else:
                    game.take(words)


def main() -> None:
    """Listens, and plays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with socket.create_server(("127.0.0.1", parser.parse_args().port)) as server:
        while True:
            client, _ = server.accept()
            with client:
                try:
                    play(client)
                except OSError as error:
                    print(f"an agent is gone: {error}", flush=True)


if __name__ == "__main__":
    main()
