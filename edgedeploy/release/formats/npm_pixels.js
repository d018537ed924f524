// From the pixels of a picture to a model's input. The same in every package; what differs from
// input to input stands in index.js. The algorithm: docs/preprocessing.md of edgedeploy. Sums are
// whole numbers below 2^53, so every one is exact.

/**
 * @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} Pixels
 * @typedef {{ height: number, width: number | null, fixedWidth: number | null, fit: string,
 *   padValue: number, resample: string, colour: string, layout: string, scale: number,
 *   mean: number[], std: number[], type: string }} Words
 * @typedef {{ taps: number, index: Int32Array, weight: Float64Array, denominator: number }} Axis
 */

const CUBIC = 16384;

/**
 * Return a model's input of the pixels of a picture.
 *
 * @param {Pixels} pixels 8 bits per channel, upright, as rows of 1 to 4 channels: gray, gray and
 *   alpha, RGB or RGBA, such as ImageData.
 * @param {Words} words
 * @returns {{ data: Float32Array | Uint8Array, dims: number[] }}
 */
export function tensorOf(pixels, words) {
  const channels = words.colour === "gray" ? 1 : 3;
  const source = channelsOf(pixels, channels);
  const plan = planFit(pixels.height, pixels.width, words);
  const small = resize(source, pixels.height, pixels.width, channels, plan, words.resample);
  const { height, width } = plan;
  const tables = tablesOf(words, channels);
  const data = new (words.type === "uint8" ? Uint8Array : Float32Array)(height * width * channels);
  const first = words.layout === "nchw";
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromY = y - plan.top;
      const fromX = x - plan.left;
      const inside = fromY >= 0 && fromY < plan.newHeight && fromX >= 0 && fromX < plan.newWidth;
      const from = (fromY * plan.newWidth + fromX) * channels;
      for (let c = 0; c < channels; c++) {
        const taken = words.colour === "bgr" ? 2 - c : c;
        const value = inside ? small[from + taken] : words.padValue;
        const place = first ? (c * height + y) * width + x : (y * width + x) * channels + c;
        data[place] = tables[c][value];
      }
    }
  }
  const dims = first ? [1, channels, height, width] : [1, height, width, channels];
  return { data, dims };
}

/**
 * Return gray or RGB of whatever channels there are; alpha is dropped.
 *
 * @param {Pixels} pixels
 * @param {number} channels
 */
function channelsOf({ data, width, height }, channels) {
  const count = width * height;
  const given = data.length / count;
  if (!(count > 0) || ![1, 2, 3, 4].includes(given)) {
    throw new RangeError(`${data.length} bytes are no picture of ${width} x ${height} pixels`);
  }
  const found = new Uint8Array(count * channels);
  for (let at = 0; at < count; at++) {
    const [r, g, b] = [0, 1, 2].map((c) => data[at * given + (given < 3 ? 0 : c)]);
    if (channels === 3) found.set([r, g, b], at * 3);
    else found[at] = given < 3 ? r : (19595 * r + 38470 * g + 7471 * b + 32768) >>> 16;
  }
  return found;
}

/**
 * Return `size * numerator / denominator`, rounded half up, at least 1.
 *
 * @param {number} size
 * @param {number} numerator
 * @param {number} denominator
 */
function scaled(size, numerator, denominator) {
  return Math.max(1, Math.floor((2 * size * numerator + denominator) / (2 * denominator)));
}

/**
 * Return the size of the input, the size that the picture is resized to, and where it goes.
 *
 * @param {number} h
 * @param {number} w
 * @param {Words} words
 */
function planFit(h, w, words) {
  const height = words.height;
  const free = words.fit === "stretch" ? null : words.fixedWidth;
  const width = words.width ?? free ?? scaled(w, height, h);
  let [newHeight, newWidth] = [height, width];
  if (words.fit !== "stretch") {
    const heightLimits = height * w <= width * h;
    if (heightLimits === (words.fit !== "crop")) newWidth = scaled(w, height, h);
    else newHeight = scaled(h, width, w);
  }
  const centred = words.fit === "letterbox" || words.fit === "crop";
  const top = centred ? Math.floor((height - newHeight) / 2) : 0;
  const left = centred ? Math.floor((width - newWidth) / 2) : 0;
  return { height, width, newHeight, newWidth, top, left };
}

/**
 * Return the values of the 256 pixel values, per channel of the input, in float32 throughout.
 *
 * @param {Words} words
 * @param {number} channels
 */
function tablesOf(words, channels) {
  const f = Math.fround;
  return Array.from({ length: channels }, (_, c) =>
    Array.from({ length: 256 }, (_, value) => {
      let found = words.scale === 1 ? value : f(value * f(words.scale));
      if (words.mean.length) found = f(found - f(words.mean[words.mean.length > 1 ? c : 0]));
      if (words.std.length) found = f(found / f(words.std[words.std.length > 1 ? c : 0]));
      return found;
    }),
  );
}

/**
 * Return the picture at the size of a plan.
 *
 * @param {Uint8Array} source
 * @param {number} h
 * @param {number} w
 * @param {number} channels
 * @param {{ newHeight: number, newWidth: number }} plan
 * @param {string} mode
 */
function resize(source, h, w, channels, { newHeight, newWidth }, mode) {
  if (h === newHeight && w === newWidth) return source;
  const rows = axis(h, newHeight, mode);
  const columns = axis(w, newWidth, mode);
  const denominator = rows.denominator * columns.denominator;
  const found = new Uint8Array(newHeight * newWidth * channels);
  const line = new Float64Array(w * channels);
  for (let y = 0; y < newHeight; y++) {
    line.fill(0);
    for (let k = y * rows.taps; k < (y + 1) * rows.taps; k++) {
      const from = rows.index[k] * w * channels;
      for (let at = 0; at < line.length; at++) line[at] += source[from + at] * rows.weight[k];
    }
    for (let x = 0; x < newWidth; x++) {
      for (let c = 0; c < channels; c++) {
        let total = 0;
        for (let k = x * columns.taps; k < (x + 1) * columns.taps; k++) {
          total += line[columns.index[k] * channels + c] * columns.weight[k];
        }
        const value = Math.floor((2 * total + denominator) / (2 * denominator));
        found[(y * newWidth + x) * channels + c] = Math.min(Math.max(value, 0), 255);
      }
    }
  }
  return found;
}

/**
 * Return the weights along one axis, in whole numbers over one denominator.
 *
 * @param {number} n
 * @param {number} m
 * @param {string} mode
 * @returns {Axis}
 */
function axis(n, m, mode) {
  const reach = mode === "area" ? Math.ceil(n / m) + 1 : mode === "bicubic" ? 4 : 2;
  const taps = mode === "nearest" ? 1 : reach;
  const denominator = { nearest: 1, bilinear: 2 * m, bicubic: CUBIC, area: n }[mode] ?? 1;
  const index = new Int32Array(m * taps);
  const weight = new Float64Array(m * taps);
  for (let i = 0; i < m; i++) {
    const left = Math.floor(((2 * i + 1) * n - m) / (2 * m));
    const rest = (2 * i + 1) * n - m - left * 2 * m;
    const cubic = mode === "bicubic" ? cubicWeights(rest, 2 * m) : [];
    const start = Math.floor((i * n) / m);
    for (let k = 0; k < taps; k++) {
      let [at, value] = [Math.floor(((2 * i + 1) * n) / (2 * m)), 1];
      if (mode === "bilinear") [at, value] = [left + k, k ? rest : 2 * m - rest];
      if (mode === "bicubic") [at, value] = [left + k - 1, cubic[k]];
      if (mode === "area") {
        at = start + k;
        value = Math.max(Math.min((at + 1) * m, (i + 1) * n) - Math.max(at * m, i * n), 0);
      }
      index[i * taps + k] = Math.min(Math.max(at, 0), n - 1);
      weight[i * taps + k] = value;
    }
  }
  return { taps, index, weight, denominator };
}

/**
 * Return Keys' kernel (a = -3/4) at the four pixels around `rest / unit`, in parts of CUBIC.
 *
 * @param {number} rest
 * @param {number} unit
 */
function cubicWeights(rest, unit) {
  const u = BigInt(unit); // its third power does not fit 53 bits
  const found = [-1, 0, 1, 2].map((offset) => {
    const d = BigInt(Math.abs(rest - offset * unit));
    let numerator = 0n;
    if (d <= u) numerator = (5n * d - 9n * u) * d * d + 4n * u * u * u;
    else if (d < 2n * u) numerator = ((15n * u - 3n * d) * d - 24n * u * u) * d + 12n * u * u * u;
    const [over, under] = [numerator * BigInt(2 * CUBIC) + 4n * u * u * u, 8n * u * u * u];
    return Number((over - (((over % under) + under) % under)) / under);
  });
  found[2 * rest < unit ? 1 : 2] += CUBIC - found.reduce((sum, weight) => sum + weight, 0);
  return found;
}
