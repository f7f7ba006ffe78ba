/**
 * One connection of one member to the broker, kept alive: hello, requests and
 * their replies, pushes and their acks, and coming back after every loss.
 * It knows the protocol's frames and nothing of rooms or of the page.
 */

const REQUEST_TIMEOUT = 10_000; // ms; protocol section 10
const FIRST_DELAY = 500; // ms before the first try after a loss, doubled by each failed one
const LONGEST_DELAY = 15_000; // ms
const STABLE_AFTER = 5_000; // ms online after which a loss counts as the first again

/** Close codes and reasons after which trying again can not help (protocol section 2). */
const FINAL_CODES = new Map([[4001, 'kicked'], [4002, 'revoked']]);
const FINAL_REASONS = new Set(['unauthorized', 'revoked', 'bad_signature', 'malformed', 'bad_session_pubkey']);

/** Reasons that are over at once: a fresh timestamp or session id is all it takes. */
const PASSING_REASONS = new Set(['replayed', 'session_replaced']);

/** A request that failed; `code` is the broker's, or `disconnected` or `timeout`. */
export class RequestError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** True when nobody knows whether the broker got the request: it may be repeated. */
  get passing() {
    return this.code === 'disconnected' || this.code === 'timeout';
  }
}

/**
 * @typedef {Object} Status
 * @property {'connecting'|'online'|'waiting'|'ended'} phase
 * @property {string} reason of waiting or having ended: a code of the protocol, '' if the line broke
 * @property {number} closeCode of the last socket, 0 if there was none
 * @property {number} retryAt Unix ms of the next try while waiting
 * @property {number} attempt 0 until a first try failed
 */

/**
 * Events: `status` (detail {@link Status}), `hello` (detail: the hello_ack),
 * `push` (detail: the push; unless it is an event, it is acked once all listeners
 * have run).
 */
export class Connection extends EventTarget {
  /** @type {Status} */
  status = { phase: 'connecting', reason: '', closeCode: 0, retryAt: 0, attempt: 0 };

  #url;
  #hello;
  #socket = null;
  #lastError = ''; // code of the last error frame that answered no request
  #onlineSince = 0;
  #timer = 0; // of the next try while waiting, of the hello while connecting
  #serial = 0;
  #requests = new Map(); // _reqId → {resolve, reject, timer}
  #followed = new Map(); // type of request → {_reqId, onAnswer}

  /**
   * @param {string} url ws(s) URL
   * @param {() => Promise<Object>} hello makes a freshly signed hello
   */
  constructor(url, hello) {
    super();
    this.#url = url;
    this.#hello = hello;
  }

  get online() {
    return this.status.phase === 'online';
  }

  /** Connects, or tries again at once when it is waiting or has given up. */
  start() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#lastError = '';
    this.#report({ phase: 'connecting' });
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(0, 'hello_timeout'), REQUEST_TIMEOUT);
    socket.onopen = async () => {
      const hello = JSON.stringify({ type: 'hello', ...(await this.#hello()) });
      if (socket === this.#socket) socket.send(hello);
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#lost(code, reason || this.#lastError);
  }

  /** Tries at once if it is only waiting; what ended stays ended. */
  wake() {
    if (this.status.phase === 'waiting') this.start();
  }

  /**
   * Sends a request and waits for its reply.
   * @param {string} type
   * @param {Object} [fields]
   * @returns {Promise<Object>} the reply
   * @throws {RequestError}
   */
  request(type, fields = {}) {
    if (!this.online) return Promise.reject(new RequestError('disconnected', 'There is no connection.'));
    const _reqId = `r${++this.#serial}`;
    return new Promise((resolve, reject) => {
      // No answer means the line is dead, although the socket does not know yet.
      const timer = setTimeout(() => this.#lost(0, ''), REQUEST_TIMEOUT);
      this.#requests.set(_reqId, { resolve, reject, timer });
      this.#post({ type, ...fields, _reqId });
    });
  }

  /**
   * Sends a request that is answered now and with every change, until the connection
   * ends or the same type is followed anew.
   * @param {string} type
   * @param {Object} fields
   * @param {(answer: Object) => void} onAnswer
   */
  follow(type, fields, onAnswer) {
    if (!this.online) return;
    const _reqId = `r${++this.#serial}`;
    this.#followed.set(type, { _reqId, onAnswer });
    this.#post({ type, ...fields, _reqId });
  }

  #post(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #receive(frame) {
    if (frame.type === 'hello_ack') this.#greeted(frame);
    else if (frame.type === 'push') this.#pushed(frame);
    else if (this.#requests.has(frame._reqId)) this.#answered(frame);
    else if (frame._reqId) this.#tellFollower(frame);
    else if (frame.type === 'error') this.#lastError = frame.code;
  }

  #greeted(ack) {
    clearTimeout(this.#timer);
    this.#onlineSince = Date.now();
    this.#report({ phase: 'online', reason: '' });
    this.dispatchEvent(new CustomEvent('hello', { detail: ack }));
  }

  #tellFollower(frame) {
    if (frame.type === 'error') return; // what was followed is gone: nothing more comes
    for (const { _reqId, onAnswer } of this.#followed.values()) if (_reqId === frame._reqId) onAnswer(frame);
  }

  #pushed(push) {
    this.dispatchEvent(new CustomEvent('push', { detail: push }));
    if (push.subtype === 'system') return; // nobody waits for an ack of what is not kept
    this.#post({ type: 'client_ack', clientMessageId: push.client_message_id, brokerMessageId: push.messageId });
  }

  #answered(frame) {
    const { resolve, reject, timer } = this.#requests.get(frame._reqId);
    this.#requests.delete(frame._reqId);
    clearTimeout(timer);
    if (frame.type === 'error') reject(new RequestError(frame.code, frame.message));
    else resolve(frame);
  }

  /** The one way out of a socket, whether it closed, never said hello or fell silent. */
  #lost(closeCode, reason) {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = null;
    clearTimeout(this.#timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(); // may take minutes on a dead line: nothing waits for it
    this.#plan(closeCode, FINAL_CODES.get(closeCode) ?? reason);
    this.#rejectAll();
  }

  #plan(closeCode, reason) {
    const stable = this.#onlineSince && Date.now() - this.#onlineSince > STABLE_AFTER;
    this.#onlineSince = 0;
    const attempt = stable ? 1 : this.status.attempt + 1;
    const final = FINAL_CODES.has(closeCode) || FINAL_REASONS.has(reason);
    if (final) return this.#report({ phase: 'ended', reason, closeCode, attempt });
    const delay = retryDelay(attempt, reason);
    this.#timer = setTimeout(() => this.start(), delay);
    this.#report({ phase: 'waiting', reason, closeCode, attempt, retryAt: Date.now() + delay });
  }

  #rejectAll() {
    const open = [...this.#requests.values()];
    this.#requests.clear();
    this.#followed.clear();
    for (const { reject, timer } of open) {
      clearTimeout(timer);
      reject(new RequestError('disconnected', 'The connection broke before the answer came.'));
    }
  }

  #report(change) {
    this.status = { ...this.status, ...change };
    this.dispatchEvent(new CustomEvent('status', { detail: this.status }));
  }
}

/** Milliseconds to wait: exponential, and spread so that tabs do not all come back in one instant. */
function retryDelay(attempt, reason) {
  if (PASSING_REASONS.has(reason) && attempt < 4) return 50 + Math.random() * 200;
  if (reason === 'timestamp_skew') return LONGEST_DELAY; // a person has to set the clock first
  const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** Math.min(attempt - 1, 10));
  return delay * (0.75 + Math.random() * 0.25);
}
