/**
 * The state of one topic: its messages in order, without doubles; what is unsent,
 * unread or still a draft. It asks the broker through a function it is given and
 * knows nothing of sockets or of the page.
 *
 * What is shown is one unbroken run: usually the newest messages, `live`, which
 * pushes extend. Who goes far back, or to one message, is shown an island; the live
 * ones are kept beside it, and what comes joins them. An island that grows to them
 * becomes one with them. Neither grows without bound, whatever the history.
 *
 * Three ids say where one is:
 *   synced   up to here, from the oldest live message on, nothing is missing; pushes
 *            move it while one is connected and in the topic (`caughtUp`)
 *   read     up to here somebody has seen everything, see ReadMark
 *   line     behind it stands the "new" line: what was read when one went away
 */

import { Draft, Keepsakes } from './local.js';
import { byteLength, fromWire, MAX_TEXT_BYTES, ownMessage } from './message.js';
import { ReadMark } from './readmark.js';
import { Timeline } from './timeline.js';
import { Unsent } from './unsent.js';

/** @typedef {import('./message.js').Message} Message */

const FIRST_PAGE = 50; // messages shown at once, and usually enough to catch up
const PAGE = 60; // messages per step back or forth
const SYNC_PAGE = 200; // messages per further request; the broker's most
const SYNC_PAGES = 5; // pages to catch up with before starting over from the newest
const MOST = 1_200; // messages in one run, then the far end of it is let go
const KEPT = 800; // of them, what stays then

/**
 * Events: `change` (anything to show changed), `read` (more was read), `missed`
 * (after an absence there is something new), `came` (detail: a message of somebody
 * else, just now), `sent` (detail: an own message, now stored by the broker).
 */
export class Room extends EventTarget {
  loaded = false; // the newest messages were fetched once
  loading = ''; // older, newer or place: which page is on its way
  error = ''; // why history could not be fetched, a sentence

  #me;
  #request;
  #draft;
  #keepsakes; // messages that are in no history
  #readMark = new ReadMark();
  #member = false; // one is in the topic, and gets what is said in it
  #looking = false; // somebody has the newest message before them
  #following = true; // the newest message is what is shown, or would be
  #live = new Timeline(); // the newest messages that the broker has
  #island = null; // Timeline of older ones, if those are shown
  #unsent; // own messages the broker has not confirmed
  #parents = new Map(); // messages that others answer, by id; null: not there, or on its way
  #receipts = new Map(); // how far own messages got, by id
  #synced = '';
  #caughtUp = false; // pushes now follow without a gap
  #syncing = null; // promise while catching up
  #goal = ''; // id of the message to go to, while it is fetched

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
    this.#keepsakes = new Keepsakes(scope);
    for (const push of this.#keepsakes.list()) this.#live.append(fromWire(push, me, true));
    this.#unsent = new Unsent(topic, me, request);
    this.#unsent.addEventListener('change', () => this.#changed());
    this.#unsent.addEventListener('stored', ({ detail: message }) => {
      this.#live.append(message);
      this.#changed();
      this.dispatchEvent(new CustomEvent('sent', { detail: message }));
    });
    this.adopt();
  }

  /** Takes up what an earlier page or another tab has left unsent. */
  adopt() {
    this.#unsent.adopt((clientId) => this.#live.list.some((message) => message.own && message.clientId === clientId));
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
    return this.#island ? this.#island.list : [...this.#live.list, ...this.#unsent.list];
  }

  /** Id of the newest message that was read, '' for none. */
  get readUpTo() {
    return this.#readMark.id;
  }

  /** True when others have written what nobody has looked at here. */
  get hasUnread() {
    return this.#readMark.isBehind(this.#live.list);
  }

  /**
   * True when what comes now is read as it comes. After a lost connection it is not
   * until all that was missed is here, and one has been taken to where it begins.
   */
  get reading() {
    return this.#looking && this.#caughtUp;
  }

  /** @returns {Message|null} the message the "new" line stands above */
  get unreadFrom() {
    return this.#readMark.lineIn(this.#shown.list, this.#shown.complete);
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
    for (const id of this.#receipts.keys()) if (this.#receipts.size > MOST) this.#receipts.delete(id);
    if (receipts.length) this.#changed();
  }

  /**
   * Takes what topic_list says of this member in the topic.
   * @param {{role: string, readUpTo: string}} topic
   * @returns {boolean} whether one has just come in
   */
  setMembership({ role, readUpTo }) {
    const joined = role !== '' && !this.#member;
    this.#member = role !== '';
    if (!this.#member) this.#caughtUp = false;
    if (this.#member) this.#readMark.learn(readUpTo, this.#live.run);
    if (!this.reading && this.hasUnread) this.#readMark.draw();
    if (joined && this.loaded) this.sync(); // what was said until now came to others only
    this.#changed();
    return joined;
  }

  /**
   * @param {boolean} looking whether somebody has the newest message before them
   * @param {boolean} following whether that is what the page shows
   */
  look(looking, following) {
    this.#following = following;
    if (looking === this.#looking) return;
    this.#looking = looking;
    if (!looking && !this.hasUnread) this.#readMark.erase();
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
    const wasCaughtUp = this.#caughtUp;
    try {
      const { run, gap } = await this.#fetchNewest(this.#synced);
      this.#live.merge(run.map((message) => this.#unsent.claim(message)), gap);
      this.#synced = this.#live.newestId;
      this.#caughtUp = this.#member;
      this.loaded = true;
      this.error = '';
      if (!wasCaughtUp) this.#showMissed();
      this.#fetchParents();
    } catch (error) {
      if (!error.passing) this.error = this.#sentence(error);
    }
    this.#changed();
  }

  /** What was said in an absence is new, also to somebody who was looking all the while. */
  #showMissed() {
    if (!this.hasUnread) return;
    this.#looking = false; // until the page has gone there
    this.#readMark.draw();
    this.dispatchEvent(new Event('missed'));
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
      if (island.run.length > MOST) island.keepNewest(KEPT);
      this.#land(entries.length < PAGE);
    });
  }

  /**
   * Shows a message and what is around it.
   * @param {string} id
   * @returns {Promise<boolean>} false if the topic has no such message
   * @throws {Error} when nobody knows; `passing` if the connection is to blame
   */
  async goTo(id) {
    this.#goal = id;
    if (this.#live.get(id)) this.#island = null;
    if (this.#shown.get(id)) {
      this.#changed();
      return true;
    }
    let found = false;
    await this.#load('place', async () => {
      const entries = await this.#history({ limit: PAGE, aroundId: id });
      if (this.#goal !== id) return; // somebody has gone elsewhere since
      const island = new Timeline(entries);
      const place = entries.findIndex((entry) => entry.id === id);
      island.complete = place < PAGE - PAGE / 2 - 1; // fewer older ones came than were asked for
      this.#island = island;
      this.#land(entries.length - place <= PAGE / 2);
      found = true;
    }).catch((error) => {
      if (error.passing) throw error;
      if (error.code !== 'invalid_args') throw new Error(this.#sentence(error));
    });
    return found;
  }

  /** Shows the newest messages again. */
  goToLatest() {
    this.#goal = '';
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
    if (!atEnd && !island.run.some(({ id }) => this.#live.get(id))) return;
    const complete = island.complete;
    this.#live.prepend(island.run);
    this.#live.complete = complete;
    this.#island = null;
  }

  /** Who reads far back does not need the newest messages on the page. */
  #letNewestGo() {
    if (this.#shown.run.length <= MOST) return;
    if (this.#island) return this.#island.keepOldest(KEPT);
    this.#island = new Timeline(this.#live.run.slice(0, KEPT));
    this.#island.complete = this.#live.complete;
    this.#live.keepNewest(PAGE);
  }

  #sentence({ code, message }) {
    return code === 'topic_not_found' ? `There is no topic #${this.topic} here, or it is private.` : message;
  }

  async #history(fields) {
    const reply = await this.#request('topic_history', { topic: this.topic, ...fields });
    return reply.messages.map((entry) => fromWire(entry, this.#me)).reverse(); // oldest first
  }

  /** Fetches, at once, all that messages answer and that is not loaded. */
  async #fetchParents() {
    const missing = new Set([this.draft.replyTo, ...this.#shown.run.map(({ replyTo }) => replyTo)]
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
   * @returns {boolean} whether it is new here: the broker repeats what was not acked
   */
  receive(push) {
    if (!push.topic) this.#keepsakes.add(push);
    const message = this.#unsent.claim(fromWire(push, this.#me, !push.topic));
    if (!this.#live.append(message)) {
      this.#changed(); // an own one that another tab has sent may be confirmed by it
      return false;
    }
    if (this.#caughtUp) this.#synced = this.#live.newestId;
    if (!this.reading && this.hasUnread) this.#readMark.draw(); // what comes while one reads is not "new"
    // Who has scrolled up in the live messages must not lose them while reading.
    if (this.#live.run.length > (this.#following ? MOST : 2 * MOST)) {
      this.#live.keepNewest(KEPT);
      this.#parents.clear(); // what is still answered is fetched again
    }
    if (message.replyTo) this.#fetchParents();
    this.#changed();
    if (!message.own) this.dispatchEvent(new CustomEvent('came', { detail: message }));
    return true;
  }

  /**
   * Takes an own message that another tab has sent.
   * @param {Message} sent at least id, clientId, text, replyTo and at
   */
  receiveOwn({ id, clientId, text, replyTo, at }) {
    this.#live.append(this.#unsent.claim(ownMessage({ id, clientId, text, replyTo, at, state: 'sent' }, this.#me)));
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
    this.#readMark.erase();
    this.#unsent.add(message);
    this.#changed();
    return '';
  }

  /** @param {Message} message that failed */
  retry(message) {
    this.#unsent.retry(message);
    this.#changed();
  }

  /** @param {Message} message that failed and is not to be sent any more */
  discard(message) {
    this.#unsent.discard(message);
    this.#changed();
  }

  /** Sends what waits. */
  flush() {
    return this.#unsent.flush();
  }

  /** @param {string} sentence why the broker will never take the message that is being sent */
  refuseInFlight(sentence) {
    this.#unsent.refuseInFlight(sentence);
  }

  #changed() {
    if (this.reading && this.loaded && this.atLatest && this.#readMark.advance(this.#live.newestId)) {
      this.dispatchEvent(new Event('read'));
    }
    this.dispatchEvent(new Event('change'));
  }
}
