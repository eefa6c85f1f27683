// Gradio supplies element, props and trigger.
const show = (picture, stage) => {
  const dialog = element.querySelector('dialog');
  const shown = picture.stages[stage];
  const image = dialog.querySelector('img.large');
  image.src = shown.file.url;
  const seed = picture.seed === '' ? '' : 'seed ' + picture.seed;
  image.alt = [picture.label, seed].filter(Boolean).join(', ');
  dialog.querySelector('.caption').textContent = picture.caption;
  dialog.querySelector('.seed').textContent = [seed, shown.size + ' px'].filter(Boolean).join(' · ');
  const link = dialog.querySelector('a.save');
  link.href = shown.file.url;
  link.download = shown.name;
  const sizes = dialog.querySelector('.sizes');
  sizes.replaceChildren();
  if (picture.tree) {
    picture.stages.forEach((each, index) => {
      const button = document.createElement('button');
      button.textContent = each.size + ' px';
      button.setAttribute('aria-pressed', String(index === stage));
      button.addEventListener('click', () => show(picture, index));
      sizes.append(button);
    });
  }
  if (!dialog.open) dialog.showModal();
};
element.addEventListener('click', (event) => {
  const open = event.target.closest('[data-picture]');
  const reuse = event.target.closest('[data-reuse]');
  const save = event.target.closest('button.save-all');
  if (open) {
    const picture = props.value.pictures[open.dataset.picture];
    show(picture, open.dataset.stage === undefined ? picture.stages.length - 1 : Number(open.dataset.stage));
  } else if (reuse) {
    const picture = props.value.pictures[reuse.dataset.reuse];
    trigger('reuse', {caption: picture.caption, seed: Number(picture.seed)});
  } else if (save) {
    const {pictures, truncation} = props.value;
    const [{caption, seed}] = pictures;
    trigger('save', {caption, count: pictures.length, seed: Number(seed), truncation});
  } else if (event.target.tagName === 'DIALOG') {
    event.target.close();
  }
});
