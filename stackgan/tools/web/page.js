/* The page: what is entered goes to the worker, one request at a time; of those that wait only the newest is kept. */

const CONTROL = /[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]/u; // as the program refuses
const $ = (id) => document.getElementById(id);
const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);

const worker = new Worker('worker.js', { type: 'module' });
let facts = null;
let busy = false; // the worker has a request
let waiting = null; // the newest request behind it
let shown = null; // the request of the image in the canvas
let broken = ''; // why there will be no images

function say(text) {
  $('message').textContent = broken || text;
}

// --- requests ---

/** What is entered, or null after a message about what is missing. */
function entered() {
  const caption = facts.text ? $('caption').value : '';
  const seed = $('seed').valueAsNumber;
  const wrong = {
    caption: facts.text && (caption.trim() ? CONTROL.test(caption) && 'The caption has a control character: write it without.'
      : 'Write a caption: what should the image show?'),
    seed: !(Number.isSafeInteger(seed) && seed >= 0) && 'The seed must be an integer from 0 to 9007199254740991.',
  };
  for (const [id, message] of Object.entries(wrong)) $(id).setAttribute('aria-invalid', Boolean(message));
  const message = wrong.caption || wrong.seed || '';
  say(message);
  return message ? null : { caption, seed, truncation: $('truncation').valueAsNumber, size: Number($('size').value) };
}

function ask() {
  $('variety').textContent = $('truncation').valueAsNumber.toFixed(2);
  waiting = entered();
  send();
}

function send() {
  if (busy || broken || !waiting) return;
  worker.postMessage(waiting);
  busy = true;
  waiting = null;
}

// --- answers ---

const ANSWERS = {
  loading({ loaded, total }) {
    $('progress').max = total;
    $('progress').value = loaded;
    $('time').textContent = `Loading the model: ${mebibytes(loaded)} of ${mebibytes(total)} MiB`;
  },
  ready({ threads }) {
    $('progress').hidden = true;
    $('time').textContent = 'Generating …';
    document.body.dataset.threads = threads;
  },
  image(image) {
    show(image);
    busy = false;
    send();
  },
  error({ message, fatal }) {
    $('time').textContent = '';
    if (fatal) stop(message);
    say(message);
    busy = false;
    send();
  },
};
worker.onmessage = ({ data }) => ANSWERS[data.kind](data);
worker.onerror = (event) => {
  event.preventDefault();
  stop(event.message || 'a file of it or of vendor/ cannot be loaded');
};

/** Give up, for a reason that stays shown. */
function stop(reason) {
  broken = `The page cannot start: ${reason.replace(/\.+$/, '')}. README.md says what belongs in its folder.`;
  $('progress').hidden = true;
  $('time').textContent = '';
  document.querySelector('main').hidden = false;
  say(broken);
}

function show({ caption, seed, truncation, size, pixels, ms }) {
  shown = { caption, seed };
  const canvas = $('image');
  canvas.width = canvas.height = size;
  canvas.getContext('2d', { willReadFrequently: true }).putImageData(new ImageData(pixels, size), 0, 0);
  canvas.setAttribute('aria-label', caption ? `Generated image: ${caption}` : `Generated image of seed ${seed}`);
  $('shown').textContent = caption || `Seed ${seed}`;
  $('time').textContent = `${size} × ${size} pixels, seed ${seed}, in ${Math.round(ms)} ms`;
  $('save').disabled = false;
}

function save() {
  const words = shown.caption.normalize('NFKD').toLowerCase().match(/[a-z0-9]+/g) ?? ['image'];
  const name = `${words.join('-').slice(0, 60)}_seed-${shown.seed}.png`;
  $('image').toBlob((blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

// --- start ---

function option(size) {
  const element = document.createElement('option');
  element.value = size;
  element.textContent = `${size} × ${size} pixels`;
  return element;
}

function example(caption) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = caption;
  button.addEventListener('click', () => {
    $('caption').value = caption;
    ask();
  });
  return button;
}

async function start() {
  $('served').hidden = true;
  const found = await fetch('facts.json');
  if (!found.ok) throw new Error(`facts.json cannot be loaded: HTTP status ${found.status}`);
  facts = await found.json();
  const title = facts.text ? 'Text to image' : 'Image generation';
  document.title = `${facts.name}: ${title.toLowerCase()}`;
  $('heading').textContent = title;
  const what = facts.text ? 'Describe an image to generate it.' : 'Every seed gives another image.';
  $('about').textContent = `${what} StackGAN++, ${facts.sizes.join(' → ')} pixels, computed in this browser; nothing is sent.`;
  $('words').hidden = !facts.text;
  $('examples').append(...facts.examples.map(example));
  $('caption').value = facts.examples[0] ?? '';
  $('truncation').value = facts.truncation;
  $('size').append(...facts.sizes.map(option));
  $('size').value = facts.sizes.at(-1);
  $('sizes').hidden = facts.sizes.length === 1;
  for (const id of ['caption', 'seed', 'truncation', 'size']) $(id).addEventListener('input', ask);
  $('roll').addEventListener('click', () => {
    $('seed').value = Math.floor(Math.random() * 1_000_000);
    ask();
  });
  $('save').addEventListener('click', save);
  document.querySelector('main').hidden = false;
  ask();
}

start().catch((error) => stop(String(error.message ?? error)));
