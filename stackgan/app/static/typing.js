// Gradio's own input event is a key press: it is not sent for text that is pasted, deleted, undone or typed on a phone.
document.addEventListener('input', (event) => {
  const ticked = document.querySelector('#live input')?.checked;
  if (ticked && event.target.matches('#caption textarea') && event.target.value.trim()) {
    setTimeout(() => {  // after Gradio has updated the text
      trigger('typed');
      trigger('asked');
    });
  }
});
