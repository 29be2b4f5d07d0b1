// The env in node, without wasm and without the host. `rollcage check .` looks at much more.

import assert from "node:assert/strict";
import { test } from "node:test";

import MyEnv from "../my_env.js";
import { native } from "../rollcage.js";

test("the goal is reached", () => {
  const env = native(MyEnv);
  let { observation } = env.reset(7);
  for (let steps = 0; steps < 1000; steps++) {
    // Towards the goal, and the more gently the faster the cart goes there.
    const [position, speed, goal] = observation;
    const step = env.step([goal - position - 2 * speed]);
    if (step.terminated) {
      assert.equal(step.reward, 10);
      return;
    }
    observation = step.observation;
  }
  assert.fail(`the cart stands still at ${observation}`);
});

test("a push is clipped", () => {
  const after = (push) => {
    const env = native(MyEnv);
    env.reset(3);
    const { observation, reward } = env.step([push]);
    return { observation, reward };
  };
  assert.deepEqual(after(5), after(1));
  assert.notDeepEqual(after(0.5), after(1));
});
