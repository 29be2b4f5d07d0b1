// The env in node, without wasm and without the host. `rollcage check .` looks at much more.

import assert from "node:assert/strict";
import { test } from "node:test";

import MyEnv from "../my_env.js";
import { native } from "../rollcage.js";

test("the right end is reached", () => {
  const env = native(MyEnv, { slip: 0 });
  let at = env.reset(7).observation;
  for (let step = 0; step < 8 && at < 8; step++) at = env.step(1).observation;
  assert.equal(at, 8);
});

test("equal seeds are equal episodes", () => {
  const play = () => {
    const env = native(MyEnv);
    env.reset(3);
    return Array.from({ length: 5 }, () => env.step(1).observation);
  };
  assert.deepEqual(play(), play());
});
