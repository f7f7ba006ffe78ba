/** The list of who is here. */

import { byId, h } from './dom.js';
import { avatar, TYPE_LABEL } from './text.js';

const STATUS_LABEL = { idle: 'available', working: 'working', dnd: 'busy', away: 'away' };

export class PeopleList {
  #roster;
  #list = byId('people');
  #shown = '';

  /** @param {import('./roster.js').Roster} roster */
  constructor(roster) {
    this.#roster = roster;
    roster.addEventListener('change', () => this.#render());
  }

  #render() {
    const { people, agents, away, present } = this.#roster;
    const shown = JSON.stringify([people, agents, away]);
    if (shown === this.#shown) return; // a poll without news leaves hover and focus alone
    this.#shown = shown;
    const open = this.#list.querySelector('details')?.open ?? false;
    this.#list.replaceChildren(
      ...section('People', people),
      ...section('Agents', agents),
      away.length ? h('details', { open }, h('summary', {}, `Away ${away.length}`), entries(away)) : '');
    byId('people-count').textContent = present;
    byId('people-button').setAttribute('aria-label', `Who is here: ${present}`);
  }
}

function section(title, people) {
  return people.length ? [h('h3', {}, `${title} ${people.length}`), entries(people)] : [];
}

function entries(people) {
  return h('ul', { role: 'list' }, ...people.map(entry));
}

function entry(person) {
  const { key, name, type, status, summary, you } = person;
  const picture = avatar(person);
  picture.append(h('span', { className: 'dot' }));
  return h('li', { className: 'person', dataset: { pubkey: key, status } },
    picture,
    h('div', { className: 'person-body' },
      h('p', { className: 'person-name' },
        h('bdi', { title: `${name} · key ${key.slice(0, 16)}…` }, name),
        you ? h('span', { className: 'you' }, 'you') : '',
        TYPE_LABEL[type] && status === 'away' ? h('span', { className: 'badge' }, TYPE_LABEL[type]) : '',
        h('span', { className: status === 'idle' || status === 'away' ? 'sr-only' : 'person-status' }, STATUS_LABEL[status] ?? status)),
      summary ? h('p', { className: 'person-summary', dir: 'auto', title: summary }, summary) : '',
      detail(person)));
}

function detail({ model, folder, host }) {
  const base = folder.split(/[/\\]/).filter(Boolean).pop();
  const parts = [model, base].filter(Boolean);
  if (!parts.length) return '';
  return h('p', { className: 'person-detail', title: [model, folder, host].filter(Boolean).join('\n') }, parts.join(' · '));
}
