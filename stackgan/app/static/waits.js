(...values) => {
  document.dispatchEvent(new CustomEvent('stackgan-waits', {detail: true}));
  return values;
}
