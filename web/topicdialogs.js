/** Dialogs about one topic: making one, and what it is, who is in it, who can read it. */

import { choice, confirm, dialogForm, field, openDialog } from './dialog.js';
import { h, icon, ICONS } from './dom.js';
import { exportTopic } from './export.js';
import { route } from './route.js';
import { avatar, plural } from './text.js';
import { GENERAL } from './topics.js';

const ROLE_LABEL = { lead: 'lead', observer: 'reads only', member: '' };

/** @param {import('./session.js').Session} session */
export function newTopic(session) {
  const name = h('input', { name: 'name', required: true, maxLength: 50, autocomplete: 'off', autocapitalize: 'none', spellcheck: false, autofocus: true });
  const dialog = openDialog({ title: 'New topic' }, dialogForm('Create', async (data) => {
    const topic = topicName(data.get('name'));
    await session.topics.create({ name: topic, description: data.get('description').trim(), visibility: data.get('visibility') });
    dialog.close();
    location.hash = route(topic);
  },
  field('Name', name, 'Letters, digits, - and _, such as deploys'),
  field('What it is for', descriptionInput('')),
  field('Who can read it', choice('visibility', [['public', 'Everyone in the mesh may join'], ['private', 'Only who is added']]))));
}

const descriptionInput = (text) => h('textarea', { name: 'description', value: text, rows: 2, maxLength: 2000, autocomplete: 'off' });

/** What somebody typed as the broker takes it, if that is possible without a guess. */
function topicName(typed) {
  const name = typed.trim().replace(/^#/, '').toLowerCase().replace(/\s+/g, '-');
  if (/^[a-z0-9][a-z0-9_-]{0,49}$/.test(name)) return name;
  throw new Error('A name has 1 to 50 of a–z, 0–9, - and _, and begins with a letter or digit.');
}

/**
 * @param {import('./session.js').Session} session
 * @param {string} name
 */
export function aboutTopic(session, name) {
  const topic = session.topics.find(name);
  if (!topic) return;
  const members = h('div', { className: 'topic-members' }, h('p', { className: 'hint' }, 'Loading…'));
  const dialog = openDialog({ title: `#${name}`, className: 'about' },
    description(session, topic),
    privacy(topic),
    members,
    exports(session, name),
    membership(session, topic, () => dialog.close()));
  listMembers(session, topic, members);
}

function description(session, { name, role, description: text }) {
  const may = role === 'lead' || session.identity.role === 'owner' || session.identity.role === 'admin';
  if (!may) return h('p', { dir: 'auto' }, text || 'Nobody has said what it is for.');
  const form = dialogForm('Save', async (data) => {
    await session.topics.describe(name, data.get('description').trim());
    form.querySelector('button').textContent = 'Saved';
  }, field('What it is for', descriptionInput(text)));
  return form;
}

/** Says plainly who can read what is written here. */
function privacy(topic) {
  const who = topic.visibility === 'public' ? 'Everyone in the mesh can join and read it.' : 'Only its members see it.';
  return h('section', { className: 'privacy-note' }, h('h3', {}, icon(topic.keyed ? ICONS.locked : ICONS.readable), 'Who can read it'), h('p', {}, who, ' ', encryption(topic)));
}

function encryption({ keyed, encrypted }) {
  if (keyed) return 'Messages are end-to-end encrypted: only members with the key of the topic can read and write them, by the command line or an agent’s tools. This page has no key, and the meshbox has none; it knows who writes when, and whom they mention.';
  if (encrypted) return 'The newest message is end-to-end encrypted: only members with the key of the topic can read such messages, and this page and the meshbox can not. What you write here is not encrypted.';
  return 'Messages are not end-to-end encrypted: the meshbox stores them as they are, and who can read its data file can read them.';
}

async function listMembers(session, topic, place) {
  try {
    const members = await session.topics.members(topic.name);
    const typeOf = ({ pubkey }) => session.roster.typeOf({ key: pubkey });
    place.replaceChildren(
      h('h3', {}, plural(members.length, 'member')),
      addMember(session, topic, members, place),
      h('ul', { role: 'list' }, ...members.map((member) => h('li', {},
        avatar({ key: member.pubkey, name: member.displayName, type: typeOf(member) }),
        h('bdi', {}, member.displayName),
        h('span', { className: 'hint' }, ROLE_LABEL[member.role] ?? member.role)))));
  } catch (error) {
    place.replaceChildren(h('p', { className: 'error' }, error.passing ? 'There is no connection.' : error.message));
  }
}

/** Who leads a private topic adds people to it. */
function addMember(session, topic, members, place) {
  if (topic.role !== 'lead' || topic.visibility === 'public') return '';
  const within = new Set(members.map(({ pubkey }) => pubkey));
  const others = session.roster.members.filter(({ pubkey }) => !within.has(pubkey));
  if (!others.length) return '';
  return dialogForm('Add', async (data) => {
    await session.topics.invite(topic.name, data.get('member'));
    await listMembers(session, topic, place);
  }, field('Add somebody', choice('member', others.map(({ memberId, displayName }) => [memberId, displayName]))));
}

function exports(session, name) {
  const status = h('p', { className: 'hint', role: 'status' });
  const button = (text, format) => h('button', {
    type: 'button',
    className: 'plain',
    onclick: async ({ target }) => {
      target.disabled = true;
      try {
        const count = await exportTopic(session, name, format, (so) => { status.textContent = `${plural(so, 'message')}…`; });
        status.textContent = `${plural(count, 'message')} saved.`;
      } catch (error) {
        status.textContent = error.passing ? 'The connection broke on the way; nothing was saved. Try again.' : error.message;
      }
      target.disabled = false;
    },
  }, text);
  return h('section', {}, h('h3', {}, 'Take it along'), h('div', { className: 'buttons start' }, button('Export as Markdown', 'markdown'), button('Export as JSON lines', 'jsonl')), status);
}

function membership(session, { name, role }, close) {
  if (name === GENERAL) return h('p', { className: 'hint' }, 'Everyone is in #general; it can not be left.');
  if (!role) return dialogForm('Join', async () => {
    await session.topics.join(name);
    close();
  });
  const form = dialogForm('Leave this topic', async () => {
    if (!await confirm(`Leave #${name}?`, 'You get no more messages from it. Of a private topic, only who leads it can let you in again.', 'Leave')) return;
    await session.topics.leave(name);
    close();
    location.hash = route(GENERAL);
  });
  form.querySelector('button').className = 'plain leave';
  return form;
}
