// The address bar, back and forward, and the history of this browser follow the images of this gallery.
const FIELDS = [
  'caption', 'seed', 'truncation', 'count', 'size', 'variation', 'strength', 'checkpoint', 'fingerprint',
];
const BURST = 1500; // milliseconds: changes of text and numbers that follow each other faster are one entry
let lastChange = 0;
document.addEventListener('stackgan-step', () => { lastChange = 0; }); // the next images are a new entry
const differ = (one, other) => ['checkpoint', 'size'].some((name) => one.get(name) !== other.get(name));
// Other fields of the address, such as __theme, are kept.
const address = (query) => {
  const fields = new URLSearchParams(location.search);
  for (const name of FIELDS) fields.delete(name);
  for (const [name, value] of new URLSearchParams(query)) fields.set(name, value);
  return '?' + fields;
};
const current = () => '?' + new URLSearchParams(location.search);
let opened = current();
const copyLink = async (query) => {
  const link = location.origin + location.pathname + address(query);
  try {
    await navigator.clipboard.writeText(link); // only in a secure context, such as localhost or https
    return true;
  } catch {
    const box = document.createElement('textarea');
    box.value = link;
    document.body.append(box);
    box.select();
    const copied = document.execCommand('copy');
    box.remove();
    return copied;
  }
};
const addToHistory = (value, replace) => {
  const image = element.querySelector('.card .open img');
  const {caption, seed} = value.images[0];
  image.decode().then(() => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 96;
    canvas.getContext('2d').drawImage(image, 0, 0, 96, 96);
    const entry = {query: value.query, caption, seed, image: canvas.toDataURL('image/jpeg', 0.85)};
    document.dispatchEvent(new CustomEvent('stackgan-generated', {detail: {entry, replace}}));
  }).catch(() => {}); // the image was replaced by a later one before it was shown
};
const follow = (value) => {
  const {query, live, preview} = value;
  if (!query || preview) return;
  const step = differ(new URLSearchParams(query), new URLSearchParams(location.search));
  const burst = live && !step && Date.now() - lastChange < BURST;
  lastChange = live ? Date.now() : 0;
  const next = address(query);
  if (next !== current()) {
    const restored = current() === opened && opened !== '?'; // of a link whose settings were completed
    history[burst || restored ? 'replaceState' : 'pushState'](null, '', next);
  }
  opened = '';
  addToHistory(value, burst);
};
watch('value', () => follow(props.value));
const openAddress = () => {
  opened = current();
  trigger('open', {query: location.search});
};
window.addEventListener('popstate', openAddress);
document.addEventListener('stackgan-open', (event) => trigger('open', {query: event.detail}));
if (FIELDS.some((name) => new URLSearchParams(location.search).has(name))) setTimeout(openAddress);
// A PNG that is dropped on the tab is opened by the button's file input.
const tab = element.closest('#studio');
const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
tab.addEventListener('dragover', (event) => { if (hasFiles(event)) event.preventDefault(); });
tab.addEventListener('drop', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  const input = document.querySelector('input:has(+ #open-png)');
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
});
