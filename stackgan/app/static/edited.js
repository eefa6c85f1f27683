(live, checkpoint, caption, count, seed, truncation, size, strength, variation) => {
  if (live === false || [count, seed, truncation, strength].some((value) => value === null)) return [];
  const detail = {caption: caption ?? '', count, seed, truncation};
  if (checkpoint) detail.checkpoint = checkpoint;
  if (size !== 'all') detail.size = size;
  if (strength > 0) Object.assign(detail, {variation, strength});
  document.dispatchEvent(new CustomEvent('stackgan-edited', {detail}));
  return [];
}
