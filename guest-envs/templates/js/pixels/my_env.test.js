// The env in node, without wasm and without the host. `rollcage check .` looks at much more.

import assert from "node:assert/strict";
import { test } from "node:test";

import MyEnv from "../my_env.js";
import { native } from "../rollcage.js";

test("a bat that follows the ball catches it", () => {
  const env = native(MyEnv, { balls: 5 });
  let picture = env.reset(7).observation;
  for (let sum = 0; ; ) {
    // Where a grey begins: 255 is the ball, 160 the bat, whose middle is 6 pixels further.
    const [ball, bat] = [255, 160].map((grey) => picture.indexOf(grey) % 84);
    const step = env.step(1 + Math.sign(ball - (bat + 6)));
    [picture, sum] = [step.observation, sum + step.reward];
    if (step.terminated) {
      assert.ok(sum >= 3, `${sum}`);
      return;
    }
  }
});

test("the rendered picture is the observation in grey", () => {
  const env = native(MyEnv);
  const seen = env.reset(3).observation;
  const { width, height, pixels } = env.render("rgb_array");
  assert.deepEqual([width, height], [84, 84]);
  assert.deepEqual([...pixels], [...seen].flatMap((grey) => [grey, grey, grey]));
});
