/** Looking for words in what was said: a panel beside the messages. */

import { byId, h, ICONS, iconButton } from './dom.js';
import { plain } from './markdown.js';
import { fromWire } from './message.js';
import { route } from './route.js';
import { avatar, fullTime, moment, plural } from './text.js';

const DELAY = 250; // ms after the last key before it is looked for
const PAGE = 30; // results at a time
const AROUND = 60; // characters before a match
const EXCERPT = 220; // characters of a result
const READ = 20_000; // characters of a message in which a match is looked for

export class SearchPanel {
  #session;
  #panel = byId('panel');
  #button = byId('search-button');
  #input = h('input', { type: 'search', name: 'query', autocomplete: 'off', maxLength: 200, ariaLabel: 'Words to look for', placeholder: 'Search' });
  #everywhere = h('input', { type: 'checkbox', name: 'everywhere' });
  #status = h('p', { className: 'search-status', role: 'status' });
  #results = h('ol', { className: 'results', role: 'list' });
  #more = h('button', { type: 'button', className: 'plain', hidden: true, onclick: () => this.#search(this.#oldest) }, 'Show older ones');
  #oldest = ''; // id of the last result
  #serial = 0; // of the newest question: the answers to others come too late
  #timer = 0;
  #failed = false; // for want of a connection

  /** @param {import('./session.js').Session} session */
  constructor(session) {
    this.#session = session;
    this.#panel.append(
      h('div', { className: 'panel-head' }, h('h2', {}, 'Search'), iconButton('Close search', ICONS.close, () => this.close())),
      h('form', { role: 'search', onsubmit: (event) => { event.preventDefault(); this.#search(); } },
        this.#input, h('label', { className: 'check' }, this.#everywhere, 'In all topics')),
      this.#status, this.#results, this.#more);
    this.#input.addEventListener('input', () => this.#soon());
    this.#everywhere.addEventListener('change', () => this.#search());
    this.#results.addEventListener('click', ({ target }) => target.closest('a') && matchMedia('(max-width: 900px)').matches && this.close());
    this.#button.onclick = () => (this.#panel.hidden ? this.open() : this.close());
    session.addEventListener('room', () => this.#everywhere.checked || this.#soon());
    session.connection.addEventListener('hello', () => this.#failed && this.#soon());
  }

  open() {
    this.#show(true);
    this.#input.focus();
    this.#input.select();
  }

  /** @returns {boolean} whether it was open */
  close() {
    if (this.#panel.hidden) return false;
    this.#show(false);
    this.#button.focus();
    return true;
  }

  #show(open) {
    this.#panel.hidden = !open;
    this.#button.setAttribute('aria-expanded', open);
    byId('room').classList.toggle('panel-open', open);
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#search(), DELAY);
  }

  async #search(beforeId = '') {
    clearTimeout(this.#timer);
    const query = this.#input.value.trim();
    const serial = ++this.#serial;
    this.#failed = false;
    if (!query || this.#panel.hidden) return this.#clear('');
    const topic = this.#everywhere.checked ? undefined : this.#session.room.topic;
    try {
      const found = await this.#session.request('topic_search', { query, topic, limit: PAGE, beforeId: beforeId || undefined });
      if (serial !== this.#serial) return;
      if (!beforeId) this.#clear('');
      this.#add(found, query);
      this.#say(summary(this.#results.children.length, found.more, topic));
    } catch (error) {
      if (serial !== this.#serial) return;
      this.#failed = error.passing && !beforeId;
      // What was found before stays, with the button that asks for more.
      if (!beforeId) this.#clear('');
      this.#say(error.passing ? beforeId ? 'There is no connection; try again in a moment.' : 'There is no connection. This is looked for as soon as there is one.' : error.message);
    }
  }

  #say(status) {
    if (this.#status.textContent !== status) this.#status.textContent = status;
  }

  #clear(status) {
    this.#say(status);
    this.#results.replaceChildren();
    this.#more.hidden = true;
  }

  #add({ messages, more }, query) {
    const words = wordsOf(query);
    this.#results.append(...messages.map((entry) => this.#result(entry, words)));
    this.#more.hidden = !more;
    this.#oldest = messages.at(-1)?.id ?? '';
  }

  #result(entry, words) {
    const { id, author, text, at } = fromWire(entry, this.#session.identity);
    return h('li', {}, h('a', { className: 'result', href: route(entry.topic, id) },
      avatar({ ...author, type: this.#session.roster.typeOf(author) }),
      h('div', { className: 'message-head' }, h('bdi', { className: 'message-author' }, author.name),
        h('time', { dateTime: new Date(at).toISOString(), title: fullTime(at) }, moment(at))),
      this.#everywhere.checked ? h('p', { className: 'result-topic' }, `#${entry.topic}`) : '',
      h('p', { className: 'result-text', dir: 'auto' }, ...highlight(excerpt(plain(text, READ), words), words))));
  }
}

function summary(count, more, topic) {
  const where = topic ? ` in #${topic}` : '';
  if (!count) return `Nothing was found${where}. All words must be there, each as a whole or, from three letters on, as the beginning of one.`;
  return more ? `The newest ${plural(count, 'message')}${where}` : `${plural(count, 'message')}${where}`;
}

/** The words of a query as a pattern, for showing where they are. */
function wordsOf(query) {
  const words = query.match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.length ? new RegExp(`(?<![\\p{L}\\p{N}])(?:${words.map((word) => RegExp.escape?.(word) ?? word).join('|')})`, 'giu') : null;
}

/** The part of a text around the first match. */
function excerpt(text, words) {
  const at = words ? text.search(words) : 0;
  const start = at > AROUND ? text.lastIndexOf(' ', at - AROUND / 2) + 1 : 0;
  const part = text.slice(start, start + EXCERPT);
  return `${start ? '…' : ''}${part}${start + EXCERPT < text.length ? '…' : ''}`;
}

function highlight(text, words) {
  if (!words) return [text];
  const parts = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(words)) {
    parts.push(text.slice(end, index), h('mark', {}, match));
    end = index + match.length;
  }
  return [...parts, text.slice(end)];
}
