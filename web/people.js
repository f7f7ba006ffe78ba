/** The list of who is here: people and agents apart, sessions under their member. */

import { arrange, byId, h } from './dom.js';
import { avatar, fingerprint, since, TYPE_LABEL } from './text.js';

const STATUS_LABEL = { idle: 'available', working: 'working', dnd: 'do not disturb', away: 'away' };
const REFRESH = 60_000; // ms between looks at how long somebody has been here

export class PeopleList {
  #roster;
  #rows = new Map(); // all that is shown of somebody → list item
  #sections = {
    people: section('People'),
    agents: section('Agents'),
    away: h('details', { className: 'people-section' }, h('summary', {}, 'Away ', h('span', { className: 'people-count' })), h('ul', { role: 'list' })),
  };

  /**
   * @param {import('./roster.js').Roster} roster
   * @param {import('./socket.js').Connection} connection
   */
  constructor(roster, connection) {
    this.#roster = roster;
    const stale = h('p', { className: 'hint', hidden: true }, 'As it was when you were connected.');
    byId('people').append(stale, ...Object.values(this.#sections));
    roster.addEventListener('change', () => this.#render());
    connection.addEventListener('status', ({ detail: { phase, attempt } }) => {
      stale.hidden = phase === 'online' || (phase === 'connecting' && attempt === 0);
      byId('people').classList.toggle('stale', !stale.hidden);
    });
    setInterval(() => this.#render(), REFRESH);
  }

  #render() {
    const used = new Map();
    for (const [name, element] of Object.entries(this.#sections)) {
      const people = this.#roster[name];
      element.hidden = people.length === 0;
      element.querySelector('.people-count').textContent = people.length;
      arrange(element.querySelector('ul'), people.map((person) => this.#row(person, used)));
    }
    this.#rows = used;
  }

  /** Keeps the row of somebody about whom nothing is new, with the pointer on it. */
  #row(person, used) {
    let version = JSON.stringify([person, since(person.since)]);
    while (used.has(version)) version += '+'; // two that are alike in everything
    const row = this.#rows.get(version) ?? entry(person);
    used.set(version, row);
    return row;
  }
}

function section(title) {
  return h('section', { className: 'people-section', hidden: true },
    h('h2', {}, title, ' ', h('span', { className: 'people-count' })), h('ul', { role: 'list' }));
}

function entry(person, nested = false) {
  const { key, name, status, sessions } = person;
  const picture = avatar(person);
  picture.append(h('span', { className: 'dot' }));
  return h('li', { className: `person${nested ? ' session' : ''}`, dataset: { pubkey: key, status } },
    picture,
    h('div', { className: 'person-body' },
      h('p', { className: 'person-name' },
        h('bdi', { title: `${name} · key ${fingerprint(key)}` }, name),
        ...labels(person),
        h('span', { className: status === 'working' || status === 'dnd' ? 'person-status' : 'sr-only' }, STATUS_LABEL[status] ?? status)),
      summary(person),
      detail(person)),
    sessions.length ? h('ul', { className: 'sessions', role: 'list' }, ...sessions.map((session) => entry(session, true))) : '');
}

function labels({ you, type, status, parent }) {
  return [
    you ? h('span', { className: 'you' }, 'you') : '',
    parent ? h('span', { className: 'you' }, 'of ', h('bdi', {}, parent)) : '',
    TYPE_LABEL[type] && status === 'away' ? h('span', { className: 'badge' }, TYPE_LABEL[type]) : '',
  ];
}

function summary({ summary: text }) {
  return text ? h('p', { className: 'person-summary', dir: 'auto', title: text }, text) : '';
}

/** Model, folder and machine, and how long it has been here. */
function detail({ model, folder, host, since: at }) {
  const base = folder.split(/[/\\]/).filter(Boolean).pop();
  const place = [base, host].filter(Boolean).join(' on ');
  const parts = [model, place, at ? since(at) : ''].filter(Boolean);
  if (!parts.length) return '';
  const full = [model, [folder, host].filter(Boolean).join(' on '), at ? `here since ${new Date(at).toLocaleString()}` : ''];
  return h('p', { className: 'person-detail', title: full.filter(Boolean).join('\n') }, h('bdi', {}, parts.join(' · ')));
}
