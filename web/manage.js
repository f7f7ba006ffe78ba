/** Dialogs for who runs the mesh: inviting, and members, invites and the mesh itself. */

import { copyable } from './copyable.js';
import { choice, confirm, dialogForm, field, openDialog } from './dialog.js';
import { arrange, h, svg } from './dom.js';
import { ago, avatar, fingerprint, fullTime, moment, plural } from './text.js';

const HOUR = 3600; // s
const TERMS = [[`${24 * HOUR}`, 'a day'], [`${7 * 24 * HOUR}`, 'a week'], [`${30 * 24 * HOUR}`, '30 days'], [`${HOUR}`, 'an hour']];
const MOST_USES = 1000; // of one invite
const MARGIN = 4; // modules of white around a QR code; the standard asks for 4

/** @param {import('./session.js').Session} session */
export function invite(session) {
  const dialog = openDialog({ title: 'Invite people and agents', className: 'invite' });
  const body = dialog.querySelector('.dialog-body');
  body.append(dialogForm('Make the invite', async (data) => {
    const made = await session.mesh.invite({
      role: data.get('role'), uses: usesIn(data.get('uses')), ttlSeconds: Number(data.get('ttl')), label: data.get('label').trim(),
    });
    body.replaceChildren(...showInvite(session, made, dialog));
  },
  h('div', { className: 'fields' },
    field('How many may join', h('input', { name: 'uses', type: 'number', min: 1, max: MOST_USES, value: 1, inputMode: 'numeric', autofocus: true })),
    field('Valid for', choice('ttl', TERMS, `${24 * HOUR}`)),
    field('As', choice('role', [['member', 'members'], ['admin', 'admins, who can do what you see here']]))),
  field('What for', h('input', { name: 'label', maxLength: 64, autocomplete: 'off', placeholder: 'a note to yourself' }))));
}

function usesIn(typed) {
  const uses = Number(typed);
  if (Number.isInteger(uses) && uses >= 1 && uses <= MOST_USES) return uses;
  throw new Error(`An invite works for 1 to ${MOST_USES} guests.`);
}

/** An invite to be handed out: what each kind of guest needs, and who has come. */
function showInvite(session, made, dialog) {
  const joined = h('p', { className: 'joined', role: 'status' });
  watch(session, made, joined, dialog);
  const isLocal = /^(localhost|127\.|\[::1\])/.test(new URL(made.shortLink).host);
  return [
    isLocal ? h('p', { className: 'warning' }, 'This link leads to this machine only. For guests on other machines, whoever runs meshbox has to start it with ', h('code', {}, '--public-url'), ' and the address they reach it at.') : '',
    h('p', {}, `It works ${made.maxUses === 1 ? 'once' : plural(made.maxUses, 'time')}, until ${moment(Date.parse(made.expiresAt))}. Who has the link can join: send it only to whom it is for.`),
    h('div', { className: 'ways' },
      h('div', {},
        copyable('A person opens this link', made.shortLink),
        copyable('An agent with meshbox runs', `meshbox join ${made.shortLink}`),
        copyable('An agent with a claudemesh client runs', `claudemesh join ${made.link}`),
        copyable('Or type the code where one is asked for', made.code)),
      made.qr ? qrCode(made.qr, made.shortLink) : ''),
    joined,
  ];
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
  const members = new Table(['Name', 'Role', 'Last seen', 'Fingerprint', '']);
  const invites = new Table(['For', 'Role', 'Used', 'Until', '']);
  const error = h('p', { className: 'error', role: 'alert', hidden: true });
  const dialog = openDialog({ title: `Manage ${session.identity.meshSlug}`, className: 'manage' },
    error,
    h('section', {}, h('h3', {}, 'Members'), members.element),
    h('section', {}, h('h3', {}, 'Invites that still work'), invites.element),
    h('section', {}, h('h3', {}, 'The mesh'), renameForm(session)));
  const act = (task) => task().then(() => { error.hidden = true; }, ({ message }) => {
    error.textContent = message;
    error.hidden = false;
    error.scrollIntoView({ block: 'nearest' });
  });
  refreshing(session, ['members', 'peers'], async () => {
    members.show(await session.mesh.members(), ({ pubkey }) => pubkey, (member) => memberCells(session, member, act));
  }, dialog);
  refreshing(session, ['invites'], async () => {
    const open = (await session.mesh.invites()).filter(({ state }) => state === 'open');
    invites.show(open, ({ id }) => id, (one) => inviteCells(session, one, act));
  }, dialog);
  refreshing(session, ['mesh'], async () => {
    dialog.querySelector('h2').textContent = `Manage ${session.identity.meshSlug}`;
  }, dialog);
}

function memberCells(session, member, act) {
  const { pubkey, displayName, role, joinedAt, lastSeenAt, online, revokedAt } = member;
  const seen = revokedAt ? `revoked ${ago(Date.parse(revokedAt))}` : online ? 'here now' : lastSeenAt ? ago(Date.parse(lastSeenAt)) : 'never';
  const shade = revokedAt ? 'revoked' : '';
  return [
    h('span', { className: `who ${shade}` }, avatar({ key: pubkey, name: displayName, type: session.roster.typeOf({ key: pubkey }) }), h('bdi', {}, displayName)),
    h('span', { className: shade }, role),
    h('span', { className: shade, title: `joined ${fullTime(Date.parse(joinedAt))}` }, seen),
    h('code', { title: pubkey }, fingerprint(pubkey)),
    memberAction(session, member, act),
  ];
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

function inviteCells(session, one, act) {
  const name = one.label || one.code;
  const show = () => {
    const dialog = openDialog({ title: 'Invite', className: 'invite' });
    dialog.querySelector('.dialog-body').append(...showInvite(session, one, dialog));
  };
  return [
    h('bdi', {}, name),
    one.role,
    `${one.uses} of ${one.maxUses}`,
    moment(Date.parse(one.expiresAt)),
    h('span', { className: 'buttons' }, rowButton('Show', name, show), rowButton('Withdraw', name, () => act(() => session.mesh.withdraw(one.id)))),
  ];
}

function renameForm(session) {
  const form = dialogForm('Rename', async (data) => {
    await session.mesh.rename(data.get('name').trim());
    form.querySelector('button').textContent = 'Renamed';
  }, field('Name', h('input', { name: 'name', value: session.identity.meshSlug, maxLength: 31, autocomplete: 'off', autocapitalize: 'none', spellcheck: false }),
    'a–z, 0–9 and -. Links made before go on working.'));
  return form;
}

/** A table that may change while somebody uses it: a row stays where it is as long as nothing is new in it. */
class Table {
  element = h('div', {}, h('p', { className: 'hint' }, 'Loading…'));

  #heads;
  #body = h('tbody');
  #table;
  #rows = new Map(); // key → row

  /** @param {string[]} heads of the columns, '' for none */
  constructor(heads) {
    this.#heads = heads;
    this.#table = h('table', {}, h('thead', {}, h('tr', {}, ...heads.map((head) => (head ? h('th', { scope: 'col' }, head) : h('td', {}))))), this.#body);
  }

  /**
   * @template T
   * @param {T[]} entries
   * @param {(entry: T) => string} keyOf
   * @param {(entry: T) => (Node|string)[]} cellsOf
   */
  show(entries, keyOf, cellsOf) {
    const rows = entries.map((entry) => this.#row(keyOf(entry), JSON.stringify(entry), () => cellsOf(entry)));
    this.#rows = new Map(rows.map((row) => [row.key, row]));
    arrange(this.#body, rows);
    arrange(this.element, [rows.length ? this.#table : h('p', { className: 'hint' }, 'There are none.')]);
  }

  #row(key, version, cells) {
    const row = this.#rows.get(key) ?? Object.assign(h('tr'), { key });
    if (row.version !== version) {
      row.version = version;
      const hadFocus = row.contains(document.activeElement);
      // On a phone each row is a card, and its cells say what they are.
      row.replaceChildren(...cells().map((content, column) => h('td', { dataset: { head: this.#heads[column] } }, content)));
      if (hadFocus) row.querySelector('button')?.focus();
    }
    return row;
  }
}

const rowButton = (text, of, onclick) => h('button', { type: 'button', className: 'plain', onclick, 'aria-label': `${text} ${of}` }, text);
