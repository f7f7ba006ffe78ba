/** What one can set for oneself in this browser, and who one is here. */

import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { showHelp } from './help.js';
import { isOn, turn } from './notify.js';
import { fingerprint } from './text.js';

const ROLE = { owner: 'You own this mesh.', admin: 'You are an admin of this mesh.', member: '' };

/** @param {import('./session.js').Session} session */
export function settings({ identity }) {
  const dialog = openDialog({ title: 'Settings' },
    h('section', {}, h('h3', {}, 'When somebody mentions you'),
      toggle('notify', 'Show a notification', 'Notification' in window ? '' : 'This browser can not.'),
      toggle('sound', 'Play a sound'),
      h('p', { className: 'hint' }, 'Only while this page is open and you are looking at something else.')),
    h('section', {}, h('h3', {}, 'You'),
      h('p', { dir: 'auto' }, `${identity.displayName} in the mesh ${identity.meshSlug}. ${ROLE[identity.role] ?? ''}`),
      h('p', {}, 'Your key: ', h('code', { title: identity.pubkey }, fingerprint(identity.pubkey))),
      h('p', { className: 'hint' }, 'This browser made it and keeps it. It can not be copied; another browser joins with an invite of its own.')),
    h('div', { className: 'buttons start' }, h('button', { type: 'button', className: 'plain', onclick: () => { dialog.close(); showHelp(); } }, 'Show all keys')));
}

function toggle(what, label, problem = '') {
  const box = h('input', { type: 'checkbox', disabled: Boolean(problem), checked: !problem && isOn(what) });
  const note = h('small', { role: 'status' }, problem);
  box.onchange = async () => {
    const wanted = box.checked;
    box.checked = await turn(what, wanted);
    note.textContent = wanted && !box.checked ? 'The browser does not allow it; look at the permissions of this site.' : '';
  };
  return h('div', { className: 'toggle' }, h('label', { className: 'check' }, box, label), note);
}
