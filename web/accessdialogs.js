/** The sections of the settings on API keys and webhooks, and the dialogs that make them. */

import { Access, works } from './access.js';
import { copyable } from './copyable.js';
import { choice, confirm, dialogForm, field, openDialog } from './dialog.js';
import { h } from './dom.js';
import { BASE } from './route.js';
import { ago, moment } from './text.js';
import { GENERAL } from './topics.js';

const DAY = 86_400_000; // ms
const TERMS = [['', 'until it is revoked'], [`${DAY}`, 'a day'], [`${7 * DAY}`, 'a week'], [`${30 * DAY}`, '30 days'], [`${365 * DAY}`, 'a year']];
const MAY = { send: 'send', read: 'read', state_write: 'change the shared state', admin: 'do everything' };

/** @param {import('./session.js').Session} session */
export function apiKeys(session) {
  const access = new Access(session.request);
  const list = new List('You have no API keys.', async () => {
    const keys = await access.keys();
    const own = (key) => keyEntry(session, access, key, list);
    const dead = keys.filter((key) => !works(key));
    return {
      entries: keys.filter(works).map(own),
      more: dead.length ? h('details', {}, h('summary', {}, `${dead.length} that ${dead.length === 1 ? 'works' : 'work'} no more`), h('ul', { className: 'grants', role: 'list' }, ...dead.map(own))) : '',
    };
  });
  return h('section', { className: 'api-keys' }, h('h3', {}, 'API keys'),
    h('p', { className: 'hint' }, 'With one, a script or an agent without meshbox acts as you.'),
    list.element,
    opener('New API key', () => newKey(session, access, list)));
}

/** @param {import('./session.js').Session} session */
export function webhooks(session) {
  const access = new Access(session.request);
  const list = new List('You have no webhooks.', async () => ({
    entries: (await access.webhooks()).map((hook) => webhookEntry(session, access, hook, list)),
    more: '',
  }));
  return h('section', { className: 'webhooks' }, h('h3', {}, 'Webhooks'),
    h('p', { className: 'hint' }, 'What GitHub, Grafana or any other service posts to the address of one is said in a topic.'),
    list.element,
    opener('New webhook', () => newWebhook(session, access, list)));
}

const opener = (text, onclick) => h('div', { className: 'buttons start' }, h('button', { type: 'button', className: 'plain', onclick }, text));

/** What one has made, each with a button that ends it. */
class List {
  #place = h('div', {}, h('p', { className: 'hint' }, 'Loading…'));
  #error = h('p', { className: 'error', role: 'alert', hidden: true });
  element = h('div', { className: 'granted', tabIndex: -1 }, this.#place, this.#error);

  #empty;
  #look;

  /**
   * @param {string} empty what is said if there are none
   * @param {() => Promise<{entries: Node[], more: Node|string}>} look
   */
  constructor(empty, look) {
    this.#empty = empty;
    this.#look = look;
    this.refresh();
  }

  /** Does something, and shows what came of it. @param {() => Promise<void>} [task] */
  async refresh(task = async () => {}) {
    try {
      await task();
      const { entries, more } = await this.#look();
      const hadFocus = this.#place.contains(document.activeElement);
      this.#place.replaceChildren(entries.length ? h('ul', { className: 'grants', role: 'list' }, ...entries) : h('p', { className: 'hint' }, this.#empty), more);
      this.#error.hidden = true;
      if (hadFocus) this.element.focus(); // what had it is gone
    } catch ({ message, passing }) {
      this.#error.textContent = passing ? 'There is no connection. Open the settings again when there is.' : message;
      this.#error.hidden = false;
    }
  }
}

function entry(name, details, button) {
  return h('li', {},
    h('div', {}, h('p', { className: 'grant-name' }, ...name), ...details.map((line) => h('p', { className: 'hint', dir: 'auto' }, line))),
    button);
}

function keyEntry(session, access, key, list) {
  const { label, prefix, capabilities, topicScopes, lastUsedAt, revokedAt, expiresAt, issuedBy } = key;
  const name = label || prefix;
  const may = `May ${capabilities.map((capability) => MAY[capability] ?? capability).join(' and ')}${topicScopes ? ` in ${topicScopes.map((topic) => `#${topic}`).join(', ')}` : ''}`;
  const until = revokedAt ? `revoked ${ago(Date.parse(revokedAt))}` : !expiresAt ? '' : works(key) ? `until ${moment(Date.parse(expiresAt))}` : `expired ${ago(Date.parse(expiresAt))}`;
  const used = lastUsedAt ? `used ${ago(Date.parse(lastUsedAt))}` : 'never used';
  return entry([label ? h('bdi', {}, label) : '', h('code', {}, `${prefix}…`)],
    [[may, until, used].filter(Boolean).join(' · '), ofWhom(session, issuedBy)].filter(Boolean),
    works(key) ? ender('Revoke', name, async () => {
      if (await confirm(`Revoke ${name}?`, 'Whatever uses it is refused at once. This can not be undone.', 'Revoke')) list.refresh(() => access.revokeKey(key));
    }) : '');
}

function webhookEntry(session, access, hook, list) {
  const { name, topic, active, madeBy } = hook;
  return entry([h('bdi', {}, name)],
    [`Speaks in #${topic}${active ? '' : `. It refuses what comes: ${madeBy} is not in the topic any more.`}`, ofWhom(session, madeBy)].filter(Boolean),
    ender('Delete', name, async () => {
      if (await confirm(`Delete the webhook ${name}?`, 'What is posted to its address is refused at once. This can not be undone.', 'Delete')) list.refresh(() => access.deleteWebhook(hook));
    }));
}

/** Who runs the mesh sees those of others, too. */
const ofWhom = ({ identity }, name) => (name === identity.displayName ? '' : `Of ${name}`);

const ender = (text, of, onclick) => h('button', { type: 'button', className: 'plain', 'aria-label': `${text} ${of}`, onclick }, text);

function newKey(session, access, list) {
  const runs = session.identity.role === 'owner' || session.identity.role === 'admin';
  const dialog = openDialog({ title: 'New API key', className: 'invite' }, dialogForm('Make the key', async (data) => {
    const capabilities = data.getAll('may');
    if (!capabilities.length) throw new Error('Choose what the key may do.');
    const key = await access.createKey({
      label: data.get('label').trim(),
      capabilities,
      topicScopes: data.get('topic') ? [data.get('topic')] : undefined,
      expiresAt: data.get('term') ? new Date(Date.now() + Number(data.get('term'))).toISOString() : undefined,
    });
    list.refresh();
    showOnce(dialog, 'Your new API key', keyWays(key));
  },
  field('What for', h('input', { name: 'label', maxLength: 64, autocomplete: 'off', autofocus: true }), 'Such as the name of the script'),
  h('fieldset', { className: 'checks' }, h('legend', {}, 'What it may do'),
    may('read', 'Read topics, members and mentions', true),
    may('send', 'Send to topics', true),
    runs ? may('admin', 'Everything you may do', false) : ''),
  h('div', { className: 'fields wide' },
    field('Where', choice('topic', [['', 'all topics you may see'], ...session.topics.list.map(({ name }) => [name, `#${name}`])])),
    field('How long', choice('term', TERMS)))));
}

const may = (value, label, checked) => h('label', { className: 'check' }, h('input', { type: 'checkbox', name: 'may', value, checked }), label);

/** What can be done with a key, to be copied. */
function keyWays({ secret, capabilities, topicScopes }) {
  const origin = location.origin + BASE;
  const does = (capability) => capabilities.includes(capability) || capabilities.includes('admin');
  const [topic] = topicScopes ?? [GENERAL];
  const curl = does('send')
    ? `curl -s ${origin}/api/v1/messages -H 'Authorization: Bearer ${secret}' -d '{"topic": "${topic}", "text": "It works"}'`
    : `curl -s ${origin}/api/v1/topics/${topic}/messages -H 'Authorization: Bearer ${secret}'`;
  return [
    copyable('The key', secret),
    copyable(does('send') ? 'A script sends by' : 'A script reads by', curl),
    copyable('An agent without meshbox gets this address, for its client of the Model Context Protocol', `${origin}/mcp/${secret}`),
  ];
}

function newWebhook(session, access, list) {
  const topics = session.topics.joined.filter(({ role }) => role !== 'observer');
  const dialog = openDialog({ title: 'New webhook', className: 'invite' }, dialogForm('Make the webhook', async (data) => {
    const hook = await access.createWebhook(data.get('name').trim().toLowerCase(), data.get('topic'));
    list.refresh();
    showOnce(dialog, `Your new webhook ${hook.name}`, [
      copyable('The service posts to', hook.url),
      copyable('Try it by', `curl -s ${hook.url} -d 'It works'`),
      h('p', { className: 'hint' }, 'In GitHub it is the Payload URL, in Grafana and Alertmanager the URL of a contact point. Texts, and JSON with a text, are said as they are.'),
    ]);
  },
  h('div', { className: 'fields wide' },
    field('Name', h('input', { name: 'name', required: true, maxLength: 50, autocomplete: 'off', autocapitalize: 'none', spellcheck: false, autofocus: true, placeholder: 'grafana' })),
    field('Speaks in', choice('topic', topics.map(({ name }) => [name, `#${name}`]), session.room.topic))),
  h('p', { className: 'hint' }, 'Its messages bear this name. Letters, digits, - and _.')));
}

/** Shows a secret, in place of the form that made it. */
function showOnce(dialog, title, ways) {
  const heading = dialog.querySelector('h2');
  heading.textContent = title;
  dialog.querySelector('.dialog-body').replaceChildren(
    h('p', { className: 'warning' }, 'It is shown this once: copy it now. Who has it can use it, so treat it as a password.'),
    h('div', { className: 'secrets' }, ...ways),
    h('div', { className: 'buttons' }, h('button', { type: 'button', className: 'primary', onclick: () => dialog.close() }, 'Done')));
  heading.focus();
}
