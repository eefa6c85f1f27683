/* Noise of a seed, equal to torch.randn of a generator with it: Mersenne Twister (MT19937), Box-Muller by blocks of 16.
   Every product and root is rounded to float32, as there. */

const WORDS = 624, MIDDLE = 397;
const f32 = Math.fround;
const TURN = f32(2 * Math.PI);

/** Function that returns the next 32 bits of MT19937 with this seed; its lowest 32 bits count, as in PyTorch. */
function twister(seed) {
  const state = new Uint32Array(WORDS);
  state[0] = seed % 2 ** 32;
  for (let i = 1; i < WORDS; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let next = WORDS;
  return () => {
    if (next === WORDS) {
      for (let i = 0; i < WORDS; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
        state[i] = state[(i + MIDDLE) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/** Replace 16 uniform numbers from ``start`` by normal ones: the first eight are radii, the others angles. */
function boxMuller(values, start) {
  for (let i = start; i < start + 8; i++) {
    const radius = f32(Math.sqrt(f32(-2 * f32(Math.log(f32(1 - values[i]))))));
    const angle = f32(TURN * values[i + 8]);
    values[i] = radius * f32(Math.cos(angle));
    values[i + 8] = radius * f32(Math.sin(angle));
  }
}

/** ``count`` ≥ 16 numbers from N(0, 1) of a seed from 0 to 2⁵³ − 1, as a Float32Array. */
export function noise(seed, count) {
  const bits = twister(seed);
  const uniform = () => (bits() & 0xffffff) * 2 ** -24;
  const values = Float32Array.from({ length: count }, uniform);
  for (let start = 0; start + 16 <= count; start += 16) boxMuller(values, start);
  if (count % 16) { // the last 16 are drawn anew
    for (let i = count - 16; i < count; i++) values[i] = uniform();
    boxMuller(values, count - 16);
  }
  return values;
}
