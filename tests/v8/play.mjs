// Plays an env on V8: a component that jco has transpiled, driven by the script on stdin. Writes an answer a line.
//
//   node play.mjs MODULE.js ANSWERS.jsonl < script.json
//
// The script: {"config": "{…}", "events": [{"reset": {"seed": "7"}} | {"action": "HEX"}, …]}. Seeds are texts, since a
// number here has 53 bits.

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const { environment } = await import(pathToFileURL(resolve(process.argv[2])).href);
const { config, events } = JSON.parse(readFileSync(0, "utf8"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const view = ({ observation, actionMask, info, infoExtra }) => ({
  observation: hex(observation),
  mask: hex(actionMask),
  info: hex(info),
  extra: infoExtra,
});

environment.create(config);
const answers = events.map((event) => {
  if (event.reset) {
    return view(environment.reset(event.reset.seed === null ? undefined : BigInt(event.reset.seed), undefined));
  }
  const { view: seen, reward, terminated, truncated } = environment.step(Buffer.from(event.action, "hex"));
  const bits = Buffer.alloc(8);
  bits.writeDoubleLE(reward);
  return { ...view(seen), reward: hex(bits), terminated, truncated };
});
// Into a file: jco's shim makes stdout one that takes a part of a write.
writeFileSync(process.argv[3], answers.map((answer) => JSON.stringify(answer) + "\n").join(""));
// The shim's threads would wait for more.
process.exit(0);
