/** The message log: keeps the DOM equal to the room's messages, and the reader's place in it. */

import { MessageActions } from './actions.js';
import { byId, Cursor, h } from './dom.js';
import { mentioned, NameIndex } from './mention.js';
import { isOfTopic } from './message.js';
import { ReceiptWindow } from './receipt.js';
import { setRoute } from './route.js';
import { makeRow, updateRow } from './row.js';
import { SpokenMessages } from './spoken.js';
import { dayKey, dayLabel, plural } from './text.js';
import { MOST_UNREAD } from './topics.js';

const GROUP_SPAN = 5 * 60_000; // ms within which messages of one author are one group
const AT_BOTTOM = 48; // px from the end that still count as the end
const READ_AHEAD = 800; // px from either end at which more is fetched
const RETRY = 2_000; // ms after more could not be fetched
const MOVING = 3_000; // ms after a touch or a turn of the wheel in which the messages may still be moving
const COMING = 150; // ms after somebody came back in which a click may follow
const FLASH = 2_400; // ms that a message somebody went to stands out

export class MessageLog {
  #session;
  #room;
  #scroller = byId('messages');
  #list = byId('list');
  #jump = byId('jump');
  #rows = new Map(); // message → its row, which carries its day and that day's divider
  #newLine = h('div', { className: 'divider new', role: 'separator' }, h('span', {}, 'New'));
  #notice = h('p', { className: 'notice', role: 'status' });
  #noticeTimer = 0;
  #receipts;
  #actions;
  #spoken = new SpokenMessages();
  #onReply;
  #looking = isLooking();
  #coming = 0; // timer of somebody who comes back
  #pinned = true; // follow the newest message
  #placed = false; // the reader's first place in this topic, or after an absence, was found
  #seeking = ''; // id of the message to show, once it is there
  #toLine = false; // what is to be shown is the "new" line behind it
  #lastTop = 0;
  #lastHeight = 0;
  #touched = 0; // when somebody last moved the messages, ms since the page began
  #clicked = -Infinity; // when somebody last clicked anywhere, likewise
  #dirty = false;
  #failed = 0; // Unix ms when more could not be fetched
  #names = new NameIndex();
  #onRoom = {
    change: () => this.#invalidate(),
    missed: () => this.#findPlaceAgain(),
    came: ({ detail }) => this.#looking && this.#spoken.say(detail),
  };

  /**
   * @param {import('./session.js').Session} session
   * @param {(message: import('./message.js').Message) => void} onReply
   */
  constructor(session, onReply) {
    this.#session = session;
    this.#onReply = onReply;
    this.#receipts = new ReceiptWindow(session.request);
    this.#actions = new MessageActions(this.#list, {
      find: (id) => this.#room.find(id),
      reply: onReply,
      explain: (anchor, id) => this.#receipts.open(anchor, id),
      topic: () => this.#room.topic,
    });
    this.#scroller.append(this.#notice);
    session.roster.addEventListener('change', () => this.#learnNames());
    session.addEventListener('identity', () => this.#learnNames());
    session.addEventListener('room', () => this.#enter(session.room));
    session.topics.addEventListener('change', () => this.#invalidate());
    session.connection.addEventListener('status', () => this.#invalidate());
    session.connection.addEventListener('hello', () => this.#seeking && this.#seek(this.#seeking, this.#toLine));
    this.#wireScroller();
    for (const type of ['focus', 'blur']) window.addEventListener(type, () => this.#look());
    document.addEventListener('visibilitychange', () => this.#look());
    document.addEventListener('pointerdown', () => { this.#clicked = performance.now(); }, { capture: true, passive: true });
    this.#enter(session.room);
  }

  #wireScroller() {
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    for (const type of ['wheel', 'touchmove', 'keydown', 'pointerdown']) {
      this.#scroller.addEventListener(type, () => { this.#touched = performance.now(); }, { passive: true });
    }
    this.#list.addEventListener('click', ({ target }) => {
      const { replyTo } = target.closest('.quote')?.dataset ?? {};
      if (replyTo) this.show(replyTo);
    });
    this.#jump.onclick = () => {
      this.follow();
      this.#scroller.focus({ preventScroll: true }); // the pill is gone, and focus must be somewhere
    };
    byId('older').onclick = () => this.#loadMore('older');
    byId('newer').onclick = () => this.#loadMore('newer');
    // Rows get their real height late (content-visibility), and the keyboard of a
    // phone or a growing composer takes room away: stay at the end all the while.
    const sizes = new ResizeObserver(() => this.#stay());
    sizes.observe(this.#scroller);
    sizes.observe(this.#list);
  }

  /** Shows another topic from its newest message, or from the first unread one. */
  #enter(room) {
    for (const [type, listener] of Object.entries(this.#onRoom)) {
      this.#room?.removeEventListener(type, listener);
      room.addEventListener(type, listener);
    }
    this.#room?.goToLatest();
    this.#room = room;
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#receipts.close();
    this.#spoken.forget();
    this.#notice.textContent = '';
    this.#pinned = room.atLatest;
    this.#placed = false;
    this.#seeking = '';
    this.#scroller.setAttribute('aria-label', `Messages in #${room.topic}`);
    this.#render();
  }

  /** Follows the newest message again, as after sending one. */
  follow() {
    this.#takeOver();
    this.#room.goToLatest();
    setRoute(this.#room.topic);
    this.#pinned = this.#placed = true;
    this.#seeking = '';
    this.#render();
  }

  /**
   * Shows one message and marks it for a moment; without a connection as soon as
   * there is one.
   * @param {string} id
   */
  show(id) {
    return this.#seek(id, false);
  }

  /** @param {boolean} toLine not to the message itself, but to what was not read since */
  async #seek(id, toLine) {
    this.#takeOver();
    this.#pinned = false;
    this.#placed = true;
    this.#seeking = id;
    this.#toLine = toLine;
    try {
      const found = await this.#room.goTo(id);
      if (this.#seeking !== id) return; // somebody has gone elsewhere since
      if (found) {
        this.#render();
        this.#seeking = ''; // also if it has no row
        return;
      }
      if (!toLine) this.say('This message is not in this topic.');
    } catch (error) {
      if (this.#seeking !== id || error.passing) return;
      this.say(error.message);
    }
    this.#seeking = '';
    if (this.#room.atLatest) this.follow();
  }

  /** Whether somebody is looking may have changed. Who comes may be about to click. */
  #look() {
    clearTimeout(this.#coming);
    if (isLooking()) this.#coming = setTimeout(() => this.#comeBack(), COMING);
    else this.#looking = false;
    this.#invalidate();
  }

  /** Who comes and says at once where to go is not taken elsewhere. */
  #takeOver() {
    clearTimeout(this.#coming);
    this.#looking = isLooking();
  }

  /** What came meanwhile is not read because it is there: go to where it begins, or stay under the pointer. */
  #comeBack() {
    if (this.#looking) return;
    this.#looking = true;
    const isClicking = performance.now() - this.#clicked < 2 * COMING;
    if (this.#room.hasUnread && isClicking) this.#pinned = false;
    else if (this.#room.hasUnread) this.#findPlaceAgain();
    this.#invalidate();
  }

  /** Who was following is taken to what is new. */
  #findPlaceAgain() {
    if (this.#pinned) this.#placed = false;
  }

  /** Moves the focus to the newest message on the screen. */
  focusLast() {
    [...this.#rows.values()].at(-1)?.focus();
  }

  /** Replies to the message under the pointer or the focus, else to the newest of somebody else. */
  reply() {
    const message = this.#actions.current ?? this.#room.messages.findLast((other) => isOfTopic(other) && !other.own);
    if (message) this.#onReply(message);
  }

  /**
   * @param {string} sentence to be shown over the messages for a moment
   * @param {boolean} [stays] until one goes elsewhere
   */
  say(sentence, stays = false) {
    this.#notice.textContent = sentence;
    clearTimeout(this.#noticeTimer);
    if (!stays) this.#noticeTimer = setTimeout(() => { this.#notice.textContent = ''; }, 2 * FLASH);
  }

  #learnNames() {
    this.#names.learn(this.#session.roster.names, this.#session.identity.displayName);
    this.#invalidate();
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
    this.#findPlace();
    this.#stay();
    this.#updateReading();
    this.#readAhead();
  }

  /** The reader's place: the message asked for; on coming, the first unread one; else as it was. */
  #findPlace() {
    if (this.#seeking) return this.#reach(this.#seeking);
    if (this.#placed || !this.#room.loaded || !this.#session.topics.loaded) return;
    this.#placed = true;
    if (!this.#room.hasUnread) return;
    if (this.#rows.has(this.#room.unreadFrom)) this.#goToNewLine();
    else if (this.#room.readUpTo) this.#seek(this.#room.readUpTo, true); // further back than what is loaded
    else this.#pinned = false; // from the very beginning, which scrolling back gets to
  }

  #goToNewLine() {
    this.#newLine.scrollIntoView({ block: 'start' });
    this.#pinned = this.#room.atLatest && this.#toEnd() < AT_BOTTOM;
    this.#lastTop = this.#scroller.scrollTop;
  }

  #reach(id) {
    const row = this.#list.querySelector(`[data-message-id="${CSS.escape(id)}"]`);
    if (!row) return;
    this.#seeking = '';
    if (this.#toLine && this.#rows.has(this.#room.unreadFrom)) return this.#goToNewLine();
    this.#center(row);
    if (this.#toLine) return;
    requestAnimationFrame(() => this.#center(row)); // rows above have their real height only now
    row.focus({ preventScroll: true });
    row.classList.add('reached');
    setTimeout(() => row.classList.remove('reached'), FLASH);
  }

  #center(row) {
    row.scrollIntoView({ block: 'center' });
    this.#pinned = this.#room.atLatest && this.#toEnd() < AT_BOTTOM;
  }

  #reconcile() {
    const { messages, unreadFrom } = this.#room;
    const current = new Set(messages);
    for (const message of this.#rows.keys()) if (!current.has(message)) this.#removeRow(message);
    if (this.#newLine.nextSibling !== this.#rows.get(unreadFrom)) this.#newLine.remove();
    const cursor = new Cursor(this.#list);
    const newestOwn = messages.findLast(({ own, state }) => own && state === 'sent');
    let previous = null;
    for (const message of messages) {
      const row = this.#rowOf(message);
      const newDay = row.day !== this.#rows.get(previous)?.day;
      const isNew = message === unreadFrom;
      if (newDay) cursor.put(this.#dayDivider(row, message.at));
      else cursor.drop(row.divider);
      if (isNew) cursor.put(this.#newLine);
      this.#update(row, message, !newDay && !isNew && continues(previous, message), message === newestOwn);
      cursor.put(row);
      previous = message;
    }
  }

  #rowOf(message) {
    let row = this.#rows.get(message);
    if (!row) {
      row = makeRow(message, this.#room.topic);
      row.day = dayKey(message.at);
      this.#rows.set(message, row);
    }
    return row;
  }

  #update(row, message, grouped, isNewestOwn) {
    const { connection, roster, identity } = this.#session;
    const room = this.#room;
    updateRow(row, message, {
      grouped,
      type: roster.typeOf(message.author),
      phase: connection.status.phase,
      mention: (name, after) => this.#names.find(name, after),
      names: this.#names.version,
      mentioned: !message.own && isNamedIn(row, message.text, identity.displayName),
      parent: room.parentOf(message),
      receipt: isNewestOwn ? room.receiptOf(message) ?? null : null,
      retry: () => room.retry(message),
      discard: () => room.discard(message),
      explain: (anchor) => this.#receipts.open(anchor, message.id),
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
    const { loaded, complete, loading, error, messages, topic, atLatest } = this.#room;
    const { online } = this.#session.connection;
    edge(byId('older'), loaded && !complete, loading === 'older' ? 'Loading older messages…' : 'Load older messages', loading);
    edge(byId('newer'), !atLatest, loading === 'newer' ? 'Loading newer messages…' : 'Load newer messages', loading);
    const beginning = byId('beginning');
    beginning.hidden = !(loaded && complete);
    beginning.classList.toggle('empty', messages.length === 0);
    byId('beginning-title').textContent = `This is where #${topic} begins`;
    byId('beginning-text').textContent = this.#session.topics.find(topic)?.description ?? '';
    const placeholder = byId('placeholder');
    placeholder.hidden = loaded && !error;
    placeholder.textContent = error || (online ? 'Loading messages…' : 'The messages come with the connection.');
    this.#renderJump();
  }

  #renderJump() {
    const { atLatest, topic } = this.#room;
    const unread = this.#session.topics.find(topic)?.unread ?? 0;
    const far = this.#toEnd() > this.#scroller.clientHeight;
    const hidden = (this.#pinned && atLatest) || !(unread || far || !atLatest);
    const text = unread >= MOST_UNREAD ? `${MOST_UNREAD.toLocaleString('en')}+ new messages ↓` : unread ? `${plural(unread, 'new message')} ↓` : 'Jump to latest ↓';
    // Setting what is so already would have the page laid out anew, with every turn of the wheel.
    if (this.#jump.hidden !== hidden) this.#jump.hidden = hidden;
    if (this.#jump.textContent !== text) this.#jump.textContent = text;
  }

  /**
   * Fetches more before the reader gets to where it is missing. An
   * IntersectionObserver on the buttons was tried: with thousands of unlaid rows
   * Chromium's sometimes stayed silent.
   */
  #readAhead() {
    if (!this.#session.connection.online || !this.#placed || this.#seeking || Date.now() - this.#failed < RETRY) return;
    if (this.#scroller.scrollTop < READ_AHEAD) this.#loadMore('older');
    if (!this.#room.atLatest && this.#toEnd() < READ_AHEAD) this.#loadMore('newer');
  }

  async #loadMore(which) {
    try {
      await (which === 'older' ? this.#room.loadOlder() : this.#room.loadNewer());
    } catch {
      this.#failed = Date.now(); // the button stays, and so does reading ahead, in a while
    }
  }

  #toEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #scrolled() {
    const before = this.#pinned;
    const { scrollTop, scrollHeight } = this.#scroller;
    // Only moving up lets go, as rows that grow below also leave the end behind. And
    // rows that get their height late move the page by themselves.
    const moved = scrollHeight === this.#lastHeight || performance.now() - this.#touched < MOVING;
    if (this.#room.atLatest && this.#toEnd() < AT_BOTTOM) this.#pinned = true;
    else if (scrollTop < this.#lastTop && moved) this.#pinned = false;
    [this.#lastTop, this.#lastHeight] = [scrollTop, scrollHeight];
    this.#readAhead();
    if (before !== this.#pinned) this.#updateReading();
    this.#renderJump();
  }

  #stay() {
    if (!this.#pinned || !this.#room.atLatest) return;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#lastTop = this.#scroller.scrollTop;
    this.#lastHeight = this.#scroller.scrollHeight;
  }

  #updateReading() {
    const following = this.#pinned && this.#room.atLatest;
    this.#room.look(this.#placed && following && this.#looking, following);
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

function edge(button, shown, text, loading) {
  button.hidden = !shown;
  button.disabled = loading !== '';
  button.textContent = text;
}

const isLooking = () => document.visibilityState === 'visible' && document.hasFocus();

/** Whether a text names somebody; found out once, as every row is visited whenever anything changes. */
function isNamedIn(row, text, name) {
  if (row.namesWhom !== name) [row.namesWhom, row.namesMe] = [name, mentioned(text, [name]).length > 0];
  return row.namesMe;
}

/** Whether a message goes on in the group of the one before. */
function continues(previous, message) {
  return previous.author.key === message.author.key
    && previous.author.name === message.author.name
    && previous.note === message.note
    && !message.replyTo
    && message.at - previous.at < GROUP_SPAN;
}
