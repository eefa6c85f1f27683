() => {
  document.dispatchEvent(new CustomEvent('stackgan-step'));
  return Math.floor(Math.random() * 1000000);
}
