// A corridor: walk to its right end, over a floor that is slippery here and there.

import { discrete } from "./rollcage.js";

export default class MyEnv {
  static about = {
    config: {
      size: { type: "integer", default: 9, minimum: 3, maximum: 100, description: "Number of cells." },
      slip: { type: "number", default: 0.1, minimum: 0, maximum: 1, description: "Probability that a step goes the other way." },
    },
    renderModes: ["ansi"],
    renderFps: 10,
  };

  constructor({ size, slip }) {
    Object.assign(this, { size, slip });
    this.observationSpace = discrete(size);
    this.actionSpace = discrete(2);
    this.maxEpisodeSteps = 200;
  }

  reset(random) {
    this.at = random.integers(0, Math.floor(this.size / 2));
    return { observation: this.at };
  }

  step(action, random) {
    const forward = (action === 1) !== (random.random() < this.slip);
    this.at = Math.min(Math.max(this.at + (forward ? 1 : -1), 0), this.size - 1);
    const terminated = this.at === this.size - 1;
    return { observation: this.at, reward: terminated ? 1 : -0.01, terminated };
  }

  render() {
    return Array.from({ length: this.size }, (_, cell) => (cell === this.at ? "x" : ".")).join("");
  }
}
