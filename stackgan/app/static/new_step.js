(...values) => {
  document.dispatchEvent(new CustomEvent('stackgan-step'));
  return values;
}
