/** The screens before the room: joining, and what is in the way of it. */

import { byId, h } from './dom.js';
import { StorageError } from './identity.js';
import { findInvite, InviteError, join } from './invite.js';
import { recall, remember } from './local.js';
import { BASE, HOME } from './route.js';
import { withCode } from './text.js';

const LOGO = new URL('icon.svg', import.meta.url).href;
const NAME_LENGTH = 64; // characters the broker keeps

/** Shows a screen: a title and what stands below it. */
function show(id, title, ...content) {
  const screen = byId('screen');
  screen.replaceChildren(h('section', { id, className: 'card' },
    h('img', { src: LOGO, alt: '', width: 48, height: 48 }), h('h1', { dir: 'auto' }, title), ...content));
  byId('room').hidden = true;
  screen.hidden = false;
  document.title = 'meshbox';
}

/**
 * `/` without a membership: where an invite comes from, and a field for it.
 * @param {(found: {token?: string, code?: string}) => Promise<void>} onInvite
 * @param {string} [problem] a sentence about the invite that brought somebody here
 * @param {string} [home] the mesh this browser is a member of
 */
export function showWelcome(onInvite, problem = '', home = '') {
  show('welcome', problem ? 'This invite does not work' : 'You need an invite',
    problem ? h('p', { className: 'error', role: 'alert' }, ...withCode(problem)) : '',
    h('p', {}, 'This is a meshbox: one room where AI agents and people who work together meet. A link lets you in.'),
    h('ul', { className: 'facts' },
      h('li', {}, 'The terminal that runs meshbox printed a link when it first started.'),
      h('li', {}, ...withCode('There, `meshbox invite` prints a new one at any time.'))),
    inviteForm(onInvite),
    home ? h('p', {}, h('a', { href: HOME }, `Go to ${home}`)) : '');
  byId('invite-input').focus();
}

function inviteForm(onInvite) {
  const input = h('input', {
    id: 'invite-input', autocomplete: 'off', spellcheck: false, autocapitalize: 'none', placeholder: `${location.origin}${BASE}/join/…`,
  });
  return form('invite', 'Invite link or code', input, 'Continue', async () => {
    const found = findInvite(input.value);
    if (!found) throw new InviteError('garbled');
    await onInvite(found);
  });
}

/**
 * The join screen of an invite.
 * @param {string} token
 * @param {{mesh_slug: string, expires_at: number}} invite expires_at in Unix seconds
 * @param {(identity: import('./identity.js').Identity) => void} onJoined
 * @throws {InviteError} when the invite has expired
 */
export function showJoin(token, invite, onJoined) {
  const left = invite.expires_at * 1000 - Date.now();
  if (left <= 0) throw new InviteError('invite_expired');
  const input = h('input', { id: 'join-name', autocomplete: 'nickname', maxLength: NAME_LENGTH, value: recall('name') });
  const joinForm = form('join', 'Your name', input, 'Join', async () => {
    const name = input.value.trim();
    if (!name) throw new InviteError('Type the name that others shall see.');
    const identity = await join(token, name);
    remember('name', name);
    onJoined(identity);
  });
  show('welcome', `Join ${invite.mesh_slug}`,
    h('p', {}, 'You will meet everyone in #general, people and agents. Choose the name they see.'),
    joinForm,
    h('p', { className: 'fine' }, `This browser makes its own key and keeps it; there is no password.${validity(left)}`));
  input.focus();
  input.select();
}

/** A form of one field; what `submit` throws is shown below it. */
function form(name, label, input, action, submit) {
  const error = h('p', { id: `${name}-error`, className: 'error', role: 'alert', hidden: true });
  const button = h('button', { id: `${name}-button`, className: 'primary' }, action);
  input.setAttribute('aria-describedby', error.id);
  return h('form', {
    id: `${name}-form`,
    noValidate: true,
    onsubmit: async (event) => {
      event.preventDefault();
      if (button.disabled) return;
      button.disabled = true;
      error.hidden = true;
      await submit().catch((problem) => {
        if (problem instanceof StorageError) return showProblem('storage');
        error.replaceChildren(...withCode(problem.message));
        error.hidden = false;
        input.focus();
      });
      button.disabled = false;
    },
  }, h('label', { htmlFor: input.id }, label), h('div', { className: 'field' }, input, button), error);
}

/**
 * A full page that says what is missing and how to get it.
 * @param {'insecure'|'keys'|'storage'} kind
 */
export function showProblem(kind) {
  const { title, missing, fixes } = PROBLEMS[kind]();
  show('problem', title,
    h('p', {}, ...withCode(missing)),
    h('ol', { className: 'fixes' }, ...fixes.map(([head, ...lines]) =>
      h('li', {}, h('strong', {}, head), ...lines.map((line) => h('p', {}, ...(typeof line === 'string' ? withCode(line) : line)))))));
}

const PROBLEMS = {
  insecure() {
    const port = location.port || '80';
    return {
      title: 'This address is not secure enough',
      missing: `You are known here by a key that your browser makes and keeps. Browsers do that only over HTTPS or on localhost, and this page came over plain HTTP from \`${location.host}\` (no secure context).`,
      fixes: [
        ['On the machine that runs meshbox', ['Open ', sameOn(`http://localhost:${port}`)]],
        ['From another computer, through SSH', `Run \`ssh -L 7900:localhost:${port} user@${location.hostname}\` and leave it open.`, ['Then open ', sameOn('http://localhost:7900')]],
        ['For phones and everybody else, HTTPS',
          'Start meshbox with `--tls-self-signed`; each browser then asks once whether to trust it.',
          `Or put a reverse proxy with a certificate in front, for example Caddy: \`caddy reverse-proxy --from chat.example.com --to localhost:${port}\`, and \`meshbox --public-url https://chat.example.com\`.`],
      ],
    };
  },
  keys: () => ({
    title: 'This browser is too old for meshbox',
    missing: 'You are known here by an Ed25519 key that your browser makes and keeps. This browser cannot make one (WebCrypto has no Ed25519).',
    fixes: [
      ['Update this browser', 'Chrome and Edge can since version 137, Firefox since 129, Safari since 17 (iOS 17).'],
      ['Or open this page in another one', 'On an iPhone or iPad all browsers depend on the version of iOS.'],
    ],
  }),
  storage: () => ({
    title: 'This browser does not keep your key',
    missing: 'You are known here by a key that your browser makes and keeps (in IndexedDB). It refused to store it.',
    fixes: [
      ['Leave the private window', 'Private and incognito windows of some browsers cannot store keys. Open this page in an ordinary window.'],
      ['Allow storage for this site', 'Check that cookies and site data are not blocked for this address, and that the disk is not full.'],
    ],
  }),
};

/** A link to this page, invite and all, at another address. */
function sameOn(origin) {
  return h('a', { href: origin + location.pathname }, origin, location.pathname.replace(/(.{6}).{12,}/, '$1…'));
}

function validity(ms) {
  const hours = Math.round(ms / 3600_000);
  if (!(hours < 24 * 90)) return ''; // who cares, or no limit at all
  const left = hours < 2 ? 'an hour at most' : hours < 48 ? `${hours} more hours` : `${Math.round(hours / 24)} more days`;
  return ` The invite is valid for ${left}.`;
}
