/** One message as a DOM node. */

import { h } from './dom.js';
import { avatar, clock, fullTime, linkify, TYPE_LABEL } from './text.js';

const NOTES = {
  outside: 'sent to several peers at once, not only to this room',
  direct: 'Sent you a direct message. The web chat cannot open those yet.',
  sealed: 'This message is encrypted; the web chat cannot open it.',
};

/**
 * @param {import('./message.js').Message} message
 * @returns {HTMLElement} a node that {@link updateRow} still has to fill
 */
export function makeRow(message) {
  const { author, at, note, text, own } = message;
  const key = `${author.name} · key ${author.key.slice(0, 16)}…`;
  return h('article', { className: `message${own ? ' own' : ''}` },
    avatar(author),
    h('div', { className: 'message-head' },
      h('bdi', { className: 'message-author', title: key }, author.name),
      h('span', { className: 'badge', hidden: true }),
      h('time', { dateTime: new Date(at).toISOString(), title: fullTime(at) }, clock(at))),
    h('div', { className: 'message-text', dir: 'auto' }, ...linkify(text)),
    note ? h('p', { className: 'message-note' }, NOTES[note]) : '');
}

/**
 * @typedef {Object} RowContext
 * @property {boolean} grouped it continues what the same author wrote just before
 * @property {string} [type] ai, human or connector
 * @property {boolean} online
 * @property {() => void} retry
 * @property {() => void} discard
 */

/**
 * Brings a row up to date; does nothing when nothing changed, as every row is
 * visited whenever anything in the room changes.
 * @param {HTMLElement} row
 * @param {import('./message.js').Message} message
 * @param {RowContext} context
 */
export function updateRow(row, message, context) {
  const { grouped, type, online } = context;
  const { id, clientId, state, error } = message;
  const version = [id, state, error, grouped, type, state === 'sending' && online].join('|');
  if (row.version === version) return;
  row.version = version;
  row.dataset.messageId = id || clientId;
  if (state) row.dataset.state = state;
  row.classList.toggle('grouped', grouped);
  row.querySelector('.avatar').dataset.type = type ?? '';
  const badge = row.querySelector('.badge');
  badge.hidden = !TYPE_LABEL[type];
  badge.textContent = TYPE_LABEL[type] ?? '';
  row.querySelector('.message-status')?.remove();
  if (state === 'sending' || state === 'failed') row.append(statusLine(message, context));
}

function statusLine({ state, error }, { online, retry, discard }) {
  const line = h('p', { className: 'message-status' });
  if (state === 'sending') line.append(online ? 'Sending…' : 'Will be sent once you are connected');
  else {
    line.append(h('span', {}, `Not sent. ${error}`),
      h('button', { type: 'button', className: 'retry', onclick: retry }, 'Retry'),
      h('button', { type: 'button', className: 'discard', onclick: discard }, 'Discard'));
  }
  return line;
}
