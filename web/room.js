/**
 * The state of one topic: its messages in order, without doubles; what is unsent,
 * unread or still a draft. It asks the broker through a function it is given and
 * knows nothing of sockets or of the page.
 *
 * What is shown is one unbroken run: usually the newest messages, which pushes
 * extend. Who goes far back, or to one message, is shown an island; the newest are
 * kept beside it, and what comes joins them. An island that grows to them becomes
 * one with them. Neither is ever longer than MOST, whatever the history.
 */

import { Draft, Outbox } from './local.js';
import { byteLength, fromWire, isOfTopic, MAX_TEXT_BYTES, ownMessage, toWire } from './message.js';
import { ReadMark } from './readmark.js';
import { Timeline } from './timeline.js';

/** @typedef {import('./message.js').Message} Message */

const FIRST_PAGE = 50; // messages shown at once, and usually enough to catch up
const PAGE = 60; // messages per step back or forth
const SYNC_PAGE = 200; // messages per further request; the broker's most
const SYNC_PAGES = 5; // pages to catch up with before starting over from the newest
const MOST = 1_200; // messages in one run, then the far end of it is let go
const KEPT = 800; // of them, what stays then
const OUTBOX_AGE = 24 * 3600_000; // ms the broker recognises a repeated client_message_id

/**
 * Events: `change` (anything to show changed), `read` (more was read),
 * `sent` (detail: the own message, now stored by the broker).
 */
export class Room extends EventTarget {
  loaded = false; // the newest messages were fetched once
  loading = ''; // older, newer or place: which page is on its way
  error = ''; // why history could not be fetched, a sentence

  #me;
  #request;
  #draft;
  #outbox;
  #readMark = new ReadMark();
  #reading = false; // somebody is looking at the newest message
  #live = new Timeline(); // the newest messages that the broker has
  #island = null; // Timeline of older ones, if those are shown
  #unsent = new Map(); // own messages the broker has not confirmed, by clientId
  #parents = new Map(); // messages that others answer, by id; null: not there, or on its way
  #receipts = new Map(); // how far own messages got, by id
  #mark = ''; // id up to which, from the oldest live message on, nothing is missing
  #caughtUp = false; // pushes now follow the mark without a gap
  #syncing = null; // promise while catching up

  /**
   * @param {string} topic name
   * @param {import('./identity.js').Identity} me
   * @param {(type: string, fields: Object) => Promise<Object>} request
   */
  constructor(topic, me, request) {
    super();
    this.topic = topic;
    this.#me = me;
    this.#request = request;
    const scope = `${me.meshId}/${topic}`;
    this.#draft = new Draft(scope);
    this.#outbox = new Outbox(scope);
    for (const entry of this.#outbox.list()) this.#resume(entry);
  }

  /** @returns {{text: string, replyTo: string}} */
  get draft() {
    return this.#draft.read();
  }

  set draft(draft) {
    this.#draft.write(draft);
  }

  get #shown() {
    return this.#island ?? this.#live;
  }

  /** True when what is shown ends with the newest message. */
  get atLatest() {
    return !this.#island;
  }

  /** True when the first message ever is shown. */
  get complete() {
    return this.#shown.complete;
  }

  /** @returns {Message[]} oldest first, what is unsent last */
  get messages() {
    return this.#island ? this.#island.list : [...this.#live.list, ...this.#unsent.values()];
  }

  /** Number of loaded messages of others that came after what was read. */
  get unread() {
    return this.#readMark.unread(this.#live.list).length;
  }

  /** Id of the newest message of the topic that has arrived. */
  get newestId() {
    return this.#live.newestId;
  }

  /** @returns {Message|null} the message the "new" line stands above */
  get unreadFrom() {
    return this.#readMark.line;
  }

  /** @param {string} id @returns {Message|undefined} if it is loaded */
  find(id) {
    return this.#shown.get(id) ?? this.#live.get(id);
  }

  /**
   * What a message answers.
   * @param {Message} message
   * @returns {Message|null|undefined} undefined: nothing; null: not there, or on its way
   */
  parentOf({ replyTo }) {
    return replyTo ? this.find(replyTo) ?? this.#parents.get(replyTo) ?? null : undefined;
  }

  /**
   * How far an own message got.
   * @param {Message} message
   * @returns {{recipients: number, acked: number, seen: number}|undefined}
   */
  receiptOf({ id }) {
    return this.#receipts.get(id);
  }

  /** @param {Object[]} receipts of topic_receipts_response */
  setReceipts(receipts) {
    for (const receipt of receipts) this.#receipts.set(receipt.messageId, receipt);
    if (receipts.length) this.#changed();
  }

  /** @param {string} readUpTo id, as topic_list says it */
  setRead(readUpTo) {
    this.#readMark.set(readUpTo, this.#live.list);
    if (this.loaded) this.#readMark.placeLine(this.#live.list);
    this.#changed();
  }

  /** @param {boolean} reading whether somebody is looking at the newest message */
  setReading(reading) {
    if (reading === this.#reading) return;
    this.#reading = reading;
    if (!reading && this.unread === 0) this.#readMark.line = null;
    this.#changed();
  }

  /** Call when the connection is lost: pushes may be missed from now on. */
  interrupted() {
    this.#caughtUp = false;
    for (const [id, parent] of this.#parents) if (!parent) this.#parents.delete(id);
    this.#changed();
  }

  /**
   * Fetches what is newer than everything known, page by page. After too long an
   * absence it starts over from the newest messages rather than leave a hole.
   */
  sync() {
    this.#syncing ??= this.#catchUp().finally(() => {
      this.#syncing = null;
    });
    return this.#syncing;
  }

  async #catchUp() {
    this.#live.markStart();
    try {
      const { run, gap } = await this.#fetchNewest(this.#mark);
      this.#live.merge(run.map((message) => this.#claimed(message)), gap);
      this.#mark = this.#live.newestId;
      this.#caughtUp = this.loaded = true;
      this.error = '';
      this.#readMark.placeLine(this.#live.list);
      this.#fetchParents();
    } catch (error) {
      if (!error.passing) this.error = error.message;
    }
    this.#changed();
  }

  /** Fetches the newest messages back to a known one; if that is too far, there is a gap before them. */
  async #fetchNewest(mark) {
    const pages = mark ? SYNC_PAGES : 1;
    let run = [];
    for (let page = 0; page < pages; page++) {
      const limit = page === 0 ? FIRST_PAGE : SYNC_PAGE;
      const entries = await this.#history({ limit, beforeId: run[0]?.id });
      run = [...entries, ...run];
      this.#live.complete ||= entries.length < limit;
      if (entries.length < limit || entries.some(({ id }) => id === mark)) return { run, gap: false };
    }
    this.#live.complete = false;
    return { run, gap: true };
  }

  /** Fetches the page before the oldest message shown. */
  async loadOlder() {
    const shown = this.#shown;
    if (!this.loaded || shown.complete || this.loading) return;
    const beforeId = shown.oldestId;
    await this.#load('older', async () => {
      const entries = await this.#history({ limit: PAGE, beforeId });
      // If a sync started over meanwhile, this page would be an island.
      if (shown !== this.#shown || beforeId !== shown.oldestId) return;
      shown.prepend(entries);
      shown.complete = entries.length < PAGE;
      if (this.atLatest) this.#readMark.raiseLine(shown.list);
      this.#letNewestGo();
    });
  }

  /** Fetches the page after the newest message shown, on an island. */
  async loadNewer() {
    const island = this.#island;
    if (!island || this.loading) return;
    await this.#load('newer', async () => {
      const entries = await this.#history({ limit: PAGE, afterId: island.newestId });
      if (island !== this.#island) return;
      island.extend(entries);
      if (island.list.length > MOST) island.keepNewest(KEPT);
      this.#land(entries.length < PAGE);
    });
  }

  /**
   * Shows a message and what is around it.
   * @param {string} id
   * @returns {Promise<boolean>} false if the topic has no such message
   * @throws {import('./socket.js').RequestError} when nobody knows
   */
  async goTo(id) {
    if (this.#live.get(id)) this.#island = null;
    if (this.#shown.get(id)) {
      this.#changed();
      return true;
    }
    let found = false;
    await this.#load('place', async () => {
      const entries = await this.#history({ limit: PAGE, aroundId: id });
      const island = new Timeline(entries);
      const place = entries.findIndex((entry) => entry.id === id);
      island.complete = place < PAGE - PAGE / 2 - 1; // fewer older ones came than were asked for
      this.#island = island;
      this.#land(entries.length - place <= PAGE / 2);
      found = true;
    }).catch((error) => {
      if (error.code !== 'invalid_args') throw error;
    });
    return found;
  }

  /** Shows the newest messages again. */
  goToLatest() {
    this.#island = null;
    this.#changed();
  }

  /** Runs one of the requests for a page, with `loading` saying so. */
  async #load(which, fetchPage) {
    this.loading = which;
    this.#changed();
    try {
      await fetchPage();
      this.#fetchParents();
    } finally {
      this.loading = '';
      this.#changed();
    }
  }

  /** An island that has reached the newest messages is one with them. */
  #land(atEnd) {
    const island = this.#island;
    if (!atEnd && !island.list.some(({ id }) => this.#live.get(id))) return;
    const complete = island.complete;
    this.#live.prepend(island.list);
    this.#live.complete = complete;
    this.#island = null;
  }

  /** Who reads far back does not need the newest messages on the page. */
  #letNewestGo() {
    if (this.#shown.list.length <= MOST) return;
    if (this.#island) return this.#island.keepOldest(KEPT);
    this.#island = new Timeline(this.#live.list.filter(isOfTopic).slice(0, KEPT));
    this.#island.complete = this.#live.complete;
    this.#live.keepNewest(PAGE);
  }

  async #history(fields) {
    const reply = await this.#request('topic_history', { topic: this.topic, ...fields });
    return reply.messages.map((entry) => fromWire(entry, this.#me)).reverse(); // oldest first
  }

  /** Fetches, at once, all that messages answer and that is not loaded. */
  async #fetchParents() {
    const missing = new Set(this.#shown.list.map(({ replyTo }) => replyTo)
      .filter((id) => id && !this.find(id) && !this.#parents.has(id)));
    const ids = [...missing].slice(0, SYNC_PAGE);
    if (!ids.length) return;
    for (const id of ids) this.#parents.set(id, null);
    try {
      for (const parent of await this.#history({ ids })) this.#parents.set(parent.id, parent);
      this.#changed();
    } catch {
      for (const id of ids) this.#parents.delete(id); // the next page, or the next hello, asks again
    }
  }

  /**
   * Takes a push of this topic, or one for this member that belongs to no topic.
   * @param {Object} push
   */
  receive(push) {
    this.#live.append(this.#claimed(fromWire(push, this.#me, !push.topic)));
    if (this.#caughtUp) this.#mark = this.#live.newestId;
    if (!this.#reading) this.#readMark.placeLine(this.#live.list); // what comes while one reads is not "new"
    else if (this.#live.list.length > MOST) this.#live.keepNewest(KEPT);
    this.#fetchParents();
    this.#changed();
  }

  /**
   * Takes an own message that another tab has sent.
   * @param {Message} sent at least id, clientId, text, replyTo and at
   */
  receiveOwn({ id, clientId, text, replyTo, at }) {
    this.#live.append(this.#claimed(ownMessage({ id, clientId, text, replyTo, at, state: 'sent' }, this.#me)));
    this.#changed();
  }

  /**
   * Posts a message: it is shown and remembered at once, and sent now or as soon
   * as there is a connection.
   * @param {{text: string, replyTo?: string, mentions?: string[]}} written
   * @returns {string} '' or a sentence saying why it can not be sent
   */
  send(written) {
    const size = byteLength(written.text);
    if (size > MAX_TEXT_BYTES) {
      return `This message is too long: ${Math.ceil(size / 1000)} kB of at most ${MAX_TEXT_BYTES / 1000} kB. Send it in parts.`;
    }
    const message = ownMessage({ ...written, clientId: crypto.randomUUID(), at: Date.now() }, this.#me);
    this.#island = null;
    this.#readMark.line = null;
    this.#outbox.put(message);
    this.#unsent.set(message.clientId, message);
    this.#deliver(message);
    this.#changed();
    return '';
  }

  /** @param {Message} message that failed */
  retry(message) {
    Object.assign(message, { state: 'sending', error: undefined });
    this.#outbox.put(message);
    this.#deliver(message);
    this.#changed();
  }

  /** @param {Message} message that failed and is not to be sent any more */
  discard(message) {
    this.#forget(message);
    this.#changed();
  }

  /** Sends what waited for a connection, in the order it was written. */
  async flush() {
    const waiting = [...this.#unsent.values()].filter(({ state }) => state === 'sending');
    await Promise.all(waiting.map((message) => this.#deliver(message)));
  }

  /** @param {string} sentence why the broker will never take what is unsent */
  refuseUnsent(sentence) {
    for (const message of this.#unsent.values()) this.#fail(message, sentence);
    this.#changed();
  }

  async #deliver(message) {
    try {
      const ack = await this.#request('send', toWire(message, this.topic));
      if (!ack.queued) this.#fail(message, ack.error.replace(/^\w+: /, ''));
      else this.#confirm(message, ack.messageId);
    } catch (error) {
      // Without an answer it stays "sending": the next hello repeats it under the
      // same client_message_id, so it can not double.
      if (!error.passing) this.#fail(message, error.message);
    }
    this.#changed();
  }

  #fail(message, sentence) {
    if (message.id) return; // another tab got it through
    Object.assign(message, { state: 'failed', error: sentence });
    this.#outbox.put(message);
  }

  /** The broker has it; perhaps history or another tab has said so before. */
  #confirm(message, id) {
    if (message.id) return;
    this.#forget(message);
    Object.assign(message, { id, state: 'sent', error: undefined });
    this.#live.append(message);
    this.dispatchEvent(new CustomEvent('sent', { detail: message }));
  }

  /** The own message that still waited for its ack, if that is what came, else what came. */
  #claimed(message) {
    const waiting = message.own && this.#unsent.get(message.clientId);
    if (!waiting) return message;
    this.#confirm(waiting, message.id);
    return waiting;
  }

  #resume(entry) {
    const stale = Date.now() - entry.at > OUTBOX_AGE;
    const error = entry.error ?? (stale ? 'This was written over a day ago and never reached meshbox.' : undefined);
    this.#unsent.set(entry.clientId, ownMessage({ replyTo: '', ...entry, error, state: error ? 'failed' : 'sending' }, this.#me));
  }

  #forget(message) {
    this.#outbox.remove(message.clientId);
    this.#unsent.delete(message.clientId);
  }

  #changed() {
    if (this.#reading && this.loaded && this.atLatest && this.#readMark.advance(this.#live.newestId)) {
      this.dispatchEvent(new Event('read'));
    }
    this.dispatchEvent(new Event('change'));
  }
}
