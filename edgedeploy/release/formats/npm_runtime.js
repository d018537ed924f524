// Loads a model of this package, checks what goes in, and names what comes out. The same in every
// package; what differs from model to model stands in index.js.

import { InferenceSession, Tensor } from "onnxruntime-web/wasm";

/**
 * @typedef {{ name: string, type: string, shape: (number | string)[], state?: string }} Port
 * @typedef {{ file: URL, sha256: string, config: Record<string, string>,
 *   inputs: Record<string, Port>, outputs: Record<string, Port> }} Spec
 * @typedef {{ data: any, dims: readonly number[] }} Value
 * @typedef {{ model?: string | URL | Uint8Array, session?: InferenceSession.SessionOptions }} Options
 */

/** What the elements of a tensor lie in; 64-bit integers are bigints. */
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  string: Array,
};

export class Model {
  /** @type {InferenceSession} */ #session;
  /** @type {Spec} */ #spec;

  /**
   * @param {InferenceSession} session
   * @param {Spec} spec
   */
  constructor(session, spec) {
    this.#session = session;
    this.#spec = spec;
  }

  /**
   * Return the values by name that the model gives for these inputs.
   *
   * @param {Record<string, any>} inputs
   * @returns {Promise<Record<string, Value>>}
   */
  async run(inputs) {
    const outputs = await this.#session.run(feedsOf(inputs, this.#spec.inputs));
    /** @type {Record<string, Value>} */
    const found = {};
    for (const [key, port] of Object.entries(this.#spec.outputs)) {
      const { data, dims } = outputs[port.name];
      found[key] = { data, dims };
    }
    return found;
  }

  /** Return what carries the model's state from one call to the next, from zeros on. */
  sequence() {
    return new Sequence(this, this.#spec);
  }

  /** Free the memory of the model; it cannot be run afterwards. */
  async release() {
    await this.#session.release();
  }
}

export class Sequence {
  /** @type {Model} */ #model;
  /** @type {Spec} */ #spec;
  /** @type {Record<string, Value>} */ #state = {};

  /**
   * @param {Model} model
   * @param {Spec} spec
   */
  constructor(model, spec) {
    this.#model = model;
    this.#spec = spec;
    this.reset();
  }

  /** Begin again, from zeros. */
  reset() {
    this.#state = {};
    for (const [key, port] of states(this.#spec)) {
      const dims = port.shape.map(Number);
      this.#state[key] = { data: new (arrayOf(port))(sizeOf(dims)), dims };
    }
  }

  /**
   * Return the values of the next step; await one before asking for another.
   *
   * @param {Record<string, any>} inputs
   * @returns {Promise<Record<string, Value>>}
   */
  async run(inputs) {
    const outputs = await this.#model.run({ ...inputs, ...this.#state });
    for (const [key, port] of states(this.#spec)) {
      this.#state[key] = outputs[/** @type {string} */ (port.state)];
    }
    return outputs;
  }
}

/**
 * Return the inputs that are fed from an output of the step before.
 *
 * @param {Spec} spec
 */
function states(spec) {
  return Object.entries(spec.inputs).filter(([, port]) => port.state !== undefined);
}

/**
 * Return an opened model, once its file is known to be the one that was released.
 *
 * @param {Spec} spec
 * @param {Options} [options]
 */
export async function open(spec, options = {}) {
  const source = options.model ?? spec.file;
  const bytes = source instanceof Uint8Array ? source : await fetched(source);
  const found = await sha256(bytes);
  if (found !== spec.sha256) {
    throw new Error(`this is not the model that was released: SHA-256 ${found}, not ${spec.sha256}`);
  }
  return InferenceSession.create(bytes, {
    executionProviders: ["wasm"],
    ...options.session,
    extra: { ...spec.config, ...options.session?.extra },
  });
}

/** @param {string | URL} url */
async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new Error(`the model cannot be fetched from ${url}: status ${answer.status}`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

/** @param {Uint8Array} bytes */
async function sha256(bytes) {
  if (globalThis.crypto?.subtle === undefined) {
    throw new Error("the model cannot be checked here: serve the page over https or from localhost");
  }
  const digest = await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return what the session is fed with.
 *
 * @param {Record<string, any>} inputs
 * @param {Record<string, Port>} ports
 */
function feedsOf(inputs, ports) {
  for (const key of Object.keys(inputs)) {
    if (!Object.hasOwn(ports, key)) {
      throw new TypeError(`there is no input ${key}; there are: ${Object.keys(ports).join(", ")}`);
    }
  }
  /** @type {Record<string, Tensor>} */
  const feeds = {};
  /** @type {Map<string, number>} */
  const sizes = new Map();
  for (const [key, port] of Object.entries(ports)) {
    const given = inputs[key];
    if (given === undefined || given === null) {
      throw new TypeError(`the input ${key} is missing`);
    }
    const array = arrayOf(port);
    const data = given instanceof array ? given : given.data;
    if (!(data instanceof array)) {
      throw new TypeError(`the input ${key} must be a ${array.name} or hold one as data`);
    }
    const dims = given instanceof array ? fixed(key, port) : given.dims;
    checkDims(key, port, dims, sizes);
    if (data.length !== sizeOf(dims)) {
      throw new RangeError(
        `the input ${key} has ${data.length} elements; [${dims.join(", ")}] has ${sizeOf(dims)}`,
      );
    }
    feeds[port.name] = new Tensor(/** @type {any} */ (port.type), data, dims);
  }
  return feeds;
}

/**
 * Return the dims of an input that has only one form.
 *
 * @param {string} key
 * @param {Port} port
 */
function fixed(key, port) {
  if (port.shape.some((size) => typeof size === "string")) {
    throw new TypeError(
      `the input ${key} has no fixed shape: give { data, dims } with [${port.shape.join(", ")}]`,
    );
  }
  return port.shape;
}

/**
 * Refuse dims that the model does not take.
 *
 * @param {string} key
 * @param {Port} port
 * @param {any} dims
 * @param {Map<string, number>} sizes of the open dims that were seen, by name
 */
function checkDims(key, port, dims, sizes) {
  const wanted = `[${port.shape.join(", ")}]`;
  const given = Array.isArray(dims) ? `[${dims.join(", ")}]` : String(dims);
  if (!Array.isArray(dims) || dims.length !== port.shape.length) {
    throw new RangeError(`the input ${key} has the dims ${given}, not ${wanted}`);
  }
  port.shape.forEach((size, axis) => {
    if (!suits(dims[axis], size, sizes)) {
      throw new RangeError(`the input ${key} has the dims ${given}, not ${wanted}: axis ${axis}`);
    }
  });
}

/**
 * Tell whether a size is one that a model takes.
 *
 * @param {any} given
 * @param {number | string} size a number, `low..high`, `any` or the name of an open dim
 * @param {Map<string, number>} sizes
 */
function suits(given, size, sizes) {
  if (!Number.isSafeInteger(given) || given < 0) {
    return false;
  }
  if (typeof size === "number") {
    return given === size;
  }
  const range = /^(\d+)\.\.(\d+)$/.exec(size);
  if (range !== null) {
    return Number(range[1]) <= given && given <= Number(range[2]);
  }
  if (size === "any") {
    return true;
  }
  const before = sizes.get(size) ?? given;
  sizes.set(size, given);
  return before === given;
}

/**
 * Return the kind of array that holds the elements of an input or output.
 *
 * @param {Port} port
 * @returns {any}
 */
function arrayOf(port) {
  if (port.type === "float16") {
    // As the runtime does: where there is no Float16Array the bits lie in a Uint16Array.
    return /** @type {any} */ (globalThis).Float16Array ?? Uint16Array;
  }
  return /** @type {any} */ (ARRAYS)[port.type];
}

/** @param {readonly number[]} dims */
function sizeOf(dims) {
  return dims.reduce((product, size) => product * size, 1);
}
