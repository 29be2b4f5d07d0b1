// A cart on a rail: push it to a place, and let it stand still there.

import { box } from "./rollcage.js";

/** Seconds between two states. */
const TAU = 0.05;
/** How far the rail goes to either side, in metres. */
const RAIL = 2;
/** The greatest speed, in metres a second. */
const SPEED = 10;

const clip = (number, bound) => Math.min(Math.max(number, -bound), bound);

export default class MyEnv {
  static about = {
    config: {
      friction: {
        type: "number", default: 0.1, minimum: 0, maximum: 1,
        description: "The part of its speed that the cart loses in a second.",
      },
    },
    renderModes: ["ansi"],
    renderFps: 20,
  };

  constructor({ friction }) {
    this.friction = friction;
    const high = [RAIL, SPEED, RAIL];
    this.observationSpace = box(high.map((bound) => -bound), high, [3]);
    this.actionSpace = box(-1, 1, [1]);
    // `step` clips pushes itself. Without this, those beyond 1 are refused.
    this.clipsActions = true;
    this.maxEpisodeSteps = 200;
  }

  reset(random) {
    this.position = random.uniform(-RAIL, RAIL);
    this.goal = random.uniform(-RAIL, RAIL);
    this.speed = 0;
    return { observation: this.#seen() };
  }

  step(action) {
    const push = clip(action[0], 1);
    this.speed = clip(this.speed * (1 - this.friction * TAU) + push * TAU, SPEED);
    this.position += this.speed * TAU;
    if (Math.abs(this.position) > RAIL) {
      // The end of the rail is soft.
      [this.position, this.speed] = [Math.sign(this.position) * RAIL, 0];
    }
    const away = Math.abs(this.position - this.goal);
    const terminated = away < 0.05 && Math.abs(this.speed) < 0.1;
    return { observation: this.#seen(), reward: terminated ? 10 : -away - 0.1 * push * push, terminated };
  }

  render() {
    const cells = Array(41).fill("-");
    for (const [place, mark] of [[this.goal, "|"], [this.position, "O"]]) cells[Math.round((place / RAIL + 1) * 20)] = mark;
    return cells.join("");
  }

  #seen() {
    return [this.position, this.speed, this.goal];
  }
}
