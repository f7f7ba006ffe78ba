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
 * @property {number} unread of others' messages
 * @property {number} mentions of this member among them
 * @property {string} readUpTo id of the newest message that was read, '' for none
 * @property {boolean} encrypted the newest message is one that the broker can not read
 */

/** The room every mesh has and nobody can leave. */
export const GENERAL = 'general';

/** Events: `change`. */
export class Topics extends EventTarget {
  /** @type {Topic[]} #general first, then by name */
  list = [];
  current = GENERAL;

  #request;
  #reading = false; // the current one, up to its newest message

  /** @param {(type: string, fields?: Object) => Promise<Object>} request */
  constructor(request) {
    super();
    this.#request = request;
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
      unread: topic.unread,
      mentions: topic.mentions ?? 0,
      readUpTo: topic.readUpToId ?? '',
      encrypted: topic.encrypted ?? false,
    }));
    this.#changed();
  }

  /** Counts what was pushed; the next refresh has the last word. */
  note({ name, encrypted, own, mention }) {
    const topic = this.find(name);
    if (!topic) return;
    topic.encrypted = encrypted;
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
   * @returns {Promise<boolean>} false if there was one of that name; one is in it now all the same
   * @throws {import('./socket.js').RequestError}
   */
  async create(wanted) {
    const { created } = await this.#request('topic_create', wanted);
    if (!created) await this.#request('topic_join', { topic: wanted.name });
    await this.refresh();
    return created;
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

  #changed() {
    const current = this.find(this.current);
    if (current && this.#reading) current.unread = current.mentions = 0;
    this.dispatchEvent(new Event('change'));
  }
}
