/** Who is named in a text, by the broker's rule (mentionsIn in broker/address.go). */

/** A name as the broker finds it in a text: letters, digits and what may stand between them. */
const TOKEN = /(?<![\p{L}\p{N}@])@([\p{L}\p{N}](?:[\p{L}\p{N}._-]*[\p{L}\p{N}])?)/gu;
const SIMPLE = /^[\p{L}\p{N}](?:[\p{L}\p{N}._-]*[\p{L}\p{N}])?$/u;

/** @param {string} name @returns {boolean} whether the broker finds it in a text by itself */
export const isSimple = (name) => SIMPLE.test(name);

/**
 * @param {string} text
 * @param {string[]} names display names
 * @returns {string[]} those that stand behind an @ in the text, in any case
 */
export function mentioned(text, names) {
  if (!text.includes('@')) return [];
  const tokens = new Set(Array.from(text.matchAll(TOKEN), ([, name]) => name.toLowerCase()));
  const lower = text.toLowerCase();
  return names.filter((name) => tokens.has(name.toLowerCase()) || (!isSimple(name) && stands(name.toLowerCase(), lower)));
}

/** Names with spaces and the like are looked for as they are. */
function stands(name, text) {
  for (let at = text.indexOf(`@${name}`); at >= 0; at = text.indexOf(`@${name}`, at + 1)) {
    const around = text.slice(Math.max(0, at - 1), at) + text.slice(at + 1 + name.length, at + 2 + name.length);
    if (!/[\p{L}\p{N}@]/u.test(around)) return true;
  }
  return false;
}
