element.addEventListener('click', (event) => {
  const chip = event.target.closest('.chip');
  if (chip) trigger('choose', {caption: chip.textContent});
});
