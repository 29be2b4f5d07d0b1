// The env in node, without wasm and without the host. node cannot wait for a socket, so the server is a stand-in: what the env
// says to it goes to a function. `rollcage check . --grants grants.toml` plays against the real one.

import assert from "node:assert/strict";
import { test } from "node:test";

import MyEnv from "../my_env.js";
import { host, native } from "../rollcage.js";

/** An env whose server answers as `answer` says: a question's object becomes a line, or `undefined` at the end. */
function play(answer) {
  host.connect = () => {
    const lines = [];
    return {
      write: (text) => lines.push(answer(JSON.parse(text))),
      readLine: () => lines.shift(),
      close: () => {},
    };
  };
  return native(MyEnv);
}

/** A server whose number is always 42. */
const fortyTwo = ({ guess }) => JSON.stringify(guess === undefined ? {} : { answer: Math.sign(guess - 42) });

test("the number is found", () => {
  const env = play(fortyTwo);
  env.reset(1);
  for (let low = 0, high = 99, guesses = 0; guesses < 7; guesses++) {
    const guess = Math.floor((low + high) / 2);
    const { observation, reward, terminated } = env.step(guess);
    if (terminated) {
      assert.deepEqual([guess, reward], [42, 1]);
      return;
    }
    if (observation[0] === 0) low = guess + 1;
    else high = guess - 1;
  }
  assert.fail("seven guesses are enough");
});

test("an episode has twelve guesses", () => {
  const env = play(fortyTwo);
  env.reset(1);
  const ends = Array.from({ length: 12 }, () => env.step(7).truncated);
  assert.equal(ends.indexOf(true), 11);
});

test("a server that goes or talks nonsense is an error", () => {
  assert.throws(() => play(() => undefined).reset(1), /the server has closed the connection/);
  const env = play(() => '{"answer": 7}');
  env.reset(1);
  assert.throws(() => env.step(0), /the server's answer is not -1, 0 or 1/);
});
