/* Token ids of a caption by a tokenizer.json, cut as its "truncation" says: @huggingface/tokenizers does not. */

import { Tokenizer } from './vendor/@huggingface/tokenizers/tokenizers.min.mjs';

/** Function from a caption to its token ids, for the content of tokenizer.json. */
export function tokenizer(file) {
  const own = new Tokenizer(file, {});
  const longest = file.truncation.max_length;
  return (caption) => {
    const ids = own.encode(caption).ids;
    const excess = ids.length - longest;
    if (excess <= 0) return ids;
    const words = own.encode(caption, { add_special_tokens: false }).ids; // special tokens stay: drop words before the end
    let start = 0;
    while (words.some((id, i) => ids[start + i] !== id)) start++;
    const end = start + words.length;
    return [...ids.slice(0, end - excess), ...ids.slice(end)];
  };
}
