// The package's keyed random numbers (core/randomness.py) and latents (sampling/generate.py),
// number for number: a key is hashed by BLAKE2b to a seed, and torch's Mersenne Twister and its
// two ways to normal numbers follow from that seed.

const WORD = (1n << 64n) - 1n;
const BLAKE_START = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const BLAKE_ORDER = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const BLAKE_LANES = [
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
];

// BLAKE2b (RFC 7693) with a digest of 8 bytes, as a number in little-endian order.
function blake2b64(bytes) {
  const state = BLAKE_START.slice();
  state[0] ^= 0x01010000n ^ 8n;
  const turn = (x, bits) => ((x >> bits) | (x << (64n - bits))) & WORD;
  const blocks = Math.max(1, Math.ceil(bytes.length / 128));
  for (let block = 0; block < blocks; block++) {
    const words = Array.from({ length: 16 }, (_, i) => {
      let word = 0n;
      for (let j = 7; j >= 0; j--) word = (word << 8n) | BigInt(bytes[block * 128 + i * 8 + j] ?? 0);
      return word;
    });
    const v = [...state, ...BLAKE_START];
    v[12] ^= BigInt(Math.min(bytes.length, (block + 1) * 128));
    if (block === blocks - 1) v[14] ^= WORD;
    for (let round = 0; round < 12; round++) {
      BLAKE_LANES.forEach(([a, b, c, d], lane) => {
        const order = BLAKE_ORDER[round % 10];
        v[a] = (v[a] + v[b] + words[order[2 * lane]]) & WORD;
        v[d] = turn(v[d] ^ v[a], 32n);
        v[c] = (v[c] + v[d]) & WORD;
        v[b] = turn(v[b] ^ v[c], 24n);
        v[a] = (v[a] + v[b] + words[order[2 * lane + 1]]) & WORD;
        v[d] = turn(v[d] ^ v[a], 16n);
        v[c] = (v[c] + v[d]) & WORD;
        v[b] = turn(v[b] ^ v[c], 63n);
      });
    }
    for (let i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
  }
  return state[0];
}

// `derive_seed` of core/randomness.py; `parts` are Python literals: `7`, `'latent'`.
function deriveSeed(...parts) {
  const text = parts.length === 1 ? `(${parts[0]},)` : `(${parts.join(", ")})`;
  return blake2b64(new TextEncoder().encode(text)) >> 1n;
}

// MT19937 (Matsumoto and Nishimura 1998), seeded as torch.Generator.manual_seed does.
class Twister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = Number(seed & 0xffffffffn);
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
    this.next = 624;
  }

  bits32() {
    if (this.next === 624) this.refill();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  refill() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  uniform24() {
    return (this.bits32() & 0xffffff) / 16777216;
  }

  uniform53() {
    const high = this.bits32();
    return ((high & 0x1fffff) * 4294967296 + this.bits32()) / 9007199254740992;
  }
}

// `torch.randn(count)` in float32: pairs in double below 16 numbers, blocks of 16 from there on.
function randn(seed, count) {
  const twister = new Twister(seed);
  const values = new Float32Array(count);
  if (count < 16) {
    for (let i = 0; i < count; i += 2) {
      const angle = 2 * Math.PI * twister.uniform53();
      const radius = Math.sqrt(-2 * Math.log1p(-twister.uniform53()));
      values[i] = radius * Math.cos(angle);
      if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
    }
    return values;
  }
  const turn16 = (start) => {
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
      const angle = 2 * Math.PI * values[i + 8];
      values[i] = radius * Math.cos(angle);
      values[i + 8] = radius * Math.sin(angle);
    }
  };
  for (let i = 0; i < count; i++) values[i] = twister.uniform24();
  for (let start = 0; start + 16 <= count; start += 16) turn16(start);
  if (count % 16) {
    // The last block overlaps the one before and is drawn anew.
    for (let i = count - 16; i < count; i++) values[i] = twister.uniform24();
    turn16(count - 16);
  }
  return values;
}

// `sample_latents` for one seed, or for one seed each of what is shown and how it moves. Each part
// is {name, start, stop, frame, moves}: `frame` numbers for each frame, 0 for a part as a whole.
function drawLatent(parts, length, seed, motionSeed = seed) {
  const latent = new Float32Array(length);
  for (const part of parts) {
    const own = part.moves ? motionSeed : seed;
    const step = part.frame || part.stop - part.start;
    for (let start = part.start, index = 0; start < part.stop; start += step, index++) {
      const key = [String(own), "'latent'", part.name, ...(part.frame ? [index] : [])];
      latent.set(randn(deriveSeed(...key), Math.min(step, part.stop - start)), start);
    }
  }
  return latent;
}

// The class that a seed draws, as `labels_for_seeds` has it.
function drawLabel(seed, numClasses) {
  return Number(deriveSeed(String(seed), "'label'") % BigInt(numClasses));
}

// Share of the standard normal distribution below x, by the series of the error function around 0
// (all terms of one sign; exact to rounding for |x| below 6).
function normalShare(x) {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
    term *= (x * x) / (2 * n + 1);
    sum += term;
  }
  const share = 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
  return Math.min(1, Math.max(0, share));
}

// `truncate` of sampling/generate.py: quantiles of the normal distribution go to those of the
// truncated one, found by halving the interval.
function truncate(latent, bound) {
  const tail = normalShare(-bound);
  return latent.map((value) => {
    const wanted = tail + normalShare(Math.max(-8, Math.min(8, value))) * (1 - 2 * tail);
    let low = -bound;
    let high = bound;
    for (let i = 0; i < 40; i++) {
      const middle = (low + high) / 2;
      if (normalShare(middle) < wanted) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  });
}

// One point of `latent_path`: the straight line, or the arc that blends the lengths.
function between(a, b, weight, mode) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const lengthA = Math.sqrt(dot(a, a));
  const lengthB = Math.sqrt(dot(b, b));
  const cosine = dot(a, b) / Math.max(lengthA * lengthB, 1e-12);
  const angle = Math.acos(Math.max(-1, Math.min(1, cosine)));
  if (mode === "linear" || Math.sin(angle) < 1e-6) return a.map((x, i) => x + (b[i] - x) * weight);
  const length = (lengthA + (lengthB - lengthA) * weight) / Math.sin(angle);
  const shareA = (Math.sin((1 - weight) * angle) / lengthA) * length;
  const shareB = (Math.sin(weight * angle) / lengthB) * length;
  return a.map((x, i) => x * shareA + b[i] * shareB);
}
