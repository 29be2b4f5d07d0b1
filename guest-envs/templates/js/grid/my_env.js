// A maze from a file: find the key, then the door. Actions that lead into a wall are masked.

import { assetText, box, dict, discrete, multiDiscrete } from "./rollcage.js";

/** The level. It travels inside the plugin: `assets` in package.json names it. */
const LEVEL = "levels/first.txt";

/** Up, right, down, left: rows and columns. */
const MOVES = [[-1, 0], [0, 1], [1, 0], [0, -1]];

/** Pixels of a cell's side. */
const TILE = 16;

/** What the agent sees of a cell. */
const SEEN = { "#": 0, ".": 1, s: 1, k: 2, d: 3 };

/** The colours of cells, and of the agent: `a` before it has the key, `A` with it. */
const COLOURS = {
  "#": [60, 60, 60],
  ".": [230, 230, 230],
  s: [230, 230, 230],
  k: [240, 200, 40],
  d: [150, 90, 40],
  a: [200, 50, 50],
  A: [40, 160, 60],
};

export default class MyEnv {
  static about = {
    config: {
      fog: { type: "integer", default: 2, minimum: 1, maximum: 9, description: "How many cells the agent sees in every direction." },
      slip: { type: "number", default: 0.05, minimum: 0, maximum: 1, description: "Probability that a move is another open one." },
    },
    renderModes: ["rgb_array", "ansi"],
    renderFps: 8,
  };

  constructor({ fog, slip }) {
    Object.assign(this, { fog, slip });
    this.cells = assetText(LEVEL).split("\n").filter((line) => line !== "").map((line) => [...line]);
    [this.rows, this.columns] = [this.cells.length, this.cells[0].length];
    const places = (kinds) =>
      this.cells.flatMap((cells, row) => cells.flatMap((cell, column) => (kinds.includes(cell) ? [[row, column]] : [])));
    this.starts = places(".s");
    this.goals = ["k", "d"].map((goal) => places(goal)[0]);
    if (this.starts.length === 0 || this.goals.includes(undefined)) {
      throw new Error(`${LEVEL}: a level has floor (.), a key (k) and a door (d)`);
    }
    this.side = 2 * fog + 1;
    this.observationSpace = dict({
      // The cells around the agent, row by row: 0 wall, 1 floor, 2 key, 3 door.
      view: box(0, 3, [this.side, this.side], "uint8"),
      place: multiDiscrete([this.rows, this.columns]),
      has_key: discrete(2),
    });
    this.actionSpace = discrete(4);
    // What every info has beside the observation.
    this.infoSpace = { distance: box(0, 1000, [], "int64") };
    // The mask is advice: `step` still gets closed moves, and they lead nowhere.
    this.actionMasked = true;
    this.maxEpisodeSteps = 500;
  }

  reset(random) {
    this.place = random.choice(this.starts);
    this.hasKey = false;
    return this.#view();
  }

  step(action, random) {
    const open = this.#openMoves();
    const moves = [0, 1, 2, 3].filter((move) => open[move]);
    const taken = random.random() < this.slip ? random.choice(moves) : action;
    if (open[taken]) this.place = [this.place[0] + MOVES[taken][0], this.place[1] + MOVES[taken][1]];
    const found = this.#at(0, 0) === "k" && !this.hasKey;
    this.hasKey ||= found;
    const terminated = this.#at(0, 0) === "d" && this.hasKey;
    return { ...this.#view(), reward: terminated ? 1 : found ? 0.5 : -0.01, terminated };
  }

  render(mode) {
    const shown = this.cells.map((cells) => [...cells]);
    shown[this.place[0]][this.place[1]] = this.hasKey ? "A" : "a";
    if (mode === "ansi") return shown.map((cells) => cells.join("")).join("\n");
    const [width, height] = [this.columns * TILE, this.rows * TILE];
    const pixels = new Uint8Array(height * width * 3);
    shown.forEach((cells, row) => {
      const line = cells.flatMap((cell) => Array(TILE).fill(COLOURS[cell]).flat());
      for (let y = row * TILE; y < (row + 1) * TILE; y++) pixels.set(line, y * width * 3);
    });
    return { width, height, pixels };
  }

  /** The cell so far from the agent; outside the maze there is wall. */
  #at(down, right) {
    return this.cells[this.place[0] + down]?.[this.place[1] + right] ?? "#";
  }

  /** Which moves do not lead into a wall. */
  #openMoves() {
    return MOVES.map(([down, right]) => this.#at(down, right) !== "#");
  }

  /** What `reset` and `step` answer both. */
  #view() {
    const view = new Uint8Array(this.side ** 2);
    let index = 0;
    for (let down = -this.fog; down <= this.fog; down++) {
      for (let right = -this.fog; right <= this.fog; right++) view[index++] = SEEN[this.#at(down, right)];
    }
    const [row, column] = this.goals[this.hasKey ? 1 : 0];
    return {
      observation: { view, place: this.place, has_key: this.hasKey },
      actionMask: this.#openMoves(),
      info: { distance: Math.abs(row - this.place[0]) + Math.abs(column - this.place[1]) },
    };
  }
}
