/** The message log: keeps the DOM equal to the room's messages, and the reader's place in it. */

import { byId, h } from './dom.js';
import { makeRow, updateRow } from './row.js';
import { dayKey, dayLabel } from './text.js';

const GROUP_SPAN = 5 * 60_000; // ms within which messages of one author are one group
const AT_BOTTOM = 48; // px from the end that still count as the end
const READ_AHEAD = 800; // px from the top at which older messages are fetched
const RETRY_OLDER = 2_000; // ms after older messages could not be fetched
const BULK = 10; // more new rows than this are history, which a screen reader should not recite

export class MessageLog {
  #session;
  #room;
  #scroller = byId('messages');
  #list = byId('list');
  #pill = byId('new-messages');
  #older = byId('older');
  #rows = new Map(); // message → its row, which carries its day and that day's divider
  #newLine = h('div', { className: 'divider new', role: 'separator' }, h('span', {}, 'New'));
  #pinned = true; // follow the newest message
  #lastTop = 0;
  #dirty = false;
  #olderFailed = 0; // Unix ms

  /** @param {import('./session.js').Session} session */
  constructor(session) {
    this.#session = session;
    this.#room = session.room;
    for (const source of [session.room, session.roster]) source.addEventListener('change', () => this.#invalidate());
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#pill.onclick = () => {
      this.follow();
      this.#scroller.focus({ preventScroll: true }); // the pill is gone, and focus must be somewhere
    };
    this.#older.onclick = () => this.#loadOlder();
    document.addEventListener('visibilitychange', () => this.#invalidate());
    // Rows get their real height late (content-visibility), and the keyboard of a
    // phone or a growing composer takes room away: stay at the end all the while.
    const sizes = new ResizeObserver(() => this.#stay());
    sizes.observe(this.#scroller);
    sizes.observe(this.#list);
    this.#invalidate();
  }

  /** Follows the newest message again, as after sending one. */
  follow() {
    this.#pinned = true;
    this.#render();
  }

  /** Renders once per burst of changes; not by animation frame, as those stop in a hidden tab. */
  #invalidate() {
    if (this.#dirty) return;
    this.#dirty = true;
    setTimeout(() => {
      this.#dirty = false;
      this.#render();
    });
  }

  #render() {
    const place = this.#pinned ? null : this.#place();
    this.#reconcile();
    this.#renderEdges();
    if (place) this.#scroller.scrollTop += place.row.getBoundingClientRect().top - place.top;
    else this.#stay();
    this.#updateReading();
    this.#readAhead();
  }

  #reconcile() {
    const { messages, unreadFrom } = this.#room;
    const current = new Set(messages);
    for (const message of this.#rows.keys()) if (!current.has(message)) this.#removeRow(message);
    this.#scroller.ariaLive = messages.length - this.#rows.size > BULK ? 'off' : 'polite';
    if (this.#newLine.nextSibling !== this.#rows.get(unreadFrom)) this.#newLine.remove();
    const cursor = new Cursor(this.#list);
    let previous = null;
    for (const message of messages) {
      const row = this.#rowOf(message);
      const newDay = row.day !== this.#rows.get(previous)?.day;
      const isNew = message === unreadFrom;
      if (newDay) cursor.put(this.#dayDivider(row, message.at));
      else cursor.drop(row.divider);
      if (isNew) cursor.put(this.#newLine);
      this.#update(row, message, !newDay && !isNew && continues(previous, message));
      cursor.put(row);
      previous = message;
    }
  }

  #rowOf(message) {
    let row = this.#rows.get(message);
    if (!row) {
      row = makeRow(message);
      row.day = dayKey(message.at);
      this.#rows.set(message, row);
    }
    return row;
  }

  #update(row, message, grouped) {
    const { connection, roster } = this.#session;
    updateRow(row, message, {
      grouped,
      type: roster.typeOf(message.author),
      online: connection.online,
      retry: () => this.#room.retry(message),
      discard: () => this.#room.discard(message),
    });
  }

  #removeRow(message) {
    this.#rows.get(message).divider?.remove();
    this.#rows.get(message).remove();
    this.#rows.delete(message);
  }

  #dayDivider(row, at) {
    row.divider ??= h('div', { className: 'divider', role: 'separator' }, h('span'));
    row.divider.firstChild.textContent = dayLabel(at);
    return row.divider;
  }

  /** What stands above and below the messages. */
  #renderEdges() {
    const { loaded, complete, loadingOlder, error, messages, unread } = this.#room;
    const { online } = this.#session.connection;
    const more = loaded && !complete;
    this.#older.hidden = !more;
    this.#older.disabled = loadingOlder;
    this.#older.textContent = loadingOlder ? 'Loading older messages…' : 'Load older messages';
    const beginning = byId('beginning');
    beginning.hidden = !(loaded && complete);
    beginning.classList.toggle('empty', messages.length === 0);
    const placeholder = byId('placeholder');
    placeholder.hidden = loaded && !error;
    placeholder.textContent = error || (online ? 'Loading messages…' : 'The messages come with the connection.');
    this.#pill.hidden = this.#pinned || unread === 0;
    this.#pill.textContent = `${unread} new ${unread === 1 ? 'message' : 'messages'} ↓`;
  }

  /**
   * Fetches older messages before the reader gets to where they are missing. An
   * IntersectionObserver on the button was tried: with thousands of unlaid rows
   * Chromium's sometimes stayed silent.
   */
  #readAhead() {
    if (this.#scroller.scrollTop > READ_AHEAD || !this.#session.connection.online) return;
    if (Date.now() - this.#olderFailed > RETRY_OLDER) this.#loadOlder();
  }

  async #loadOlder() {
    try {
      await this.#room.loadOlder();
    } catch {
      this.#olderFailed = Date.now(); // the button stays, and so does reading ahead, in a while
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const before = this.#pinned;
    // Only moving up lets go: rows that grow below also leave the end behind.
    if (scrollHeight - scrollTop - clientHeight < AT_BOTTOM) this.#pinned = true;
    else if (scrollTop < this.#lastTop) this.#pinned = false;
    this.#lastTop = scrollTop;
    this.#readAhead();
    if (before === this.#pinned) return;
    this.#updateReading();
    this.#renderEdges();
  }

  #stay() {
    if (!this.#pinned) return;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#lastTop = this.#scroller.scrollTop;
  }

  #updateReading() {
    this.#room.setReading(this.#pinned && document.visibilityState === 'visible');
  }

  /** The first row on the screen and where it is: rows above it may come and go. */
  #place() {
    const rows = this.#list.children;
    const top = this.#scroller.getBoundingClientRect().top;
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    while (rows[low]?.classList.contains('divider')) low++; // dividers may go, rows stay
    const row = rows[low];
    return row && { row, top: row.getBoundingClientRect().top };
  }
}

/**
 * Walks through a list and makes it what is put. What goes has to be dropped: the
 * nodes between then stay where they are, and keep their focus and known heights.
 */
class Cursor {
  #list;
  #next;

  constructor(list) {
    this.#list = list;
    this.#next = list.firstChild;
  }

  put(node) {
    if (node === this.#next) this.#next = node.nextSibling;
    else this.#list.insertBefore(node, this.#next);
  }

  drop(node) {
    if (!node) return;
    if (node === this.#next) this.#next = node.nextSibling;
    node.remove();
  }
}

/** Whether a message goes on in the group of the one before. */
function continues(previous, message) {
  return previous.author.key === message.author.key
    && previous.author.name === message.author.name
    && previous.note === message.note
    && message.at - previous.at < GROUP_SPAN;
}
