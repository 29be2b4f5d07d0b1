"""A maze from a file: find the key, then the door. Actions that lead into a wall are masked."""

from pathlib import Path
from typing import Annotated

import gymnasium as gym
import numpy as np
from gymnasium import spaces

#: The level files travel inside the plugin: `assets` in pyproject.toml names them.
LEVELS = Path(__file__).parent / "levels"

#: Up, right, down, left: rows and columns.
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

COLOURS = {"#": (60, 60, 60), ".": (230, 230, 230), "s": (230, 230, 230), "k": (240, 200, 40), "d": (150, 90, 40)}


class MyEnv(gym.Env):
    """Find the key in a maze, and then the door."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}

    #: What every info has beside the observation; the bundler asks for it by this name.
    info_space = spaces.Dict(distance=spaces.Box(0, 1000, (), np.int64))

    def __init__(self, fog: Annotated[int, range(1, 10)] = 2, slip: float = 0.05, render_mode: str | None = None):
        """Make a maze.

        Args:
            fog: How many cells the agent sees in every direction.
            slip (float in [0, 1]): Probability that a move is another open one.
        """
        self.fog, self.slip, self.render_mode = fog, slip, render_mode
        self.cells = [list(line) for line in (LEVELS / "first.txt").read_text().split()]
        self.rows, self.columns = len(self.cells), len(self.cells[0])
        side = 2 * fog + 1
        self.observation_space = spaces.Dict(
            view=spaces.Box(0, 3, (side, side), np.uint8),
            place=spaces.MultiDiscrete([self.rows, self.columns]),
            has_key=spaces.Discrete(2),
        )
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        open_cells = [place for place in self._places() if self._at(place) in ".s"]
        self.place = open_cells[int(self.np_random.integers(len(open_cells)))]
        self.has_key = False
        return self._observe(), self._info()

    def step(self, action):
        moves = np.flatnonzero(self.action_masks())
        if self.np_random.random() < self.slip:
            action = int(self.np_random.choice(moves))
        if action in moves:
            self.place = self._moved(action)
        reward = -0.01
        if self._at(self.place) == "k" and not self.has_key:
            self.has_key, reward = True, 0.5
        done = self._at(self.place) == "d" and self.has_key
        return self._observe(), 1.0 if done else reward, done, False, self._info()

    def action_masks(self):
        """Which moves do not lead into a wall. Trainers such as MaskablePPO ask for it by this name."""
        return np.array([self._at(self._moved(move)) != "#" for move in range(4)])

    def render(self):
        if self.render_mode == "ansi":
            shown = [cells.copy() for cells in self.cells]
            shown[self.place[0]][self.place[1]] = "A" if self.has_key else "a"
            return "\n".join("".join(cells) for cells in shown)
        picture = np.array([[COLOURS[cell] for cell in cells] for cells in self.cells], np.uint8)
        picture[self.place] = (40, 160, 60) if self.has_key else (200, 50, 50)
        return picture.repeat(16, axis=0).repeat(16, axis=1)

    def _places(self):
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]

    def _at(self, place):
        row, column = place
        inside = 0 <= row < self.rows and 0 <= column < self.columns
        return self.cells[row][column] if inside else "#"

    def _moved(self, move):
        return (self.place[0] + MOVES[move][0], self.place[1] + MOVES[move][1])

    def _observe(self):
        around = range(-self.fog, self.fog + 1)
        view = [["#.kd".find(self._at((self.place[0] + y, self.place[1] + x)).replace("s", ".")) for x in around] for y in around]
        return {
            "view": np.array(view, np.uint8),
            "place": np.array(self.place, np.int64),
            "has_key": int(self.has_key),
        }

    def _info(self):
        goal = "d" if self.has_key else "k"
        row, column = next(place for place in self._places() if self._at(place) == goal)
        return {"distance": np.int64(abs(row - self.place[0]) + abs(column - self.place[1]))}
