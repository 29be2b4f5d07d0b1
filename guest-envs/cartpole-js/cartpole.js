// CartPole in JavaScript, state for state Gymnasium's `CartPole-v1`: the twin of `guest-envs/cartpole`, with its digest.

import { box, discrete } from "./rollcage.js";

const GRAVITY = 9.8;
const MASS_POLE = 0.1;
const TOTAL_MASS = 0.1 + 1.0;
/** Half the pole's length, in metres. */
const LENGTH = 0.5;
const POLE_MASS_LENGTH = MASS_POLE * LENGTH;
/** The force of a push, in newtons. */
const FORCE = 10.0;
/** The time from one state to the next, in seconds. */
const TAU = 0.02;
/** Where an episode ends: the pole's angle in radians, the cart's position in metres. */
const THETA_LIMIT = (12 * 2 * Math.PI) / 360;
const X_LIMIT = 2.4;

export default class CartPole {
  static about = {
    config: {
      sutton_barto_reward: { type: "boolean", default: false, description: "Reward 0 for every step and -1 for the fall." },
    },
  };

  constructor(config) {
    this.config = config;
    const high = [X_LIMIT * 2, Infinity, THETA_LIMIT * 2, Infinity];
    this.observationSpace = box(high.map((bound) => -bound), high, [4]);
    this.actionSpace = discrete(2);
    this.maxEpisodeSteps = 500;
    this.rewardThreshold = 475;
  }

  reset(random) {
    this.state = [0, 0, 0, 0].map(() => random.uniform(-0.05, 0.05));
    return { observation: this.state };
  }

  step(action) {
    const [x, xDot, theta, thetaDot] = this.state;
    const force = action === 1 ? FORCE : -FORCE;
    const [sin, cos] = [Math.sin(theta), Math.cos(theta)];

    // R. V. Florian, "Correct equations for the dynamics of the cart-pole system", without friction.
    const push = (force + POLE_MASS_LENGTH * (thetaDot * thetaDot) * sin) / TOTAL_MASS;
    const thetaAcc = (GRAVITY * sin - cos * push) / (LENGTH * (4 / 3 - (MASS_POLE * (cos * cos)) / TOTAL_MASS));
    const xAcc = push - (POLE_MASS_LENGTH * thetaAcc * cos) / TOTAL_MASS;
    this.state = [x + TAU * xDot, xDot + TAU * xAcc, theta + TAU * thetaDot, thetaDot + TAU * thetaAcc];

    const terminated = Math.abs(this.state[0]) > X_LIMIT || Math.abs(this.state[2]) > THETA_LIMIT;
    const reward = this.config.sutton_barto_reward ? (terminated ? -1 : 0) : 1;
    return { observation: this.state, reward, terminated };
  }
}
