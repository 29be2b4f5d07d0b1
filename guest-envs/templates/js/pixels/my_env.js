// A ball falls, and a bat catches it: what the agent sees is the picture.

import { box, discrete } from "./rollcage.js";

/** Pixels of a side. */
const SIDE = 84;

const clip = (number, low, high) => Math.min(Math.max(number, low), high);

export default class MyEnv {
  static about = {
    config: {
      balls: { type: "integer", default: 10, minimum: 1, maximum: 100, description: "Balls of an episode." },
      bat: { type: "integer", default: 12, minimum: 4, maximum: 40, description: "Width of the bat in pixels." },
    },
    renderModes: ["rgb_array"],
    renderFps: 30,
  };

  constructor({ balls, bat }) {
    Object.assign(this, { balls, bat });
    this.observationSpace = box(0, 255, [SIDE, SIDE, 1], "uint8");
    this.actionSpace = discrete(3);
  }

  reset(random) {
    [this.left, this.place] = [this.balls, Math.floor((SIDE - this.bat) / 2)];
    this.#drop(random);
    return { observation: this.#picture() };
  }

  step(action, random) {
    this.place = clip(this.place + 3 * (action - 1), 0, SIDE - this.bat);
    this.x = clip(this.x + this.drift, 0, SIDE - 2);
    this.y += 4;
    let reward = 0;
    if (this.y >= SIDE - 4) {
      reward = this.place - 1 <= this.x && this.x <= this.place + this.bat ? 1 : -1;
      this.left -= 1;
      this.#drop(random);
    }
    return { observation: this.#picture(), reward, terminated: this.left === 0 };
  }

  render() {
    const pixels = new Uint8Array(SIDE * SIDE * 3);
    this.#picture().forEach((grey, index) => pixels.fill(grey, 3 * index, 3 * index + 3));
    return { width: SIDE, height: SIDE, pixels };
  }

  #drop(random) {
    [this.x, this.y] = [random.integers(0, SIDE - 1), 0];
    this.drift = random.integers(-1, 2);
  }

  /** The grey pixels. A typed array of the space's dtype is copied as a whole; a list would be read number by number. */
  #picture() {
    const picture = new Uint8Array(SIDE * SIDE);
    const fill = (grey, row, column, width) => picture.fill(grey, row * SIDE + column, row * SIDE + column + width);
    for (let row = this.y; row < this.y + 2; row++) fill(255, row, this.x, 2);
    for (let row = SIDE - 3; row < SIDE; row++) fill(160, row, this.place, this.bat);
    return picture;
  }
}
