/** Dialogs for who runs the mesh: inviting, and members, invites and the mesh itself. */

import { choice, confirm, dialogForm, field, openDialog } from './dialog.js';
import { copyText, h, svg } from './dom.js';
import { ago, avatar, fingerprint, fullTime, moment, plural } from './text.js';

const HOUR = 3600; // s
const TERMS = [[`${24 * HOUR}`, 'a day'], [`${7 * 24 * HOUR}`, 'a week'], [`${30 * 24 * HOUR}`, '30 days'], [`${HOUR}`, 'an hour']];
const COPIED_FOR = 2_000; // ms a button tells what it did
const MARGIN = 4; // modules of white around a QR code; the standard asks for 4

/** @param {import('./session.js').Session} session */
export function invite(session) {
  const dialog = openDialog({ title: 'Invite people and agents', className: 'invite' });
  const body = dialog.querySelector('.dialog-body');
  body.append(dialogForm('Make the invite', async (data) => {
    const made = await session.mesh.invite({
      role: data.get('role'), uses: Number(data.get('uses')) || 1, ttlSeconds: Number(data.get('ttl')), label: data.get('label').trim(),
    });
    body.replaceChildren(...showInvite(session, made, dialog));
  },
  h('div', { className: 'fields' },
    field('How many may join', h('input', { name: 'uses', type: 'number', min: 1, max: 1000, value: 1, inputMode: 'numeric', autofocus: true })),
    field('Valid for', choice('ttl', TERMS, `${24 * HOUR}`)),
    field('As', choice('role', [['member', 'members'], ['admin', 'admins, who can do what you see here']]))),
  field('What for', h('input', { name: 'label', maxLength: 64, autocomplete: 'off', placeholder: 'a note to yourself' }))));
}

/** An invite to be handed out: what each kind of guest needs, and who has come. */
function showInvite(session, made, dialog) {
  const joined = h('p', { className: 'joined', role: 'status' });
  watch(session, made, joined, dialog);
  return [
    h('p', {}, `It works ${made.maxUses === 1 ? 'once' : plural(made.maxUses, 'time')}, until ${moment(Date.parse(made.expiresAt))}. Who has the link can join: send it only to whom it is for.`),
    h('div', { className: 'ways' },
      h('div', {},
        way('A person opens this link', made.shortLink),
        way('An agent with meshbox runs', `meshbox join ${made.shortLink}`),
        way('An agent with a claudemesh client runs', `claudemesh join ${made.link}`),
        way('Or type the code where one is asked for', made.code)),
      made.qr ? qrCode(made.qr, made.shortLink) : ''),
    joined,
  ];
}

function way(label, text) {
  const button = h('button', { type: 'button', className: 'plain', 'aria-label': `Copy: ${label}` }, 'Copy');
  button.onclick = async () => {
    button.textContent = await copyText(text) ? 'Copied' : 'Press Ctrl+C';
    setTimeout(() => { button.textContent = 'Copy'; }, COPIED_FOR);
  };
  return h('div', { className: 'way' }, h('p', {}, label), h('div', { className: 'copyable' }, h('code', { tabIndex: 0 }, text), button));
}

/** Black on white in dark mode too: not every reader takes it the other way round. */
function qrCode(rows, text) {
  const size = rows.length + 2 * MARGIN;
  const dark = rows.flatMap((row, y) => [...row].map((module, x) => (module === '1' ? `M${x + MARGIN} ${y + MARGIN}h1v1h-1z` : '')));
  return svg('svg', { class: 'qr', viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': `QR code of ${text}`, 'shape-rendering': 'crispEdges' },
    svg('rect', { width: size, height: size, fill: '#fff' }), svg('path', { d: dark.join(''), fill: '#000' }));
}

/** Tells who has come by an invite, as it happens. */
function watch(session, { id, maxUses }, place, dialog) {
  const look = async () => {
    const now = (await session.mesh.invites()).find((other) => other.id === id);
    const names = now?.joined.map(({ name }) => name) ?? [];
    const open = maxUses - (now?.uses ?? 0);
    place.classList.toggle('done', names.length > 0);
    const came = names.length ? `${names.join(', ')} joined. ` : '';
    place.textContent = came + (now?.state === 'open' ? `Waiting for ${open === 1 ? 'somebody' : `${open} more`} to join…` : names.length ? '' : 'This invite does not work any more.');
  };
  refreshing(session, ['invites'], look, dialog);
}

/** Runs a look now and whenever things change, as long as a dialog is open. */
function refreshing(session, events, look, dialog) {
  const quietly = () => look().catch(() => {}); // the next change, or the next hello, looks again
  for (const event of events) session.mesh.addEventListener(event, quietly);
  session.connection.addEventListener('hello', quietly);
  dialog.addEventListener('close', () => {
    for (const event of events) session.mesh.removeEventListener(event, quietly);
    session.connection.removeEventListener('hello', quietly);
  });
  quietly();
}

/** @param {import('./session.js').Session} session */
export function manage(session) {
  const members = h('div', {}, h('p', { className: 'hint' }, 'Loading…'));
  const invites = h('div', {}, h('p', { className: 'hint' }, 'Loading…'));
  const error = h('p', { className: 'error', role: 'alert', hidden: true });
  const dialog = openDialog({ title: `Manage ${session.identity.meshSlug}`, className: 'manage' },
    error,
    h('section', {}, h('h3', {}, 'Members'), members),
    h('section', {}, h('h3', {}, 'Invites that still work'), invites),
    h('section', {}, h('h3', {}, 'The mesh'), renameForm(session)));
  const act = (task) => task().then(() => { error.hidden = true; }, ({ message }) => {
    error.textContent = message;
    error.hidden = false;
    error.scrollIntoView({ block: 'nearest' });
  });
  refreshing(session, ['members', 'peers'], async () => {
    members.replaceChildren(memberTable(session, await session.mesh.members(), act));
  }, dialog);
  refreshing(session, ['invites'], async () => {
    invites.replaceChildren(inviteTable(session, (await session.mesh.invites()).filter(({ state }) => state === 'open'), act));
  }, dialog);
}

function memberTable(session, members, act) {
  return table(['Name', 'Role', 'Last seen', 'Fingerprint', ''], members.map((member) => {
    const { pubkey, displayName, role, joinedAt, lastSeenAt, online, revokedAt } = member;
    const seen = revokedAt ? `revoked ${ago(Date.parse(revokedAt))}` : online ? 'here now' : lastSeenAt ? ago(Date.parse(lastSeenAt)) : 'never';
    return h('tr', { className: revokedAt ? 'revoked' : '' },
      cell('Name', h('span', { className: 'who' }, avatar({ key: pubkey, name: displayName, type: session.roster.typeOf({ key: pubkey }) }), h('bdi', {}, displayName))),
      cell('Role', role),
      cell('Last seen', h('span', { title: `joined ${fullTime(Date.parse(joinedAt))}` }, seen)),
      cell('Fingerprint', h('code', { title: pubkey }, fingerprint(pubkey))),
      cell('', memberAction(session, member, act)));
  }));
}

function memberAction(session, member, act) {
  const { pubkey, displayName, role, revokedAt } = member;
  if (pubkey === session.identity.pubkey) return h('span', { className: 'hint' }, 'you');
  if (revokedAt) return rowButton('Restore', displayName, () => act(() => session.mesh.restore(member)));
  if (role === 'owner') return '';
  return rowButton('Revoke', displayName, async () => {
    const sentence = `${displayName} is disconnected at once and can neither come back nor join again with the same key, until you restore it. Invites it made are withdrawn.${role === 'admin' ? ' Admins see all invites: look through those that still work, too.' : ''}`;
    if (await confirm(`Revoke ${displayName}?`, sentence, 'Revoke')) act(() => session.mesh.revoke(member));
  });
}

function inviteTable(session, invites, act) {
  if (!invites.length) return h('p', { className: 'hint' }, 'There are none.');
  return table(['For', 'Role', 'Used', 'Until', ''], invites.map((one) => {
    const name = one.label || one.code;
    return h('tr', {},
      cell('For', h('bdi', {}, name)),
      cell('Role', one.role),
      cell('Used', `${one.uses} of ${one.maxUses}`),
      cell('Until', moment(Date.parse(one.expiresAt))),
      cell('', h('span', { className: 'buttons' },
        rowButton('Show', name, () => {
          const dialog = openDialog({ title: 'Invite', className: 'invite' });
          dialog.querySelector('.dialog-body').append(...showInvite(session, one, dialog));
        }),
        rowButton('Withdraw', name, () => act(() => session.mesh.withdraw(one.id))))));
  }));
}

function renameForm(session) {
  const form = dialogForm('Rename', async (data) => {
    await session.mesh.rename(data.get('name').trim());
    form.querySelector('button').textContent = 'Renamed';
  }, field('Name', h('input', { name: 'name', value: session.identity.meshSlug, maxLength: 31, autocomplete: 'off', autocapitalize: 'none', spellcheck: false }),
    'a–z, 0–9 and -. Links made before go on working.'));
  return form;
}

function table(heads, rows) {
  return h('table', {}, h('thead', {}, h('tr', {}, ...heads.map((head) => (head ? h('th', { scope: 'col' }, head) : h('td', {}))))), h('tbody', {}, ...rows));
}

/** On a phone each row is a card, and its cells say what they are. */
const cell = (head, content) => h('td', { dataset: { head } }, content);

const rowButton = (text, of, onclick) => h('button', { type: 'button', className: 'plain', onclick, 'aria-label': `${text} ${of}` }, text);
