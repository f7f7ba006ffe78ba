/** The quick switcher: type a few letters, go there. */

import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { identities, saveIdentity } from './identity.js';
import { HOME, route } from './route.js';
import { avatar, badgeCount } from './text.js';

const MOST = 12; // entries shown

/**
 * @typedef {Object} Entry
 * @property {string} label
 * @property {string} hint what kind of thing it is
 * @property {Node} picture
 * @property {() => void} go
 * @property {number} [unread]
 */

/**
 * @param {import('./session.js').Session} session
 * @param {(name: string) => void} onMention called with somebody's name
 */
export async function openSwitcher(session, onMention) {
  const entries = [...topicEntries(session), ...personEntries(session, onMention), ...await meshEntries(session)];
  const list = h('ul', { id: 'switcher-list', role: 'listbox', 'aria-label': 'Where to go' });
  const input = h('input', {
    type: 'text', autofocus: true, autocomplete: 'off', spellcheck: false, placeholder: 'Topic or name', ariaLabel: 'Topic or name',
    role: 'combobox', 'aria-controls': list.id, 'aria-expanded': 'true', 'aria-autocomplete': 'list',
  });
  const dialog = openDialog({ title: 'Go to', className: 'switcher' }, input, list);
  const go = (entry) => {
    dialog.close();
    entry?.go();
  };
  new Choice(input, list, entries, go);
}

/** An input and the list it narrows down. */
class Choice {
  #list;
  #input;
  #entries;
  #found = [];
  #chosen = 0;

  constructor(input, list, entries, go) {
    this.#list = list;
    this.#input = input;
    this.#entries = entries;
    input.addEventListener('input', () => this.#search());
    input.addEventListener('keydown', (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.#choose((this.#chosen + step + this.#found.length) % this.#found.length);
      else if (event.key === 'Enter') go(this.#found[this.#chosen]);
      else return;
      event.preventDefault();
    });
    list.addEventListener('click', ({ target }) => {
      const index = [...list.children].indexOf(target.closest('[role=option]'));
      if (index >= 0) go(this.#found[index]);
    });
    this.#search();
  }

  #search() {
    const typed = this.#input.value.trim().toLowerCase().replace(/^[#@]/, '');
    const at = ({ label }) => label.toLowerCase().indexOf(typed);
    this.#found = this.#entries.filter((entry) => at(entry) >= 0)
      .sort((a, b) => (at(a) > 0) - (at(b) > 0) || Boolean(b.unread) - Boolean(a.unread)).slice(0, MOST);
    this.#list.replaceChildren(...this.#found.map(({ label, hint, picture, unread }, index) => h('li', { id: `choice-${index}`, role: 'option' },
      picture, h('bdi', {}, label), h('span', { className: 'hint' }, hint), unread ? h('span', { className: 'count' }, badgeCount(unread)) : '')));
    this.#choose(0);
  }

  #choose(index) {
    this.#chosen = index || 0;
    for (const [at, option] of [...this.#list.children].entries()) {
      option.ariaSelected = String(at === this.#chosen);
      if (at === this.#chosen) option.scrollIntoView({ block: 'nearest' });
    }
    this.#input.setAttribute('aria-activedescendant', this.#found.length ? `choice-${this.#chosen}` : '');
  }
}

function topicEntries({ topics }) {
  return topics.list.map(({ name, unread, role }) => ({
    label: name, hint: role ? 'topic' : 'topic, not joined', picture: h('span', { className: 'hash' }, '#'), unread, go: () => { location.hash = route(name); },
  }));
}

function personEntries({ roster }, onMention) {
  const seen = new Set();
  return roster.everybody.filter(({ you, name }) => !you && !seen.has(name) && seen.add(name)).map((person) => ({
    label: person.name, hint: `mention ${person.status === 'away' ? '(away)' : ''}`, picture: avatar(person), go: () => onMention(person.name),
  }));
}

/** Other meshes this browser is a member of. */
async function meshEntries({ identity }) {
  const others = (await identities()).filter(({ meshId, memberId }) => memberId && meshId !== identity.meshId);
  return others.map((other) => ({
    label: other.meshSlug,
    hint: 'mesh',
    picture: h('span', { className: 'hash' }, '◇'),
    go: async () => {
      await saveIdentity({ ...other, usedAt: Date.now() });
      location.assign(HOME);
    },
  }));
}
