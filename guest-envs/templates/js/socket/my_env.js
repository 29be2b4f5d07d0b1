// A game behind a socket: the server has the state, the env asks it. The protocol is a line of JSON each way.

import { connect, discrete, multiDiscrete } from "./rollcage.js";

/** Guesses of an episode at most. */
const GUESSES = 12;
/** Bytes of an answer at most: a server may be somebody else's. */
const ANSWER_BYTES = 1024;

export default class MyEnv {
  static about = {
    config: {
      host: { type: "string", default: "127.0.0.1", minLength: 1, maxLength: 253, description: "Address of the server." },
      port: { type: "integer", default: 48800, minimum: 1, maximum: 65535, description: "Its port." },
    },
    renderModes: ["ansi"],
    renderFps: 4,
  };

  #server;

  constructor({ host, port }) {
    try {
      // `wants` in package.json asks for it, and who runs the env grants it: grants.toml does.
      this.#server = connect({ host, port });
    } catch (error) {
      throw new Error(`${error.message}; \`python3 server.py --port ${port}\` starts one`);
    }
    // How the last guess was (0 too low, 1 right, 2 too high), and the last guess.
    this.observationSpace = multiDiscrete([3, 100]);
    this.actionSpace = discrete(100);
    [this.guesses, this.said] = [0, [1, 0]];
  }

  reset(random) {
    // The server's randomness comes from the episode's seed: the same seed is the same number.
    this.#ask({ begin: random.integers(0, 2 ** 31) });
    [this.guesses, this.said] = [0, [1, 0]];
    return { observation: this.said };
  }

  step(guess) {
    const { answer } = this.#ask({ guess });
    if (![-1, 0, 1].includes(answer)) throw new Error("the server's answer is not -1, 0 or 1");
    this.guesses += 1;
    this.said = [answer + 1, guess];
    const terminated = answer === 0;
    return { observation: this.said, reward: terminated ? 1 : -0.1, terminated, truncated: this.guesses >= GUESSES };
  }

  render() {
    const [order, guess] = this.said;
    return `guess ${this.guesses}: ${guess} is ${["too low", "right", "too high"][order]}`;
  }

  close() {
    this.#server.close();
  }

  #ask(question) {
    this.#server.write(`${JSON.stringify(question)}\n`);
    const line = this.#server.readLine(ANSWER_BYTES);
    if (line === undefined) throw new Error("the server has closed the connection");
    return JSON.parse(line);
  }
}
