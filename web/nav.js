/** The list of topics, with what is unread in them. */

import { arrange, byId, h, icon, ICONS } from './dom.js';
import { route } from './route.js';
import { badgeCount, plural } from './text.js';

const FEW = 10; // topics one is not in that are listed unasked

export class TopicList {
  #topics;
  #rows = new Map(); // topic name → its list item
  #others = byId('other-topics');
  #shown = ''; // topic that was scrolled to

  /**
   * @param {import('./session.js').Session} session
   * @param {() => void} onNew called when somebody wants to make a topic
   */
  constructor(session, onNew) {
    this.#topics = session.topics;
    session.topics.addEventListener('change', () => this.#render());
    byId('topic-new').onclick = onNew;
  }

  /**
   * @param {number} step 1 is the next one, -1 the one before
   * @returns {string} name of a topic one is in, seen from the current one
   */
  neighbour(step) {
    const names = this.#topics.joined.map(({ name }) => name);
    return names.at((names.indexOf(this.#topics.current) + step + names.length) % names.length) ?? this.#topics.current;
  }

  #render() {
    const { list, joined, current } = this.#topics;
    const others = list.filter(({ role }) => !role);
    arrange(byId('topics'), joined.map((topic) => this.#row(topic)));
    arrange(this.#others.querySelector('ul'), others.map((topic) => this.#row(topic)));
    if (this.#others.hidden && others.length <= FEW) this.#others.open = true;
    this.#others.hidden = others.length === 0;
    this.#others.querySelector('.people-count').textContent = others.length;
    this.#showCurrent(current, others);
    this.#renderElsewhere();
  }

  /** Once for each topic: who then scrolls away from it wants to see something else. */
  #showCurrent(current, others) {
    const row = this.#rows.get(current);
    if (this.#shown === current || !row?.isConnected) return;
    this.#shown = current;
    if (others.some(({ name }) => name === current)) this.#others.open = true;
    row.scrollIntoView({ block: 'nearest' });
  }

  /** On a phone the list is out of sight: the button that opens it tells what is in it. */
  #renderElsewhere() {
    const { unread, mentions } = this.#topics.countsExcept(this.#topics.current);
    byId('elsewhere').hidden = unread === 0;
    byId('elsewhere').textContent = badgeCount(mentions || unread);
    byId('elsewhere').classList.toggle('strong', mentions > 0);
    byId('sidebar-button').ariaLabel = ['Topics and people', unread ? plural(unread, 'new message') : '', mentions ? plural(mentions, 'mention') : ''].filter(Boolean).join(', ');
  }

  #row(topic) {
    const { name, unread, mentions, visibility } = topic;
    const current = name === this.#topics.current;
    const version = JSON.stringify([unread, mentions, current, visibility]);
    const known = this.#rows.get(name);
    if (known?.version === version) return known;
    const row = known ?? h('li', { dataset: { topic: name } });
    row.version = version;
    row.classList.toggle('unread', unread > 0 && !current);
    const link = row.firstChild ?? h('a', { href: route(name) });
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    link.replaceChildren(
      h('span', { className: 'hash', ariaHidden: 'true' }, ...(visibility === 'private' ? [icon(ICONS.locked)] : ['#'])),
      h('span', { className: 'topic-name' }, name),
      ...count(topic));
    if (!known) row.append(link);
    this.#rows.set(name, row);
    return row;
  }
}

function count({ unread, mentions }) {
  if (!unread) return [];
  const words = [plural(unread, 'new message'), mentions ? plural(mentions, 'mention') : ''].filter(Boolean).join(', ');
  return [h('span', { className: `count${mentions ? ' strong' : ''}` },
    h('span', { ariaHidden: 'true' }, mentions ? `@${badgeCount(mentions)}` : badgeCount(unread)), h('span', { className: 'sr-only' }, words))];
}
