/** All keys at a glance. */

import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { keys, lettersAreKeys } from './keys.js';

/** Keys that are handled where the focus is: while writing, or on a message. */
const ELSEWHERE = [
  { shown: 'Enter', does: 'Send' },
  { shown: 'Shift Enter', does: 'New line' },
  { shown: '@', does: 'Mention somebody' },
  { shown: '↑ ↓', does: 'From message to message' },
  { shown: 'C', does: 'Copy its text' },
  { shown: 'L', does: 'Copy its link' },
  { shown: '↵', does: 'On a reply: to what it answers' },
];

/** Shows what keys there are. */
export function showHelp() {
  const rows = [...keys({}), ...ELSEWHERE].map(({ shown, does }) => h('div', {},
    h('dt', {}, ...shown.split(' ').map((key) => h('kbd', {}, key))), h('dd', {}, does)));
  const off = lettersAreKeys() ? '' : h('p', { className: 'hint' }, 'Keys of a single character are switched off in the settings.');
  openDialog({ title: 'Keys', className: 'help' }, off, h('dl', {}, ...rows));
}
