// Live images: each change of a setting asks the route /live, outside Gradio's queue, and ends the request before it.
const liveUrl = new URL(window.gradio_config?.root || '.', location.href).pathname.replace(/\/*$/, '/live');
let asking = null;   // the request in progress
let waiting = false; // while Gradio generates images for this gallery, which a live image must not replace
let edited = false;  // meanwhile
const endLive = () => {
  asking?.abort();
  asking = null;
};
const askLive = async (fields) => {
  const wanted = new URLSearchParams(fields).toString();
  if (asking?.wanted === wanted) return; // several letters that came at once
  endLive();
  const request = asking = Object.assign(new AbortController(), {wanted});
  const ask = async (stages) => {
    const shown = props.value.preview ? '' : props.value.query ?? '';
    const body = new URLSearchParams({...fields, ...stages, shown});
    const response = await fetch(liveUrl, {method: 'POST', body, signal: request.signal});
    const value = response.status === 200 ? await response.json() : null;
    if (value === null || asking !== request) return false;
    props.value = value;
    queueMicrotask(() => follow(value)); // once the images are in the page
    return value.preview;
  };
  try {
    if (await ask({preview: 1})) await ask({});
  } catch (error) {
    if (error.name !== 'AbortError') console.info('no live images:', error.message); // the server is gone
  }
  if (asking === request) asking = null;
};
document.addEventListener('stackgan-edited', ({detail}) => {
  if (waiting) edited = true;
  else askLive(detail);
});
document.addEventListener('stackgan-waits', ({detail}) => {
  waiting = detail;
  if (waiting) endLive();
  else if (edited) trigger('typed');
  edited = false;
});
