() => requestAnimationFrame(() => document.querySelector('#grid-file a')?.click())
