// The env in node, without wasm and without the host. `rollcage check .` looks at much more.

import assert from "node:assert/strict";
import { test } from "node:test";

import MyEnv from "../my_env.js";
import { native, Random } from "../rollcage.js";

test("the key opens the door", () => {
  const env = native(MyEnv, { slip: 0 });
  let { observation, actionMask } = env.reset(7);
  assert.equal(observation.has_key, 0);
  // Open moves at random lead to the key at last, and then to the door.
  const random = new Random(7);
  let sum = 0;
  for (let steps = 0; steps < 100_000; steps++) {
    const open = [0, 1, 2, 3].filter((move) => actionMask[move]);
    const step = env.step(random.choice(open));
    sum += Math.max(step.reward, 0);
    if (step.terminated) {
      assert.deepEqual([step.info.distance, sum], [0n, 1.5]);
      return;
    }
    actionMask = step.actionMask;
  }
  assert.fail("the door was never reached");
});

test("walls stop the agent", () => {
  const env = native(MyEnv, { slip: 0 });
  let before = env.reset(1);
  for (let steps = 0; steps < 10; steps++) {
    const after = env.step(0);
    const [row, column] = before.observation.place;
    assert.deepEqual(after.observation.place, [before.actionMask[0] ? row - 1 : row, column]);
    before = after;
  }
});

test("there are two pictures", () => {
  const env = native(MyEnv);
  env.reset(1);
  assert.match(env.render("ansi"), /^##########\n[^]*a/);
  const { width, height, pixels } = env.render("rgb_array");
  assert.deepEqual([width, height, pixels.length], [160, 112, 160 * 112 * 3]);
});
