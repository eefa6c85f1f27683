// Gradio supplies element, props, trigger and watch.
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
  const copy = dialog.querySelector('.copy-link');
  copy.hidden = !image.query;
  copy.dataset.query = image.query;
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
const changed = (query, values) => {
  const fields = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) fields.set(name, value);
  return fields.toString();
};
element.addEventListener('click', (event) => {
  const open = event.target.closest('[data-image]');
  const reuse = event.target.closest('[data-reuse]');
  const more = event.target.closest('[data-more]');
  const save = event.target.closest('button.save-all');
  const copy = event.target.closest('.copy-link');
  const count = props.value.images?.length;
  if (open) {
    const image = props.value.images[open.dataset.image];
    show(image, open.dataset.stage === undefined ? image.stages.length - 1 : Number(open.dataset.stage));
  } else if (reuse) {
    trigger('open', {query: changed(props.value.images[reuse.dataset.reuse].query, {count})});
  } else if (more) {
    const values = {count: Math.max(count, 4), variation: 1, strength: 0.3};
    trigger('open', {query: changed(props.value.images[more.dataset.more].query, values)});
  } else if (save) {
    trigger('save', {query: props.value.query});
  } else if (copy) {
    copyLink(copy.dataset.query).then((copied) => {
      copy.textContent = copied ? 'Link copied' : 'Copy it from the address bar';
    });
  } else if (event.target.tagName === 'DIALOG') {
    event.target.close();
  }
});
