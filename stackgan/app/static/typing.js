// Gradio's own input event is a key press: it is not sent for text that is pasted, deleted, undone or typed on a phone.
document.addEventListener('input', (event) => {
  if (event.target.matches('#caption textarea')) setTimeout(() => trigger('typed'));  // after Gradio has updated the text
});
