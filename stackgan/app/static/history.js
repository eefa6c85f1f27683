// Entries {query, caption, seed, image, favourite}, newest first, in the browser's storage.
const KEY = 'stackgan-history';
const MOST = 200; // entries that are not favourites
const section = element.querySelector('.history');
const list = section.querySelector('ul');
const read = () => {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY) || '[]');
    return Array.isArray(entries) ? entries.filter((entry) => typeof entry?.query === 'string') : [];
  } catch {
    return []; // no storage, or not our entries
  }
};
const write = (entries) => {
  let others = 0;
  let kept = entries.filter((entry) => entry.favourite || ++others <= MOST);
  for (;;) {
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
      break;
    } catch { // storage is full, or not available at all
      const oldest = kept.findLastIndex((entry) => !entry.favourite);
      if (oldest < 0) break;
      kept = kept.filter((_, index) => index !== oldest);
    }
  }
  draw(kept);
};
const button = (name, label, text) => {
  const made = document.createElement('button');
  made.className = name;
  made.setAttribute('aria-label', label);
  made.title = label;
  made.textContent = text;
  return made;
};
const item = (entry) => {
  const line = document.createElement('li');
  line.dataset.query = entry.query;
  const what = [entry.caption || 'image', entry.seed && 'seed ' + entry.seed].filter(Boolean).join(', ');
  const open = button('open', 'Open: ' + what, '');
  const image = document.createElement('img');
  image.src = String(entry.image).startsWith('data:image/') ? entry.image : '';
  image.alt = '';
  image.width = image.height = 96;
  open.append(image);
  const favourite = button('favourite', 'Favourite', entry.favourite ? '★' : '☆');
  favourite.setAttribute('aria-pressed', String(Boolean(entry.favourite)));
  const row = document.createElement('div');
  row.append(favourite, button('delete', 'Delete from the history', '×'));
  line.append(open, row);
  return line;
};
const draw = (entries) => {
  section.hidden = entries.length === 0;
  list.replaceChildren(...entries.map(item));
};
let newest = null; // query of the entry that the present burst of changes replaces
document.addEventListener('stackgan-generated', ({detail: {entry, replace}}) => {
  let entries = read();
  if (replace && newest !== null) entries = entries.filter((each) => each.favourite || each.query !== newest);
  if (!entries.some((each) => each.query === entry.query)) {
    entries.unshift(entry);
    newest = entry.query;
  } else {
    newest = null;
  }
  write(entries);
});
section.addEventListener('click', (event) => {
  const query = event.target.closest('li')?.dataset.query;
  const pressed = event.target.closest('button');
  if (!pressed) return;
  if (pressed.matches('.open')) {
    document.dispatchEvent(new CustomEvent('stackgan-open', {detail: query}));
  } else if (pressed.matches('.favourite')) {
    write(read().map((entry) => (entry.query === query ? {...entry, favourite: !entry.favourite} : entry)));
    list.querySelector(`[data-query="${CSS.escape(query)}"] .favourite`)?.focus();
  } else if (pressed.matches('.delete')) {
    write(read().filter((entry) => entry.query !== query));
  } else if (pressed.matches('.clear')) {
    write(read().filter((entry) => entry.favourite));
  }
});
window.addEventListener('storage', (event) => { if (event.key === KEY) draw(read()); }); // another window
draw(read());
