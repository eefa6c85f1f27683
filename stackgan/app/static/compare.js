// Gradio supplies element and watch. The boundary between photo and image stays where it was when the image changes.
const shares = {};
const place = (range, share) => {
  range.value = share;
  range.setAttribute('aria-valuetext', share + ' % photo');
  range.closest('.frame').style.setProperty('--at', share + '%');
};
element.addEventListener('input', (event) => {
  if (!event.target.matches('[data-figure]')) return;
  shares[event.target.dataset.figure] = event.target.value;
  place(event.target, event.target.value);
});
watch('value', () => requestAnimationFrame(() => {
  for (const range of element.querySelectorAll('[data-figure]')) place(range, shares[range.dataset.figure] ?? 50);
}));
