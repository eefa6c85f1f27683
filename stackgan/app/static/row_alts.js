// Images of Gradio's table of examples have no alternative text: it becomes the first text of their row.
const name = () => document.querySelectorAll('#photo-examples tr').forEach((row) => {
  const text = [...row.querySelectorAll('td')].map((cell) => cell.textContent.trim()).find(Boolean) || '';
  row.querySelectorAll('img').forEach((image) => { if (!image.alt) image.alt = text || 'photo'; });
});
new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
name();
