// The SDK for environments in JavaScript: a class with Gymnasium's words becomes a rollcage plugin.
//
// `rollcage build` makes an entry that calls `serve` with the project's class. The class has
//
//   static about        { config, options, renderModes, renderFps }, all optional; `config` has a JSON Schema for each key, with
//                       its default
//   constructor(config) sets `observationSpace` and `actionSpace`; may set `actionMasked`, `infoSpace` (an object of spaces by
//                       key), `maxEpisodeSteps`, `rewardThreshold`, `clipsActions` (it takes actions beyond their bounds)
//   reset(random, options)   begins an episode: { observation, actionMask, info }
//   step(action, random)     takes a step: the same, and { reward, terminated, truncated }
//   render(mode), close()    optional; a picture is { width, height, pixels }, a text a string
//
// Every other method can be called from outside, and every public property read and set.

/**
 * What the plugin is linked to; `rollcage build` sets it. Natively files are read from the working directory, and a test may set
 * `connect` to a function that gives a stand-in for a connection.
 */
export const host = { assets: undefined, stderr: undefined, sockets: undefined, connect: undefined };

// Errors ----------------------------------------------------------------------------------------------------------------------

/** The action cannot be taken now; the env is as it was. */
export class InvalidAction extends Error {}
/** The reset options are not understood; the env is as it was. */
export class InvalidOptions extends Error {}
/** The env has no such method or cannot do this. */
export class Unsupported extends Error {}
/** The env asks for a new instance in its place. */
export class Restart extends Error {}
/** A mistake in the config that the schema cannot express. `path` names the key. */
export class ConfigError extends Error {
  constructor(path, message) {
    super(message);
    this.path = path;
  }
}

// Randomness ------------------------------------------------------------------------------------------------------------------

const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const PCG_MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** The state of numpy's `SeedSequence(seed, spawn_key=spawn).generate_state(4, uint64)`. */
function seedSequence(seed, spawn) {
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    let mixed = (value ^ constant) >>> 0;
    constant = Math.imul(constant, 0x931e8875) >>> 0;
    mixed = Math.imul(mixed, constant) >>> 0;
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
  const mix = (x, y) => {
    const mixed = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) >>> 0;
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
  const words = [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn), 0, 0, ...spawn];
  const pool = words.slice(0, 4).map(hash);
  for (let source = 0; source < 4; source++) {
    for (let target = 0; target < 4; target++) {
      if (source !== target) pool[target] = mix(pool[target], hash(pool[source]));
    }
  }
  for (const word of words.slice(4)) {
    for (let target = 0; target < 4; target++) pool[target] = mix(pool[target], hash(word));
  }
  constant = 0x8b51f9dd;
  const out = Array.from({ length: 8 }, (_, index) => {
    let mixed = (pool[index % 4] ^ constant) >>> 0;
    constant = Math.imul(constant, 0x58f38ded) >>> 0;
    mixed = Math.imul(mixed, constant) >>> 0;
    return BigInt((mixed ^ (mixed >>> 16)) >>> 0);
  });
  return [0, 1, 2, 3].map((index) => out[2 * index] | (out[2 * index + 1] << 32n));
}

/** numpy's default generator (`SeedSequence`, PCG64), draw for draw: what Gymnasium's `np_random(seed)` gives. */
export class Random {
  #state;
  #increment;
  #half = undefined;

  constructor(seed, spawn = []) {
    if (seed === undefined) return; // `clone` fills it
    const [a, b, c, d] = seedSequence(BigInt(seed) & MASK_64, spawn);
    this.#increment = ((((c << 64n) | d) << 1n) | 1n) & MASK_128;
    this.#state = (this.#increment + ((a << 64n) | b)) & MASK_128;
    this.#advance();
  }

  #advance() {
    this.#state = (this.#state * PCG_MULTIPLIER + this.#increment) & MASK_128;
  }

  /** 64 bits, as a BigInt. */
  bits64() {
    this.#advance();
    const mixed = (this.#state >> 64n) ^ (this.#state & MASK_64);
    const turn = this.#state >> 122n;
    return ((mixed >> turn) | (mixed << (64n - turn))) & MASK_64;
  }

  /** 32 bits, as a number: the low half of a 64-bit draw first, then the high one. */
  bits32() {
    if (this.#half !== undefined) {
      const half = this.#half;
      this.#half = undefined;
      return half;
    }
    const both = this.bits64();
    this.#half = Number(both >> 32n);
    return Number(both & 0xffffffffn);
  }

  /** `Generator.random()`: from 0 up to but without 1. */
  random() {
    return Number(this.bits64() >> 11n) / 9007199254740992;
  }

  /** `Generator.uniform(low, high)`. */
  uniform(low, high) {
    return low + (high - low) * this.random();
  }

  /** `Generator.integers(low, high)`: from `low` up to but without `high`, by Lemire's method. */
  integers(low, high) {
    if (!(Number.isSafeInteger(low) && Number.isSafeInteger(high) && low < high)) {
      throw new RangeError(`integers(${low}, ${high}): two whole numbers are expected, the first the lesser`);
    }
    const last = high - low - 1;
    if (last === 0) return low;
    if (last === 0xffffffff) return low + this.bits32();
    const wide = last > 0xffffffff;
    const bits = wide ? 64n : 32n;
    const count = BigInt(last) + 1n;
    const draw = () => (wide ? this.bits64() : BigInt(this.bits32())) * count;
    const low_bits = (product) => product & ((1n << bits) - 1n);
    let product = draw();
    if (low_bits(product) < count) {
      const threshold = ((1n << bits) - count) % count;
      while (low_bits(product) < threshold) product = draw();
    }
    return low + Number(product >> bits);
  }

  /** `Generator.choice(items)`: one of the items. */
  choice(items) {
    return items[this.integers(0, items.length)];
  }

  /** The same generator at the same place, for a draw that should leave no trace. */
  clone() {
    const twin = new Random();
    [twin.#state, twin.#increment, twin.#half] = [this.#state, this.#increment, this.#half];
    return twin;
  }
}

// Spaces ----------------------------------------------------------------------------------------------------------------------

const ARRAYS = {
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array, uint16: Uint16Array,
  uint32: Uint32Array, uint64: BigUint64Array, float32: Float32Array, float64: Float64Array,
};

const product = (shape) => shape.reduce((all, length) => all * length, 1);
const aligned = (offset, alignment) => Math.ceil(offset / alignment) * alignment;
const kind = (value) => (value === null ? "null" : Array.isArray(value) ? "an array" : typeof value);

/** A flat list of numbers of nested lists and typed arrays, of the expected length. */
function flat(what, value, length) {
  const list = typeof value === "number" || typeof value === "bigint" || typeof value === "boolean" ? [value] : value;
  if (list === undefined || list === null || list[Symbol.iterator] === undefined || typeof list === "string") {
    throw new TypeError(`${what}: numbers are expected, not ${kind(value)}`);
  }
  const numbers = ArrayBuffer.isView(list) ? list : gathered(Array.isArray(list) ? list : Array.from(list), []);
  if (numbers.length !== length) throw new TypeError(`${what}: ${length} numbers are expected, not ${numbers.length}`);
  return numbers;
}

/** The numbers of nested lists and typed arrays, one after the other. A loop, since QuickJS takes its time over closures. */
function gathered(list, numbers) {
  for (let index = 0; index < list.length; index++) {
    const each = list[index];
    if (typeof each === "object" && each !== null) gathered(each, numbers);
    else numbers.push(each);
  }
  return numbers;
}

/** The bytes of numbers. A typed array of the dtype is its own bytes; every other list is read number by number. */
function bytesOf(dtype, what, value, length) {
  if (dtype !== "boolean" && value instanceof ARRAYS[dtype] && value.length === length) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  }
  const numbers = flat(what, value, length);
  const big = dtype === "int64" || dtype === "uint64";
  if (dtype === "boolean") return Uint8Array.from(numbers, (each) => (each ? 1 : 0));
  const array = new ARRAYS[dtype](length);
  for (let index = 0; index < length; index++) {
    const each = numbers[index];
    array[index] = big ? BigInt(each) : typeof each === "number" ? each : Number(each);
  }
  return new Uint8Array(array.buffer);
}

function integer(what, value) {
  if (typeof value === "boolean") return value ? 1n : 0n;
  if (typeof value !== "bigint" && !Number.isSafeInteger(value)) {
    throw new TypeError(`${what}: a whole number is expected, not ${typeof value === "number" ? value : kind(value)}`);
  }
  return BigInt(value);
}

/**
 * Gymnasium's Box. `low` and `high` are one number for all elements, or a list. dtype: numpy's name, all but float16. A value is a
 * list of numbers, nested or flat. The typed array of the dtype, flat, is by far the quickest: it is copied as a whole.
 */
export function box(low, high, shape, dtype = "float32") {
  if (dtype !== "boolean" && ARRAYS[dtype] === undefined) throw new TypeError(`box: the dtype ${dtype} is not known`);
  const length = product(shape);
  const size = dtype === "boolean" ? 1 : ARRAYS[dtype].BYTES_PER_ELEMENT;
  const bound = (bound) => bytesOf(dtype, "a bound", bound, typeof bound === "number" ? 1 : length);
  return {
    alignment: size,
    size: size * length,
    nodes: () => [{ tag: "box", val: { dtype, shape: Uint32Array.from(shape), low: bound(low), high: bound(high) } }],
    write: (what, value, to, at) => to.set(bytesOf(dtype, what, value, length), at),
    read: (from, at) => {
      const bytes = from.slice(at, at + size * length);
      const array = dtype === "boolean" ? bytes : new ARRAYS[dtype](bytes.buffer);
      return shape.length === 0 ? array[0] : array;
    },
    choices: [],
  };
}

/** Gymnasium's Discrete: `start`, ..., `start + n - 1`. */
export function discrete(n, start = 0) {
  return {
    alignment: 8,
    size: 8,
    nodes: () => [{ tag: "discrete", val: { n, start } }],
    write: (what, value, to, at) => new DataView(to.buffer).setBigInt64(at, integer(what, value), true),
    read: (from, at) => Number(new DataView(from.buffer, from.byteOffset).getBigInt64(at, true)),
    choices: [n],
  };
}

/** Gymnasium's MultiDiscrete. `nvec` is a list, as is `start`. */
export function multiDiscrete(nvec, start = nvec.map(() => 0)) {
  return {
    alignment: 8,
    size: 8 * nvec.length,
    nodes: () => [{ tag: "multi-discrete", val: { shape: Uint32Array.of(nvec.length), nvec, start } }],
    write: (what, value, to, at) => {
      const view = new DataView(to.buffer);
      flat(what, value, nvec.length).forEach((each, index) => view.setBigInt64(at + 8 * index, integer(what, each), true));
    },
    read: (from, at) => {
      const view = new DataView(from.buffer, from.byteOffset);
      return nvec.map((_, index) => Number(view.getBigInt64(at + 8 * index, true)));
    },
    choices: nvec,
  };
}

/** Gymnasium's MultiBinary: `n` times 0 or 1. */
export function multiBinary(n) {
  return {
    alignment: 1,
    size: n,
    nodes: () => [{ tag: "multi-binary", val: { shape: Uint32Array.of(n) } }],
    write: (what, value, to, at) => to.set(bytesOf("boolean", what, value, n), at),
    read: (from, at) => from.slice(at, at + n),
    choices: [],
  };
}

function composite(tag, names, children) {
  const alignment = 8;
  const places = [];
  let size = 0;
  for (const child of children) {
    size = aligned(size, child.alignment);
    places.push(size);
    size += child.size;
  }
  const isDict = tag === "dict";
  return {
    alignment,
    size: aligned(size, 8),
    nodes: () => {
      const nodes = [undefined];
      const indices = children.map((child) => {
        const own = child.nodes();
        const first = nodes.length;
        for (const node of own) {
          if (node.val.children) node.val.children = node.val.children.map((index) => index + first);
          nodes.push(node);
        }
        return first;
      });
      nodes[0] = { tag, val: isDict ? { keys: names, children: Uint32Array.from(indices) } : { children: Uint32Array.from(indices) } };
      return nodes;
    },
    write: (what, value, to, at) =>
      children.forEach((child, index) => {
        const name = names[index];
        if (value?.[name] === undefined) throw new TypeError(`${what}: \`${name}\` is missing`);
        child.write(`${what}.${name}`, value[name], to, at + places[index]);
      }),
    read: (from, at) => {
      const values = children.map((child, index) => child.read(from, at + places[index]));
      return isDict ? Object.fromEntries(names.map((name, index) => [name, values[index]])) : values;
    },
    choices: children.flatMap((child) => child.choices),
  };
}

/**
 * Gymnasium's Dict: an object of spaces. Its keys keep their order, as those of `spaces.Dict(view=…, place=…)` do; Gymnasium sorts
 * those of `spaces.Dict({…})`.
 */
export function dict(spaces) {
  const names = Object.keys(spaces);
  return composite("dict", names, names.map((name) => spaces[name]));
}

/** Gymnasium's Tuple: a list of spaces. */
export function tuple(...spaces) {
  return composite("tuple", spaces.map((_, index) => index), spaces);
}

// Files of the plugin, log ----------------------------------------------------------------------------------------------------

// QuickJS has no TextEncoder and no TextDecoder.
const encoded = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (each) => each.charCodeAt(0));

function decoded(what, bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  try {
    return decodeURIComponent(escape(text));
  } catch {
    throw new TypeError(`${what} is not UTF-8`);
  }
}

/** A file that `assets` in package.json names, as bytes. */
export function asset(path) {
  if (host.assets === undefined) return new Uint8Array(process.getBuiltinModule("node:fs").readFileSync(path));
  const size = host.assets.size(path);
  if (size === undefined || size === null) throw new Error(`the plugin has no asset \`${path}\``);
  const bytes = new Uint8Array(Number(size));
  for (let at = 0; at < bytes.length; ) {
    const part = host.assets.read(path, at, 1 << 20);
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A file that `assets` in package.json names, as text (UTF-8). */
export function assetText(path) {
  return decoded(`the asset \`${path}\``, asset(path));
}

/** Writes a line to the env's log. */
export function log(...values) {
  const line = values.map((value) => (typeof value === "string" ? value : JSON.stringify(value) ?? String(value))).join(" ");
  if (host.stderr === undefined) console.error(line);
  else host.stderr(line);
}

// Connections -----------------------------------------------------------------------------------------------------------------

/** Bytes that are read or written at once. */
const CHUNK = 4096;

/** A TCP connection, as `connect` gives it. Its calls wait. They need no timeout: the host ends a step that takes too long. */
class Connection {
  #parts;
  #input;
  #output;
  /** What was read and not given yet. */
  #rest = new Uint8Array();
  #peer;

  /** `parts` are what has to be given back at the end, in this order. */
  constructor(peer, input, output, parts) {
    [this.#peer, this.#input, this.#output, this.#parts] = [peer, input, output, parts];
  }

  /** The next bytes, from 1 up to `length`; none if the other side has closed the connection. */
  read(length = CHUNK) {
    if (this.#rest.length === 0) this.#rest = this.#receive(length);
    const given = this.#rest.slice(0, length);
    this.#rest = this.#rest.slice(length);
    return given;
  }

  /**
   * The next line, without its end, as text (UTF-8); `undefined` if the other side has closed the connection. A line of more than
   * `max` bytes is an error: the other side may be somebody else's.
   */
  readLine(max = 1 << 20) {
    let [line, from] = [this.#rest, 0];
    for (;;) {
      const end = line.indexOf(10, from);
      if (end > max || (end < 0 && line.length > max)) {
        throw new Error(`${this.#peer} has sent a line of more than ${max} bytes`);
      }
      if (end >= 0) {
        this.#rest = line.slice(end + 1);
        return decoded(`a line of ${this.#peer}`, line.subarray(0, line[end - 1] === 13 ? end - 1 : end));
      }
      from = line.length;
      const more = this.#receive(CHUNK);
      if (more.length === 0) {
        this.#rest = more;
        return from === 0 ? undefined : decoded(`a line of ${this.#peer}`, line);
      }
      const both = new Uint8Array(from + more.length);
      both.set(line);
      both.set(more, from);
      line = both;
    }
  }

  /** Sends bytes, or a text as UTF-8. */
  write(data) {
    const bytes = typeof data === "string" ? encoded(data) : data;
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const part = bytes.slice(at, at + CHUNK);
      this.#asked("cannot be written to", () => this.#output.blockingWriteAndFlush(part));
    }
  }

  /** Ends the connection. */
  close() {
    for (const part of this.#parts.splice(0)) part[Symbol.dispose]();
  }

  #receive(length) {
    return this.#asked("cannot be read from", () => this.#input.blockingRead(length)) ?? new Uint8Array();
  }

  /** What a stream answers; `undefined` if the other side has closed it before something was read. */
  #asked(what, ask) {
    if (this.#parts.length === 0) throw new Error(`the connection to ${this.#peer} is closed`);
    try {
      return ask();
    } catch (error) {
      const { tag, val } = error.payload ?? {};
      if (tag === "closed" && what.endsWith("from")) return undefined;
      const why = tag === "closed" ? "it has closed the connection" : (val?.toDebugString?.() ?? error.message);
      throw new Error(`${this.#peer} ${what}: ${why}`);
    }
  }
}

/**
 * Connects to a TCP server, and waits until it answers: `connect({ host: "127.0.0.1", port: 48800 })`, which has `read`, `readLine`,
 * `write` and `close`. package.json has to want it (`rollcage.wants`), and who runs the env has to grant it. node cannot wait for
 * a socket, so tests set `host.connect` to a stand-in.
 */
export function connect({ host: name, port }) {
  if (host.connect !== undefined) return host.connect({ host: name, port });
  if (host.sockets === undefined) {
    throw new Error(
      host.assets === undefined
        ? "node cannot wait for a socket: a test sets `host.connect` to a function that gives a stand-in"
        : "`rollcage.wants` in package.json has no want of the kind tcp-connect",
    );
  }
  const peer = `${name}, port ${port}`;
  let failure;
  for (const address of addresses(name)) {
    try {
      return connected(peer, address, port);
    } catch (error) {
      // The next address may be the one that answers.
      failure ??= error;
    }
  }
  throw new Error(`${peer} cannot be reached: ${words(failure)}`);
}

/** What an error of WASI's says: `connection-refused` is "connection refused". */
function words(error) {
  if (error?.payload === "access-denied") return "it is not granted";
  return typeof error?.payload === "string" ? error.payload.replaceAll("-", " ") : String(error?.message);
}

/** Gives resources back, after work with them. */
function using(resources, work) {
  try {
    return work(...resources);
  } finally {
    for (const resource of resources) resource[Symbol.dispose]();
  }
}

/** The addresses of a name, or the one that is written. */
function addresses(name) {
  try {
    return using([host.sockets.instanceNetwork()], (network) =>
      using([host.sockets.resolveAddresses(network, name)], (found) => {
        using([found.subscribe()], (pollable) => pollable.block());
        const all = [];
        for (let next; (next = found.resolveNextAddress()) != null; ) all.push(next);
        return all;
      }),
    );
  } catch (error) {
    throw new Error(`${name} cannot be looked up: ${words(error)}`);
  }
}

function connected(peer, { tag, val: address }, port) {
  const socket = host.sockets.createTcpSocket(tag);
  try {
    const to = tag === "ipv4" ? { port, address } : { port, address, flowInfo: 0, scopeId: 0 };
    using([host.sockets.instanceNetwork()], (network) => socket.startConnect(network, { tag, val: to }));
    using([socket.subscribe()], (pollable) => pollable.block());
    const [input, output] = socket.finishConnect();
    return new Connection(peer, input, output, [input, output, socket]);
  } catch (error) {
    socket[Symbol.dispose]();
    throw error;
  }
}

// The plugin ------------------------------------------------------------------------------------------------------------------

const OWN = new Set(["constructor", "reset", "step", "render", "close"]);

/** An error of the interface. The tool hands its `payload` over. */
class Told extends Error {
  constructor(payload) {
    super(payload.tag);
    this.payload = payload;
  }
}

function fail(tag, val) {
  throw new Told(val === undefined ? { tag } : { tag, val });
}

/** The first place of an error in the author's files. */
function place(error) {
  const lines = String(error.stack ?? "").split("\n").filter((line) => !line.includes("rollcage.js"));
  const found = lines.map((line) => line.match(/\/([^/()\s]+\.m?js:\d+)/)).find((match) => match);
  return found ? ` (${found[1]})` : "";
}

/** Answers that the env cannot go on: its log has the stack. */
function failed(error) {
  if (!(error instanceof Error)) fail("failed", `thrown: ${error}`);
  log(`${error.name}: ${error.message}\n${error.stack}`);
  fail("failed", `${error.name}: ${error.message}${place(error)}`);
}

/** Turns what the author's code threw into the interface's error. */
function answer(error) {
  if (error instanceof Told) throw error;
  const message = String(error?.message ?? error);
  if (error instanceof InvalidAction) fail("invalid-action", message);
  if (error instanceof InvalidOptions) fail("invalid-options", message);
  if (error instanceof Unsupported) fail("unsupported", message);
  if (error instanceof Restart) fail("restart", message);
  failed(error);
}

function guarded(work) {
  try {
    return work();
  } catch (error) {
    answer(error);
  }
}

function value(space, what, given) {
  const bytes = new Uint8Array(aligned(space.size, 8));
  space.write(what, given, bytes, 0);
  return bytes;
}

const json = (what, given) => {
  const text = JSON.stringify(given, (_, each) => (ArrayBuffer.isView(each) ? Array.from(each, Number) : each));
  if (text === undefined && given !== undefined) throw new Unsupported(`${what} has no JSON form`);
  return text ?? "null";
};

/** One env of a class, between bytes and the author's values. */
class Session {
  constructor(Env, config) {
    this.env = new Env(config);
    for (const name of ["observationSpace", "actionSpace"]) {
      if (typeof this.env[name]?.nodes !== "function") throw new TypeError(`the constructor sets no \`${name}\``);
    }
    this.choices = this.env.actionMasked ? this.env.actionSpace.choices.reduce((all, n) => all + n, 0) : 0;
    this.fields = Object.entries(this.env.infoSpace ?? {});
    // One byte a field says whether it is there, and then come the fields.
    this.infoSize = aligned(this.fields.length, 8);
    this.places = this.fields.map(([, space]) => {
      const at = aligned(this.infoSize, space.alignment);
      this.infoSize = at + space.size;
      return at;
    });
    this.generators = [];
    this.phase = "needs-reset";
  }

  spec() {
    const { env } = this;
    return {
      observationSpace: { nodes: env.observationSpace.nodes() },
      actionSpace: { nodes: env.actionSpace.nodes() },
      actionMasked: Boolean(env.actionMasked),
      actionsOutOfBounds: env.clipsActions ? "pass" : "refuse",
      infoFields: this.fields.map(([name, space]) => ({ name, space: { nodes: space.nodes() } })),
      maxEpisodeSteps: env.maxEpisodeSteps,
      rewardThreshold: env.rewardThreshold,
    };
  }

  seed(seed) {
    this.generators = [new Random(seed), new Random(seed, [1])];
    // What does not take the generator that it is given follows the seed too.
    Math.random = () => this.generators[1].random();
  }

  /** The generator that `reset` and `step` are given; none before the first seed. */
  get random() {
    return this.generators[0];
  }

  /** The generators at their places, for what should leave no trace. */
  kept() {
    return this.generators.map((each) => each.clone());
  }

  reset(seed, options) {
    const before = this.kept();
    if (seed !== undefined && seed !== null) this.seed(seed);
    try {
      const given = options === undefined || options === null ? {} : JSON.parse(options);
      const known = this.env.constructor.about?.options ?? [];
      const unknown = Object.keys(given).find((key) => !known.includes(key));
      if (unknown !== undefined) {
        throw new InvalidOptions(`\`${unknown}\`: ${known.length ? `the options are ${known.join(", ")}` : "this env takes no options"}`);
      }
      const view = this.view(this.env.reset(this.random, given));
      this.phase = "running";
      return view;
    } catch (error) {
      if (error instanceof InvalidOptions) this.generators = before;
      throw error;
    }
  }

  step(action) {
    if (this.phase !== "running") fail("needs-reset");
    const result = this.env.step(this.env.actionSpace.read(action, 0), this.random);
    const view = this.view(result);
    const { reward, terminated = false, truncated = false } = result;
    if (typeof reward !== "number") throw new TypeError(`step: \`reward\` is ${kind(reward)}, not a number`);
    if (terminated || truncated) this.phase = "ended";
    return { view, reward, terminated: Boolean(terminated), truncated: Boolean(truncated) };
  }

  stepMany(actions, count) {
    const size = actions.length / count;
    const taken = [];
    let error;
    for (let index = 0; index < count && this.phase === "running"; index++) {
      try {
        taken.push(this.step(actions.slice(index * size, (index + 1) * size)));
      } catch (thrown) {
        try {
          answer(thrown);
        } catch (told) {
          error = told.payload;
        }
        break;
      }
    }
    const joined = (part) => {
      const length = taken[0]?.view[part].length ?? 0;
      const bytes = new Uint8Array(length * taken.length);
      taken.forEach(({ view }, index) => bytes.set(view[part], index * length));
      return bytes;
    };
    const extra = taken.map(({ view }) => view.infoExtra);
    const last = taken.at(-1);
    return {
      taken: taken.length,
      observations: joined("observation"),
      actionMasks: joined("actionMask"),
      infos: joined("info"),
      infosExtra: extra.some((text) => text !== "") ? extra : [],
      rewards: Float64Array.from(taken, ({ reward }) => reward),
      terminated: last?.terminated ?? false,
      truncated: last?.truncated ?? false,
      error,
    };
  }

  view(result) {
    if (result === null || typeof result !== "object") throw new TypeError(`an object with \`observation\` is expected, not ${kind(result)}`);
    const observation = value(this.env.observationSpace, "observation", result.observation);
    let actionMask = new Uint8Array();
    if (this.choices > 0) actionMask = bytesOf("boolean", "actionMask", result.actionMask, this.choices);
    const info = result.info ?? {};
    const extra = Object.fromEntries(Object.entries(info).filter(([name]) => !this.fields.some(([field]) => field === name)));
    return {
      observation,
      actionMask,
      info: this.info(info),
      infoExtra: Object.keys(extra).length > 0 ? json("info", extra) : "",
    };
  }

  info(given) {
    if (this.fields.length === 0) return new Uint8Array();
    const bytes = new Uint8Array(aligned(this.infoSize, 8));
    this.fields.forEach(([name, space], index) => {
      if (given[name] === undefined) return;
      bytes[index] = 1;
      space.write(`info.${name}`, given[name], bytes, this.places[index]);
    });
    return bytes;
  }

  /** The declared fields of `info`'s bytes. */
  told(bytes) {
    const there = this.fields.map(([name, space], index) => (bytes[index] ? [name, space.read(bytes, this.places[index])] : undefined));
    return Object.fromEntries(there.filter((field) => field !== undefined));
  }

  render(mode) {
    if (this.phase === "needs-reset") fail("needs-reset");
    const kept = this.kept();
    const frame = this.env.render?.(mode);
    this.generators = kept;
    if (typeof frame === "string") return { tag: "text", val: frame };
    const pixels = frame?.pixels;
    if (pixels === undefined) throw new Unsupported(`this env has no pictures in mode ${mode}`);
    return { tag: "rgb", val: { width: frame.width, height: frame.height, pixels: pixels instanceof Uint8Array ? pixels : Uint8Array.from(pixels) } };
  }

  call(method, text) {
    const found = this.env[method];
    if (OWN.has(method) || method.startsWith("_") || typeof found !== "function" || method in Object.prototype) {
      throw new Unsupported(`the env has no method \`${method}\``);
    }
    const given = JSON.parse(text);
    const { args = [], ...named } = Array.isArray(given) ? { args: given } : given;
    return json(`the result of \`${method}\``, found.apply(this.env, Object.keys(named).length > 0 ? [...args, named] : args));
  }

  attribute(name) {
    const found = this.env[name];
    if (name.startsWith("_") || found === undefined || typeof found === "function" || name in Object.prototype) {
      throw new Unsupported(`the env has no attribute \`${name}\``);
    }
    return found;
  }
}

function schemaOf(Env) {
  const properties = Env.about?.config ?? {};
  for (const [key, schema] of Object.entries(properties)) {
    if (schema.default === undefined) throw new TypeError(`config: \`${key}\` has no default`);
  }
  return JSON.stringify({ type: "object", additionalProperties: false, properties });
}

/** The interface's functions for a class. `facts` are package.json's: name, version, summary, wants. */
export function serve(Env, facts) {
  let session;
  return {
    describe() {
      const about = Env.about ?? {};
      return {
        ...facts,
        configSchema: schemaOf(Env),
        renderModes: (about.renderModes ?? []).map((mode) => mode.replace("_", "-")),
        renderFps: about.renderFps ?? 0,
        runtime: "JavaScript on QuickJS",
        warmUp: false,
      };
    },
    create(config) {
      try {
        session = new Session(Env, JSON.parse(config));
        return session.spec();
      } catch (error) {
        if (error instanceof ConfigError) fail("config", [{ path: error.path, message: error.message }]);
        failed(error);
      }
    },
    reset: (seed, options) => guarded(() => session.reset(seed, options)),
    step: (action) => guarded(() => session.step(action)),
    stepMany: (actions, count) => session.stepMany(actions, count),
    render: (mode) => guarded(() => session.render(mode.replace("-", "_"))),
    reseed: (seed) => guarded(() => session.seed(seed)),
    call: (method, given) => guarded(() => session.call(method, given)),
    getAttribute: (name) => guarded(() => json(`the attribute \`${name}\``, session.attribute(name))),
    setAttribute: (name, text) =>
      guarded(() => {
        session.attribute(name);
        session.env[name] = JSON.parse(text);
      }),
    close: () => void session?.env.close?.(),
  };
}

// Natively --------------------------------------------------------------------------------------------------------------------

/** One env of a class in node, for tests and debuggers: the same values and checks as in the plugin, without wasm and host. */
export function native(Env, config = {}) {
  const defaults = Object.entries(Env.about?.config ?? {}).map(([key, schema]) => [key, schema.default]);
  schemaOf(Env);
  const session = new Session(Env, { ...Object.fromEntries(defaults), ...config });
  const read = ({ observation, actionMask, info, infoExtra }) => ({
    observation: session.env.observationSpace.read(observation, 0),
    actionMask,
    info: { ...session.told(info), ...(infoExtra ? JSON.parse(infoExtra) : {}) },
  });
  return {
    env: session.env,
    reset: (seed, options) => read(session.reset(seed, options === undefined ? undefined : JSON.stringify(options))),
    step(action) {
      const { view, reward, terminated, truncated } = session.step(value(session.env.actionSpace, "action", action));
      return { ...read(view), reward, terminated, truncated };
    },
    render: (mode) => session.render(mode).val,
  };
}
