// The SDK in node: `node --test guest-envs/js/rollcage.test.js`. What needs the cage is in `tests/tests/authors.rs`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { box, connect, dict, discrete, host, native, serve, tuple } from "./rollcage.js";

/** The bytes of a value of a space. */
function bytes(space, value) {
  const to = new Uint8Array(space.size);
  space.write("a value", value, to, 0);
  return [...to];
}

test("a list and a typed array are the same bytes", () => {
  for (const [dtype, array] of [["uint8", Uint8Array], ["float32", Float32Array], ["int64", BigInt64Array]]) {
    const big = dtype === "int64";
    const space = box(0, 100, [2, 2], dtype);
    const typed = array.from([1, 2, 3, 4], (each) => (big ? BigInt(each) : each));
    assert.deepEqual(bytes(space, typed), bytes(space, [[1, 2], [3, 4]]));
    assert.deepEqual(bytes(space, [1, 2, 3, 4]), bytes(space, [[1, 2], [3, 4]]));
    // A part of a greater array is that part.
    const greater = array.from([9, 1, 2, 3, 4, 9], (each) => (big ? BigInt(each) : each));
    assert.deepEqual(bytes(space, greater.subarray(1, 5)), bytes(space, typed));
    assert.throws(() => bytes(space, typed.subarray(1)), /4 numbers are expected, not 3/);
    assert.throws(() => bytes(space, [[1, 2], {}]), /4 numbers are expected, not 2/);
    assert.throws(() => bytes(space, "1234"), /numbers are expected, not string/);
    assert.deepEqual(bytes(space, new Set([1, 2, 3, 4])), bytes(space, typed));
    assert.deepEqual(bytes(space, [true, "2", [typed.subarray(2)]]), bytes(space, typed));
  }
  assert.deepEqual(bytes(box(0, 255, [2], "uint8"), Float32Array.of(7, 8)), [7, 8]);
  assert.deepEqual(bytes(box(0, 1, [2], "boolean"), Uint8Array.of(7, 0)), [1, 0]);
});

test("a Dict keeps the order of its keys", () => {
  const space = dict({ view: discrete(2), at: tuple(discrete(3), discrete(4)) });
  const [root, first, second] = space.nodes();
  assert.deepEqual([root.val.keys, first.tag, second.tag], [["view", "at"], "discrete", "tuple"]);
  assert.deepEqual(space.read(Uint8Array.from(bytes(space, { at: [2, 3], view: 1 })), 0), { view: 1, at: [2, 3] });
});

/** An env with declared and other info, and pictures of two kinds. */
class Told {
  static about = { config: {}, renderModes: ["rgb_array", "ansi"] };
  constructor() {
    this.observationSpace = box(0, 255, [2], "uint8");
    this.actionSpace = discrete(2);
    this.infoSpace = { far: box(0, 9, [], "int64"), near: discrete(9) };
  }
  reset() {
    return { observation: Uint8Array.of(1, 2), info: { near: 3, word: "hello" } };
  }
  step(action) {
    return { observation: [action, 2], reward: action, info: { far: 7 }, terminated: action === 1 };
  }
  render(mode) {
    return mode === "ansi" ? "x" : { width: 1, height: 1, pixels: [1, 2, 3] };
  }
}

test("natively info has its declared fields and the others", () => {
  const env = native(Told);
  assert.deepEqual(env.reset(1).info, { near: 3, word: "hello" });
  assert.deepEqual(env.step(0).info, { far: 7n });
  assert.deepEqual([env.render("ansi"), env.render("rgb_array").pixels], ["x", Uint8Array.of(1, 2, 3)]);
});

test("many steps are the steps one by one", () => {
  const begun = () => {
    const env = serve(Told, {});
    env.create("{}");
    env.reset(1, null);
    return env;
  };
  const action = (value) => Uint8Array.from(bytes(discrete(2), value));
  const many = begun().stepMany(Uint8Array.of(...action(0), ...action(1), ...action(0)), 3);
  const one = begun();
  const each = [one.step(action(0)), one.step(action(1))];
  assert.deepEqual([many.taken, many.terminated, [...many.rewards]], [2, true, [0, 1]]);
  assert.deepEqual([...many.observations], each.flatMap(({ view }) => [...view.observation]));
  assert.deepEqual([...many.infos], each.flatMap(({ view }) => [...view.info]));
});

test("package.json's wants are the plugin's", () => {
  const want = { kind: "tcp-connect", example: "", reason: "the server", required: true };
  assert.deepEqual(serve(Told, { wants: [want] }).describe().wants, [want]);
});

// Connections, over what stands for wasi:sockets.

const closed = () => Object.assign(new Error("closed"), { payload: { tag: "closed" } });

/** Sockets whose other side sends these parts and then closes. `left` counts what was not given back. */
function sockets(parts, { refused, addresses = [[127, 0, 0, 1]] } = {}) {
  const seen = { sent: [], left: 0, asked: [] };
  const resource = (more) => {
    seen.left += 1;
    return { ...more, [Symbol.dispose]: () => (seen.left -= 1) };
  };
  const pollable = () => resource({ block: () => {} });
  const queue = addresses.map((val) => ({ tag: val.length === 4 ? "ipv4" : "ipv6", val }));
  host.sockets = {
    instanceNetwork: () => resource({}),
    resolveAddresses: () => resource({ subscribe: pollable, resolveNextAddress: () => queue.shift() ?? null }),
    createTcpSocket: (family) =>
      resource({
        startConnect: (_, { val }) => seen.asked.push([family, val.address.length, val.port]),
        subscribe: pollable,
        finishConnect: () => {
          if (refused > seen.asked.length - 1) throw Object.assign(new Error("x"), { payload: "connection-refused" });
          const input = resource({
            blockingRead: (length) => {
              if (parts.length === 0) throw closed();
              const part = Uint8Array.from(parts.shift(), (each) => each.charCodeAt(0));
              assert.ok(part.length <= length);
              return part;
            },
          });
          const output = resource({
            blockingWriteAndFlush: (part) => {
              if (seen.refuses) throw closed();
              assert.ok(part.length <= 4096);
              seen.sent.push(...part);
            },
          });
          return [input, output];
        },
      }),
  };
  return seen;
}

test("lines are read as they come, and the end is told", () => {
  const seen = sockets(["on", "e\ntwo\r", "\n\nf\xc3\xbc", "nf\nrest"]);
  const server = connect({ host: "localhost", port: 7 });
  const lines = Array.from({ length: 6 }, () => server.readLine());
  assert.deepEqual(lines, ["one", "two", "", "fünf", "rest", undefined]);
  assert.deepEqual(seen.asked, [["ipv4", 4, 7]]);
  server.close();
  server.close();
  assert.equal(seen.left, 0);
  assert.throws(() => server.readLine(), /the connection to localhost, port 7 is closed/);
});

test("bytes are read and written in parts", () => {
  const seen = sockets(["abcdef", "g\nh"]);
  const server = connect({ host: "localhost", port: 7 });
  assert.deepEqual([...server.read()], [..."abcdef"].map((each) => each.charCodeAt(0)));
  assert.equal(server.readLine(), "g");
  assert.deepEqual([server.read().length, server.read().length], [1, 0]);
  server.write("é");
  server.write(new Uint8Array(10_000));
  assert.deepEqual([seen.sent.slice(0, 2), seen.sent.length], [[0xc3, 0xa9], 10_002]);
  seen.refuses = true;
  assert.throws(() => server.write("x"), /^Error: localhost, port 7 cannot be written to: it has closed the connection$/);
});

test("a line that is too long or no text is an error", () => {
  sockets(["123456", "7\n"]);
  assert.throws(() => connect({ host: "localhost", port: 7 }).readLine(5), /a line of more than 5 bytes/);
  sockets(["1234567\n"]);
  assert.throws(() => connect({ host: "localhost", port: 7 }).readLine(5), /a line of more than 5 bytes/);
  sockets(["12345\n"]);
  assert.equal(connect({ host: "localhost", port: 7 }).readLine(5), "12345");
  sockets(["\xff\n"]);
  assert.throws(() => connect({ host: "localhost", port: 7 }).readLine(), /a line of localhost, port 7 is not UTF-8/);
});

test("every address of a name is tried, and the first failure told", () => {
  const two = [[0, 0, 0, 0, 0, 0, 0, 1], [127, 0, 0, 1]];
  const seen = sockets([], { addresses: two, refused: 1 });
  connect({ host: "localhost", port: 7 });
  assert.deepEqual(seen.asked, [["ipv6", 8, 7], ["ipv4", 4, 7]]);
  const all = sockets([], { addresses: two, refused: 2 });
  assert.throws(() => connect({ host: "localhost", port: 7 }), /^Error: localhost, port 7 cannot be reached: connection refused$/);
  assert.equal(all.left, 0);
});

test("natively a connection is a test's own", () => {
  host.sockets = undefined;
  assert.throws(() => connect({ host: "localhost", port: 7 }), /node cannot wait for a socket/);
  host.connect = (to) => to;
  assert.deepEqual(connect({ host: "localhost", port: 7 }), { host: "localhost", port: 7 });
});
