() => requestAnimationFrame(() => document.querySelector('#gallery a.save-all')?.click())
