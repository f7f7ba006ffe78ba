/** Text to be taken elsewhere, with a button that copies it. */

import { copyText, h } from './dom.js';

const COPIED_FOR = 2_000; // ms a button tells what it did

/**
 * @param {string} label what it is for
 * @param {string} text
 * @returns {HTMLElement}
 */
export function copyable(label, text) {
  const button = h('button', { type: 'button', className: 'plain', 'aria-label': `Copy: ${label}` }, 'Copy');
  button.onclick = async () => {
    button.textContent = await copyText(text) ? 'Copied' : 'Press Ctrl+C';
    setTimeout(() => { button.textContent = 'Copy'; }, COPIED_FOR);
  };
  return h('div', { className: 'way' }, h('p', {}, label), h('div', { className: 'copyable' }, h('code', { tabIndex: 0 }, text), button));
}
