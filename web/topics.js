/**
 * The topics of the mesh as this member sees them. It asks the broker through a
 * function it is given.
 *
 * @typedef {Object} Topic
 * @property {string} name
 * @property {string} description
 * @property {'public'|'private'|'dm'} visibility
 * @property {number} members
 * @property {'lead'|'member'|'observer'|''} role '' outside
 * @property {number} unread of others' messages, at most {@link MOST_UNREAD}
 * @property {number} mentions of this member among them
 * @property {string} readUpTo id of the newest message that was read, '' for none
 * @property {number} countedTo Unix ms of the newest message that the broker has counted, 0 for none
 * @property {boolean} keyed it has a key, which this page has not: what is not encrypted is refused
 * @property {boolean} encrypted the newest message is one that the broker can not read
 */

import { recall, remember } from './local.js';

/** The broker counts no further. */
export const MOST_UNREAD = 1_000;

/** The room every mesh has and nobody can leave. */
export const GENERAL = 'general';

/** Events: `list` (the broker has told), `change` (that, or anything since). */
export class Topics extends EventTarget {
  /** @type {Topic[]} #general first, then by name */
  list = [];
  loaded = false;
  current = GENERAL;

  #request;
  #reading = false; // the current one, up to its newest message
  #aside; // topic → how many unread messages stand there and are in no history
  #asideKey;

  /**
   * @param {(type: string, fields?: Object) => Promise<Object>} request
   * @param {string} scope mesh id
   */
  constructor(request, scope) {
    super();
    this.#request = request;
    this.#asideKey = `aside/${scope}`;
    this.#aside = JSON.parse(recall(this.#asideKey) || '{}');
  }

  /** @returns {string} the topic at whose newest message somebody is looking, '' for none */
  get reading() {
    return this.#reading ? this.current : '';
  }

  /** @param {string} name @returns {Topic|undefined} */
  find(name) {
    return this.list.find((topic) => topic.name === name);
  }

  /** @returns {Topic[]} those one is in */
  get joined() {
    return this.list.filter(({ role }) => role);
  }

  /** @returns {{unread: number, mentions: number}} of all topics but one */
  countsExcept(name) {
    const counts = { unread: 0, mentions: 0 };
    for (const topic of this.joined) {
      if (topic.name === name) continue;
      counts.unread += topic.unread;
      counts.mentions += topic.mentions;
    }
    return counts;
  }

  async refresh() {
    const { topics } = await this.#request('topic_list');
    this.list = topics.map((topic) => ({
      name: topic.name,
      description: topic.description ?? '',
      visibility: topic.visibility,
      members: topic.memberCount,
      role: topic.role ?? '',
      unread: topic.unread + (this.#aside[topic.name] ?? 0),
      mentions: topic.mentions ?? 0,
      readUpTo: topic.readUpToId ?? '',
      countedTo: Date.parse(topic.lastMessageAt) || 0,
      keyed: topic.keyed ?? false,
      encrypted: topic.encrypted ?? false,
    }));
    this.loaded = true;
    this.dispatchEvent(new Event('list'));
    this.#changed();
  }

  /**
   * Counts what was pushed, unless it had waited for this member and the broker has
   * counted it; the next refresh has the last word.
   * @param {{name: string, at: number, encrypted: boolean, own: boolean, mention?: boolean, outside?: boolean}} pushed
   *   at: Unix ms; outside: it was not sent to the topic
   */
  note({ name, at, encrypted, own, mention = false, outside = false }) {
    if (outside && !own) this.#setAside(name, (this.#aside[name] ?? 0) + 1);
    const topic = this.find(name);
    if (!topic || (!outside && at <= topic.countedTo)) return;
    if (!outside) topic.encrypted = encrypted;
    if (!own) topic.unread++;
    if (!own && mention) topic.mentions++;
    this.#changed();
  }

  /** @param {boolean} reading whether somebody is looking at the newest message of the current topic */
  setReading(reading) {
    if (reading === this.#reading) return;
    this.#reading = reading;
    this.#changed();
  }

  /** @param {string} name of the one to show */
  setCurrent(name) {
    this.current = name;
    this.#reading = false;
    this.#changed();
  }

  /**
   * @param {{name: string, description: string, visibility: string}} wanted
   * @throws {Error} also if there is one of that name
   */
  async create(wanted) {
    const { created } = await this.#request('topic_create', wanted);
    if (!created) throw new Error(`There is a topic #${wanted.name} already. Choose another name, or look for it in the list.`);
    await this.refresh();
  }

  join = (topic) => this.#then('topic_join', { topic });
  leave = (topic) => this.#then('topic_leave', { topic });
  describe = (topic, description) => this.#then('topic_describe', { topic, description });
  invite = (topic, member) => this.#then('topic_invite', { topic, member });

  /** @returns {Promise<{memberId: string, pubkey: string, displayName: string, role: string}[]>} */
  async members(topic) {
    return (await this.#request('topic_members', { topic })).members;
  }

  async #then(type, fields) {
    await this.#request(type, fields);
    await this.refresh();
  }

  #setAside(name, count) {
    this.#aside[name] = count;
    remember(this.#asideKey, JSON.stringify(this.#aside));
  }

  #changed() {
    const current = this.find(this.current);
    if (current && this.#reading) {
      current.unread = current.mentions = 0;
      if (this.#aside[current.name]) this.#setAside(current.name, 0);
    }
    this.dispatchEvent(new Event('change'));
  }
}
