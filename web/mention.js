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

/** All names that may stand behind an @, ready to be found in a text that is rendered. */
export class NameIndex {
  version = 1; // changes with the names

  #me = '';
  #list = '';
  #byFirstWord = new Map(); // lower-cased names, the longest first

  /**
   * @param {string[]} names
   * @param {string} me which of them is one's own
   */
  learn(names, me) {
    const list = JSON.stringify([[...names].sort(), me]); // they come by who is here, which is no matter
    if (list === this.#list) return;
    this.#list = list;
    this.version++;
    this.#me = me.toLowerCase();
    const lower = names.map((name) => name.toLowerCase()).sort((a, b) => b.length - a.length);
    this.#byFirstWord = Map.groupBy(lower, firstWord);
  }

  /**
   * Says whether an @name in a text is somebody's; see Mention in inline.js.
   * @param {string} name
   * @param {string} after what comes behind it: names may have more than one word
   * @returns {{className: string, more: string}|null}
   */
  find(name, after) {
    const said = (name + after).toLowerCase();
    const found = this.#byFirstWord.get(firstWord(name.toLowerCase()))?.find((known) => said.startsWith(known)
      && !/^[\p{L}\p{N}]/u.test(said.slice(known.length)) && known.length >= name.length);
    return found ? { className: found === this.#me ? 'me' : '', more: after.slice(0, found.length - name.length) } : null;
  }
}

const firstWord = (name) => name.split(/[^\p{L}\p{N}._-]/u)[0];
