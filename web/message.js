/**
 * A message of the room, and its form on the wire (protocol sections 5 and 7).
 *
 * @typedef {Object} Author
 * @property {string} key hex public key it was sent with: of a session, else of the member
 * @property {string} memberId
 * @property {string} name
 * @property {string} [type] ai, human or connector, when the broker said so
 *
 * @typedef {Object} Message
 * @property {string} id the broker's; '' until it has the message
 * @property {string} clientId the sender's, '' if unknown
 * @property {Author} author
 * @property {boolean} own
 * @property {string} text
 * @property {string} replyTo id of the message it answers, '' for none
 * @property {string[]} [mentions] names in an own message that the broker would not find by itself
 * @property {number} at Unix ms
 * @property {''|'outside'|'direct'|'sealed'} note why it is not an ordinary message: sent to several
 *   peers rather than to the topic, sent to this member alone, or encrypted
 * @property {'sending'|'sent'|'failed'|''} state of an own message, '' for others'
 * @property {string} [error] why it failed, a sentence
 */

/**
 * The largest text that fits a message: 64 KiB of nonce, target and base64 text.
 * The broker closes the connection on frames beyond its limit, so it is the page
 * that has to say no.
 */
export const MAX_TEXT_BYTES = 48_000;

/**
 * Says whether the topic's history holds a message: not if it has not reached the
 * broker, and not if it was sent to peers rather than to the topic.
 * @param {Message} message
 * @returns {boolean}
 */
export const isOfTopic = ({ id, note }) => id !== '' && note !== 'outside' && note !== 'direct';

/** @param {string} text @returns {boolean} whether there is nothing to be seen of it */
export const isBlank = (text) => !/[\p{L}\p{N}\p{P}\p{S}]/u.test(text);

/** @param {string} text @returns {number} bytes in UTF-8 */
export const byteLength = (text) => new TextEncoder().encode(text).length;

/**
 * Reads a push or an entry of topic_history.
 * @param {Object} entry
 * @param {import('./identity.js').Identity} me
 * @param {boolean} [outside] it was pushed without a topic
 * @returns {Message}
 */
export function fromWire(entry, me, outside = false) {
  const own = entry.senderMemberId === me.memberId;
  const text = plaintext(entry);
  return {
    id: entry.messageId ?? entry.id,
    clientId: entry.client_message_id ?? '',
    author: {
      key: entry.senderPubkey,
      memberId: entry.senderMemberId ?? '',
      name: entry.senderName || entry.senderPubkey.slice(0, 8),
      type: entry.senderPeerType,
    },
    own,
    text: text ?? '',
    replyTo: entry.replyToId ?? '',
    at: Date.parse(entry.createdAt),
    note: outside ? (text === null ? 'direct' : 'outside') : (text === null ? 'sealed' : ''),
    state: own ? 'sent' : '',
  };
}

/**
 * Makes a message this member has just written.
 * @param {Partial<Message>} fields at least clientId, text and at
 * @param {import('./identity.js').Identity} me
 * @returns {Message}
 */
export function ownMessage(fields, me) {
  const author = { key: me.pubkey, memberId: me.memberId, name: me.displayName, type: 'human' };
  return { id: '', note: '', own: true, state: 'sending', replyTo: '', author, ...fields };
}

/**
 * The fields of a `send` to a topic, as plaintext of body version 1.
 * @param {Message} message
 * @param {string} topic name
 * @returns {Object}
 */
export function toWire(message, topic) {
  return {
    targetSpec: `#${topic}`,
    priority: 'next',
    nonce: base64(crypto.getRandomValues(new Uint8Array(24))),
    ciphertext: base64(new TextEncoder().encode(message.text)),
    id: message.clientId,
    client_message_id: message.clientId,
    replyToId: message.replyTo || undefined,
    mentions: message.mentions?.length ? message.mentions : undefined,
    bodyVersion: 1,
  };
}

/**
 * The text of a body, or null when it is encrypted: to a topic key, or to this
 * member's key, which WebCrypto lends to nothing but signing. A push does not say
 * which; but what a cipher puts out is not UTF-8.
 */
function plaintext({ ciphertext, bodyVersion = 1 }) {
  if (bodyVersion > 1) return null;
  try {
    const bytes = Uint8Array.from(atob(ciphertext), (char) => char.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
