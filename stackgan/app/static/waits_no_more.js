() => { document.dispatchEvent(new CustomEvent('stackgan-waits', {detail: false})); }
