/* Generates images beside the page, so that typing stays fluid. It gets {caption, seed, truncation, size} and answers
   {kind: "loading" | "ready" | "image" | "error", …}. */

import * as ort from './vendor/onnxruntime-web/ort.wasm.bundle.min.mjs';
import { noise } from './noise.js';

ort.env.logLevel = 'error';

const floats = (values, dims) => new ort.Tensor('float32', values, dims);

async function response(name) {
  const found = await fetch(new URL(name, import.meta.url));
  if (!found.ok) throw new Error(`${name} cannot be loaded: HTTP status ${found.status}`);
  return found;
}

/** The bytes of a file of the export; ``progress`` is called with the size of every part. */
async function bytes(name, size, progress) {
  const content = new Uint8Array(size);
  let loaded = 0;
  const reader = (await response(name)).body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (loaded + part.value.length > size) break;
    content.set(part.value, loaded);
    loaded += part.value.length;
    progress(part.value.length);
  }
  if (loaded !== size) throw new Error(`${name} does not have ${size} bytes: copy the folder again`);
  return content;
}

async function load() {
  const facts = await (await response('facts.json')).json();
  const total = Object.values(facts.files).reduce((sum, size) => sum + size, 0);
  let loaded = 0;
  const progress = (count) => postMessage({ kind: 'loading', loaded: loaded += count, total });
  progress(0);
  const models = {};
  for (const [name, size] of Object.entries(facts.files)) { // one after another: less memory at a time
    models[name] = await ort.InferenceSession.create(await bytes(name, size, progress));
  }
  let tokens = null;
  if (facts.text) {
    const { tokenizer } = await import('./tokens.js');
    tokens = tokenizer(await (await response('tokenizer.json')).json());
  }
  postMessage({ kind: 'ready', threads: ort.env.wasm.numThreads });
  return { facts, models, tokens };
}

/** The inputs of a session among ``named``. */
function feed(session, named) {
  return Object.fromEntries(session.inputNames.map((name) => [name, named[name]]));
}

/** Levels of one image (size, size, 4) from floats (3, size, size): round((x + 1) · 127.5) in float32, clipped. */
function levels(image, size) {
  const area = size * size;
  const out = new Uint8ClampedArray(4 * area).fill(255); // clips, and rounds halves to even as PyTorch
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) {
      out[4 * i + channel] = Math.fround(Math.fround(image[channel * area + i] + 1) * 127.5);
    }
  }
  return out;
}

async function generate({ facts, models, tokens }, { caption, seed, truncation, size }) {
  const drawn = noise(seed, facts.z + facts.c);
  const inputs = {
    noise_z: floats(drawn.slice(0, facts.z), [1, facts.z]),
    noise_c: floats(drawn.slice(facts.z), [1, facts.c]),
    truncation: floats(Float32Array.of(truncation), []),
  };
  if (tokens) {
    const ids = BigInt64Array.from(tokens(caption), BigInt);
    const dims = [1, ids.length];
    const mask = new BigInt64Array(ids.length).fill(1n);
    const text = { ids: new ort.Tensor('int64', ids, dims), mask: new ort.Tensor('int64', mask, dims) };
    inputs.embedding = (await models['text.onnx'].run(text)).embedding;
  }
  const latent = models['latent.onnx'];
  const latents = await latent.run(feed(latent, inputs));
  const generator = models['generator.onnx'];
  const name = `image_${size}`;
  const images = await generator.run(feed(generator, latents), [name]);
  return levels(images[name].data, size);
}

const loaded = load();

async function answer(request) {
  const ready = await loaded;
  const start = performance.now();
  const pixels = await generate(ready, request);
  postMessage({ kind: 'image', ...request, pixels, ms: performance.now() - start }, [pixels.buffer]);
}

const failed = (fatal) => (error) => postMessage({ kind: 'error', message: String(error.message ?? error), fatal });
loaded.catch(failed(true));
addEventListener('message', ({ data }) => answer(data).catch(failed(false)));
