// Gradio supplies element, props and trigger.
let query = '';
element.addEventListener('click', (event) => {
  const open = event.target.closest('[data-row]');
  const dialog = element.querySelector('dialog');
  if (open) {
    const cell = props.value.rows[open.dataset.row].cells[open.dataset.column];
    if (!cell.url) return;
    query = cell.query;
    const large = dialog.querySelector('img.large');
    large.src = cell.url;
    large.alt = cell.text;
    dialog.querySelector('.caption').textContent = cell.text;
    dialog.showModal();
  } else if (event.target.closest('.generate')) {
    dialog.close();
    document.querySelector('#tabs [role=tab]').click(); // the first one generates
    document.dispatchEvent(new CustomEvent('stackgan-open', {detail: query}));
  } else if (event.target.closest('.save-grid')) {
    trigger('save');
  } else if (event.target.tagName === 'DIALOG') {
    event.target.close();
  }
});
