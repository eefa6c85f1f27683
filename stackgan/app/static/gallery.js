// Gradio supplies element, props and trigger.
const show = (image, stage) => {
  const dialog = element.querySelector('dialog');
  const shown = image.stages[stage];
  const large = dialog.querySelector('img.large');
  large.src = shown.file.url;
  const seed = image.seed === '' ? '' : 'seed ' + image.seed;
  large.alt = [image.label, seed].filter(Boolean).join(', ');
  dialog.querySelector('.caption').textContent = image.caption;
  dialog.querySelector('.seed').textContent = [seed, shown.size + ' px'].filter(Boolean).join(' · ');
  const link = dialog.querySelector('a.save');
  link.href = shown.file.url;
  link.download = shown.name;
  const sizes = dialog.querySelector('.sizes');
  sizes.replaceChildren();
  if (image.tree) {
    image.stages.forEach((each, index) => {
      const button = document.createElement('button');
      button.textContent = each.size + ' px';
      button.setAttribute('aria-pressed', String(index === stage));
      button.addEventListener('click', () => show(image, index));
      sizes.append(button);
    });
  }
  if (!dialog.open) dialog.showModal();
};
element.addEventListener('click', (event) => {
  const open = event.target.closest('[data-image]');
  const reuse = event.target.closest('[data-reuse]');
  const save = event.target.closest('button.save-all');
  if (open) {
    const image = props.value.images[open.dataset.image];
    show(image, open.dataset.stage === undefined ? image.stages.length - 1 : Number(open.dataset.stage));
  } else if (reuse) {
    const image = props.value.images[reuse.dataset.reuse];
    trigger('reuse', {caption: image.caption, seed: Number(image.seed), truncation: props.value.truncation});
  } else if (save) {
    const {images, truncation} = props.value;
    const [{caption, seed}] = images;
    trigger('save', {caption, count: images.length, seed: Number(seed), truncation});
  } else if (event.target.tagName === 'DIALOG') {
    event.target.close();
  }
});
