/** One message as a DOM node. */

import { h, icon, ICONS } from './dom.js';
import { markdown, plain } from './markdown.js';
import { isOfTopic } from './message.js';
import { route } from './route.js';
import { avatar, clock, fingerprint, fullTime, TYPE_LABEL } from './text.js';

const NOTES = {
  outside: 'sent to several peers at once, not only to this room',
  direct: 'Sent you a direct message. The web chat cannot open those.',
  sealed: 'End-to-end encrypted: neither this page nor the meshbox can read it.',
};

const QUOTE_LENGTH = 140; // characters of what a reply quotes
const FOLD_LINES = 24; // a longer text is folded
const FOLD_LENGTH = 2_500; // characters, likewise

/**
 * @param {import('./message.js').Message} message
 * @param {string} topic name
 * @returns {HTMLElement} a node that {@link updateRow} still has to fill
 */
export function makeRow(message, topic) {
  const { author, at, note, id, own } = message;
  const time = h('time', { dateTime: new Date(at).toISOString(), title: fullTime(at) }, clock(at));
  return h('article', { className: `message${own ? ' own' : ''}`, tabIndex: -1 },
    avatar(author),
    h('div', { className: 'message-head' },
      h('bdi', { className: 'message-author', title: `${author.name} · key ${fingerprint(author.key)}` }, author.name),
      h('span', { className: 'badge', hidden: true }),
      isOfTopic(message) ? h('a', { className: 'message-time', href: route(topic, id) }, time) : time),
    h('div', { className: 'message-body' },
      h('div', { className: 'message-text', dir: 'auto' }),
      note ? h('p', { className: 'message-note' }, ...(note === 'sealed' ? [icon(ICONS.locked)] : []), NOTES[note]) : ''));
}

/**
 * @typedef {Object} RowContext
 * @property {boolean} grouped it continues what the same author wrote just before
 * @property {string} [type] ai, human or connector
 * @property {boolean} online
 * @property {(name: string, after: string) => {className: string, more: string}|null} mention
 * @property {number} names changes when other names are known
 * @property {boolean} mentioned it names who is reading
 * @property {import('./message.js').Message|null|undefined} parent what it answers
 * @property {{recipients: number, acked: number, seen: number}|null} receipt to be shown
 * @property {() => void} retry
 * @property {() => void} discard
 * @property {(element: HTMLElement) => void} explain shows who has it
 */

/**
 * Brings a row up to date; does nothing when nothing changed, as every row is
 * visited whenever anything in the room changes.
 * @param {HTMLElement} row
 * @param {import('./message.js').Message} message
 * @param {RowContext} context
 */
export function updateRow(row, message, context) {
  updateText(row, message, context);
  updateQuote(row, message, context);
  const { grouped, type, online, mentioned, receipt } = context;
  const { id, clientId, state, error } = message;
  const version = [id, state, error, grouped, type, mentioned, state === 'sending' && online, receipt && receiptText(receipt)].join('|');
  if (row.version === version) return;
  row.version = version;
  row.dataset.messageId = id || clientId;
  if (state) row.dataset.state = state;
  row.classList.toggle('grouped', grouped);
  row.classList.toggle('mentions-me', mentioned);
  row.querySelector('.avatar').dataset.type = type ?? '';
  const badge = row.querySelector('.badge');
  badge.hidden = !TYPE_LABEL[type];
  badge.textContent = TYPE_LABEL[type] ?? '';
  updateStatus(row, message, context);
}

/** Renders the text, and again when somebody it may name has come or gone. */
function updateText(row, { text }, { mention, names }) {
  const version = text.includes('@') ? names : 0;
  if (row.textVersion === version) return;
  row.textVersion = version;
  const element = row.querySelector('.message-text');
  element.replaceChildren(markdown(text, { mention }));
  const lines = text.split('\n').length;
  if (row.foldable ?? (lines > FOLD_LINES || text.length > FOLD_LENGTH)) fold(row, element, lines);
}

function fold(row, element, lines) {
  if (row.foldable) return; // it is as its reader left it
  row.foldable = true;
  element.classList.add('folded');
  const words = { true: 'Show less', false: lines > FOLD_LINES ? `Show all ${lines} lines` : 'Show all of it' };
  const button = h('button', { type: 'button', className: 'fold', 'aria-expanded': 'false' }, words.false);
  button.onclick = () => {
    const open = !element.classList.toggle('folded');
    button.textContent = words[open];
    button.setAttribute('aria-expanded', open);
    if (!open) row.scrollIntoView({ block: 'nearest' });
  };
  element.after(button);
}

/** What a reply answers: a line that leads there. */
function updateQuote(row, { replyTo, note }, { parent }) {
  if (!replyTo || note || row.quoted === parent) return;
  row.quoted = parent;
  row.querySelector('.quote')?.remove();
  const text = parent && (parent.note === 'sealed' ? 'an encrypted message' : plain(parent.text, QUOTE_LENGTH));
  row.querySelector('.message-body').before(parent
    ? h('button', { type: 'button', className: 'quote', dataset: { replyTo } }, h('bdi', {}, parent.author.name), h('span', { dir: 'auto' }, text))
    : h('button', { type: 'button', className: 'quote', dataset: { replyTo } }, 'an earlier message'));
}

function updateStatus(row, message, context) {
  const shown = row.querySelector('.receipt');
  if (shown && context.receipt) { // it keeps its focus, and the window that it opened
    shown.lastChild.data = receiptText(context.receipt);
    return;
  }
  row.querySelector('.message-status')?.remove();
  const line = statusLine(message, context);
  if (line) row.append(line);
}

/** What is to be said of an own message below its text. */
function statusLine(message, { online, retry, discard, receipt, explain }) {
  const { state, error } = message;
  const line = h('div', { className: 'message-status' });
  if (state === 'sending') line.append(online ? 'Sending…' : 'Will be sent once you are connected');
  else if (state === 'failed') {
    line.append(h('span', {}, `Not sent. ${error}`),
      h('button', { type: 'button', className: 'retry', onclick: retry }, 'Retry'),
      h('button', { type: 'button', className: 'discard', onclick: discard }, 'Discard'));
  } else if (receipt) line.append(receiptButton(receipt, explain));
  else return null;
  return line;
}

function receiptButton(receipt, explain) {
  const button = h('button', { type: 'button', className: 'receipt', 'aria-haspopup': 'true' }, icon(ICONS.seen), receiptText(receipt));
  button.onclick = button.onpointerenter = button.onfocus = () => explain(button);
  return button;
}

/** @returns {string} how far a message got, in words */
function receiptText({ recipients, acked, seen }) {
  if (recipients === 0) return 'Stored';
  if (seen === 0 && acked === 0) return `Stored, on its way to ${recipients}`;
  if (seen === 0) return `Stored, delivered to ${acked} of ${recipients}`;
  return `Seen by ${seen} of ${recipients}`;
}
