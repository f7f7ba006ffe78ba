/** The keys of the page, in one table: what they do and what the help says of them. */

import { recall, remember } from './local.js';

/** @returns {boolean} whether single letters are keys: who steers by voice may not want that (WCAG 2.1.4) */
export const lettersAreKeys = () => recall('letters') !== 'off';

/** @param {boolean} on */
export const letLettersBeKeys = (on) => remember('letters', on ? '' : 'off');

/**
 * @typedef {Object} Key
 * @property {string} shown what the help calls it, keys between spaces
 * @property {string} does
 * @property {(event: KeyboardEvent) => boolean} is
 * @property {() => boolean|void} run false: it was not meant here
 */

const apple = /Mac|iP(hone|ad)/.test(navigator.platform);
const withCommand = ({ ctrlKey, metaKey }) => (apple ? metaKey : ctrlKey);
const plain = ({ ctrlKey, metaKey, altKey }) => !ctrlKey && !metaKey && !altKey;
const isCharacter = (event) => plain(event) && event.key.length === 1;

/**
 * @param {Object<string, () => boolean|void>} act what to do, by name
 * @returns {Key[]}
 */
export function keys(act) {
  return [
    { shown: apple ? '⌘ K' : 'Ctrl K', does: 'Go to a topic, or mention somebody', is: (event) => withCommand(event) && event.key.toLowerCase() === 'k', run: act.switcher },
    { shown: '/', does: 'Search', is: (event) => plain(event) && event.key === '/', run: act.search },
    { shown: 'Alt ↑', does: 'Topic before', is: ({ altKey, key }) => altKey && key === 'ArrowUp', run: act.topicBefore },
    { shown: 'Alt ↓', does: 'Next topic', is: ({ altKey, key }) => altKey && key === 'ArrowDown', run: act.topicAfter },
    { shown: 'M', does: 'To the messages', is: (event) => plain(event) && event.key === 'm', run: act.messages },
    { shown: 'R', does: 'Reply to the message under the pointer or the focus, else to the newest', is: (event) => plain(event) && event.key === 'r', run: act.reply },
    { shown: 'N', does: 'To the newest message', is: (event) => plain(event) && event.key === 'n', run: act.latest },
    { shown: 'W', does: 'Write', is: (event) => plain(event) && event.key === 'w', run: act.write },
    { shown: 'Esc', does: 'Close, give up a reply, or back to writing', is: ({ key }) => key === 'Escape', run: act.escape },
    { shown: '?', does: 'This help', is: (event) => plain(event) && event.key === '?', run: act.help },
  ];
}

/** @param {Object<string, () => boolean|void>} act see {@link keys} */
export function listenToKeys(act) {
  const table = keys(act);
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || document.querySelector('dialog[open]')) return;
    // A letter is text where one writes, and a command everywhere else.
    const writing = event.target.closest?.('input, textarea, select') && plain(event) && event.key !== 'Escape';
    const key = !writing && (lettersAreKeys() || !isCharacter(event)) && table.find(({ is }) => is(event));
    if (key && key.run() !== false) event.preventDefault();
  });
}
