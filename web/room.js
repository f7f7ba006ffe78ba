/**
 * The state of one topic: its messages in order, without doubles; what is unsent,
 * unread or still a draft. It asks the broker through a function it is given and
 * knows nothing of sockets or of the page.
 */

import { Outbox, recall, remember } from './local.js';
import { byteLength, fromWire, MAX_TEXT_BYTES, ownMessage, toWire } from './message.js';
import { ReadMark } from './readmark.js';
import { Timeline } from './timeline.js';

/** @typedef {import('./message.js').Message} Message */

const FIRST_PAGE = 50; // messages shown at once, and usually enough to catch up
const OLDER_PAGE = 100; // messages per step back
const SYNC_PAGE = 200; // messages per further request; the broker's most
const SYNC_PAGES = 5; // pages to catch up with before starting over from the newest
const OUTBOX_AGE = 24 * 3600_000; // ms the broker recognises a repeated client_message_id

/**
 * Events: `change` (anything to show changed), `read` (everything was read),
 * `sent` (detail: the own message, now stored by the broker).
 */
export class Room extends EventTarget {
  loaded = false; // the newest messages were fetched once
  complete = false; // the first message ever is among them
  loadingOlder = false;
  error = ''; // why history could not be fetched, a sentence

  #me;
  #request;
  #scope;
  #outbox;
  #readMark;
  #reading = false; // somebody is looking at the newest message
  #stored = new Timeline(); // what the broker has
  #unsent = new Map(); // own messages the broker has not confirmed, by clientId
  #mark = ''; // id up to which, from the oldest loaded message on, nothing is missing
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
    this.#scope = `${me.meshId}/${topic}`;
    this.#readMark = new ReadMark(this.#scope);
    this.#outbox = new Outbox(this.#scope);
    for (const entry of this.#outbox.list()) this.#resume(entry);
  }

  get draft() {
    return recall(`draft/${this.#scope}`);
  }

  set draft(text) {
    remember(`draft/${this.#scope}`, text);
  }

  /** @returns {Message[]} oldest first, what is unsent last */
  get messages() {
    return [...this.#stored.list, ...this.#unsent.values()];
  }

  /** Number of loaded messages of others that came after what was read. */
  get unread() {
    return this.#readMark.unread(this.#stored.list).length;
  }

  /** @returns {Message|null} the message the "new" line stands above */
  get unreadFrom() {
    return this.#readMark.line;
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
    this.#stored.markStart();
    try {
      const { run, gap } = await this.#fetchNewest(this.#mark);
      this.#stored.merge(run.map((message) => this.#claimed(message)), gap);
      this.#mark = this.#stored.newestId;
      this.#caughtUp = this.loaded = true;
      this.error = '';
      if (this.#readMark.firstVisit) this.#readMark.advance(this.#mark); // nothing here is "new" yet
      this.#readMark.placeLine(this.#stored.list);
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
      const entries = await this.#history(limit, run[0]?.id);
      run = [...entries, ...run];
      this.complete ||= entries.length < limit;
      if (entries.length < limit || entries.some(({ id }) => id === mark)) return { run, gap: false };
    }
    this.complete = false;
    return { run, gap: true };
  }

  /** Fetches the page before the oldest message. */
  async loadOlder() {
    if (!this.loaded || this.complete || this.loadingOlder) return;
    const oldest = this.#stored.oldestId;
    this.loadingOlder = true;
    this.#changed();
    try {
      const entries = await this.#history(OLDER_PAGE, oldest);
      // If a sync started over meanwhile, this page would be an island.
      if (oldest !== this.#stored.oldestId) return;
      this.complete = entries.length < OLDER_PAGE;
      this.#stored.prepend(entries);
    } finally {
      this.loadingOlder = false;
      this.#changed();
    }
  }

  async #history(limit, beforeId) {
    const reply = await this.#request('topic_history', { topic: this.topic, limit, beforeId });
    return reply.messages.map((entry) => fromWire(entry, this.#me)).reverse(); // oldest first
  }

  /**
   * Takes a push of this topic, or one for this member that belongs to no topic.
   * @param {Object} push
   */
  receive(push) {
    this.#stored.append(this.#claimed(fromWire(push, this.#me, !push.topic)));
    if (this.#caughtUp) this.#mark = this.#stored.newestId;
    if (!this.#reading) this.#readMark.placeLine(this.#stored.list); // what comes while one reads is not "new"
    this.#changed();
  }

  /**
   * Takes an own message that another tab has sent.
   * @param {{id: string, clientId: string, text: string, at: number}} sent
   */
  receiveOwn({ id, clientId, text, at }) {
    this.#stored.append(this.#claimed(ownMessage({ id, clientId, text, at, state: 'sent' }, this.#me)));
    this.#changed();
  }

  /**
   * Posts a message: it is shown and remembered at once, and sent now or as soon
   * as there is a connection.
   * @param {string} text
   * @returns {string} '' or a sentence saying why it can not be sent
   */
  send(text) {
    const size = byteLength(text);
    if (size > MAX_TEXT_BYTES) {
      return `This message is too long: ${Math.ceil(size / 1000)} kB of at most ${MAX_TEXT_BYTES / 1000} kB. Send it in parts.`;
    }
    const message = ownMessage({ clientId: crypto.randomUUID(), text, at: Date.now() }, this.#me);
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
    this.#stored.append(message);
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
    this.#unsent.set(entry.clientId, ownMessage({ ...entry, error, state: error ? 'failed' : 'sending' }, this.#me));
  }

  #forget(message) {
    this.#outbox.remove(message.clientId);
    this.#unsent.delete(message.clientId);
  }

  #changed() {
    if (this.#reading && this.loaded && this.#readMark.advance(this.#stored.newestId)) {
      this.dispatchEvent(new Event('read'));
    }
    this.dispatchEvent(new Event('change'));
  }
}
