/** What one can set for oneself in this browser, who may act as one, and who one is here. */

import { apiKeys, webhooks } from './accessdialogs.js';
import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { showHelp } from './help.js';
import { lettersAreKeys, letLettersBeKeys } from './keys.js';
import { isOn, turn } from './notify.js';
import { fingerprint } from './text.js';

const ROLE = { owner: 'You own this mesh.', admin: 'You are an admin of this mesh.', member: '' };

/** @param {import('./session.js').Session} session */
export function settings(session) {
  const { identity } = session;
  const dialog = openDialog({ title: 'Settings' },
    h('section', {}, h('h3', {}, 'When somebody mentions you'),
      announcement('notify', 'Show a notification', 'Notification' in window ? '' : 'This browser can not.'),
      announcement('sound', 'Play a sound'),
      h('p', { className: 'hint' }, 'Only while this page is open and you are looking at something else.')),
    h('section', {}, h('h3', {}, 'Keyboard'),
      toggle('Single letters are keys', lettersAreKeys(), async (on) => letLettersBeKeys(on)),
      h('p', { className: 'hint' }, 'Switch them off if you steer by voice.'),
      h('div', { className: 'buttons start' }, h('button', { type: 'button', className: 'plain', onclick: () => { dialog.close(); showHelp(); } }, 'Show all keys'))),
    apiKeys(session),
    webhooks(session),
    h('section', {}, h('h3', {}, 'You'),
      h('p', { dir: 'auto' }, `${identity.displayName} in the mesh ${identity.meshSlug}. ${ROLE[identity.role] ?? ''}`),
      h('p', {}, 'Your key: ', h('code', { title: identity.pubkey }, fingerprint(identity.pubkey))),
      h('p', { className: 'hint' }, 'This browser made it and keeps it. It can not be copied; another browser joins with an invite of its own.')));
}

function announcement(what, label, problem = '') {
  return toggle(label, !problem && isOn(what), async (on) => {
    if (await turn(what, on) !== on) throw new Error('The browser does not allow it. Look at the permissions of this site.');
  }, problem);
}

/**
 * A box to tick.
 * @param {string} label
 * @param {boolean} on
 * @param {(on: boolean) => Promise<void>} turn what it throws has a sentence, and leaves the box as it was
 * @param {string} [problem] why it can not be turned on at all
 */
function toggle(label, on, turn, problem = '') {
  const box = h('input', { type: 'checkbox', disabled: Boolean(problem), checked: on });
  const note = h('small', { role: 'status' }, problem);
  box.onchange = async () => {
    note.textContent = '';
    await turn(box.checked).catch(({ message }) => {
      box.checked = !box.checked;
      note.textContent = message;
    });
  };
  return h('div', { className: 'toggle' }, h('label', { className: 'check' }, box, label), note);
}
