/** One message as a DOM node. */

import { h, icon, ICONS } from './dom.js';
import { markdown, plain } from './markdown.js';
import { isBlank, isOfTopic } from './message.js';
import { route } from './route.js';
import { avatar, clock, fingerprint, fullTime, TYPE_LABEL } from './text.js';

const NOTES = {
  outside: 'sent to you or to several peers, not to this topic',
  direct: 'Sent you a direct message. The web chat cannot open those.',
  sealed: 'End-to-end encrypted: neither this page nor the meshbox can read it.',
};

const QUOTE_LENGTH = 140; // characters of what a reply quotes
const SPOKEN_LENGTH = 400; // characters, likewise, when it gets the focus
const FOLD_LINES = 24; // of a longer text the beginning is shown
const FOLD_LENGTH = 2_500; // characters, likewise

/**
 * @param {import('./message.js').Message} message
 * @param {string} topic name
 * @returns {HTMLElement} a node that {@link updateRow} still has to fill
 */
export function makeRow(message, topic) {
  const { author, at, note, id, own } = message;
  const time = h('time', { dateTime: new Date(at).toISOString(), title: fullTime(at) }, clock(at));
  return h('article', { className: `message${own ? ' own' : ''}`, tabIndex: -1, onfocus: ({ currentTarget }) => { currentTarget.ariaLabel = spoken(message); } },
    avatar(author),
    h('div', { className: 'message-head' },
      h('bdi', { className: 'message-author', title: `${author.name} · key ${fingerprint(author.key)}` }, author.name),
      h('span', { className: 'badge', hidden: true }),
      isOfTopic(message) ? h('a', { className: 'message-time', href: route(topic, id), tabIndex: -1 }, time) : time),
    h('div', { className: 'message-body' },
      h('div', { className: 'message-text', dir: 'auto' }),
      note ? h('p', { className: 'message-note' }, ...(note === 'sealed' ? [icon(ICONS.locked)] : []), NOTES[note]) : ''));
}

/** What a screen reader says of a message that gets the focus. */
const spoken = ({ author, at, text, note }) => `${author.name}, ${clock(at)}: ${note ? NOTES[note] : ''} ${plain(text, SPOKEN_LENGTH)}`;

/**
 * @typedef {Object} RowContext
 * @property {boolean} grouped it continues what the same author wrote just before
 * @property {string} [type] ai, human or connector
 * @property {string} phase of the connection
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
  const { grouped, type, phase, mentioned, receipt } = context;
  const { id, clientId, state, error } = message;
  const version = [id, state, error, grouped, type, mentioned, state === 'sending' && phase, receipt && receiptText(receipt)].join('|');
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
function updateText(row, { text, note }, { mention, names }) {
  const version = text.includes('@') ? names : 0;
  if (row.textVersion === version) return;
  row.textVersion = version;
  const element = row.querySelector('.message-text');
  const beginning = beginningOf(text);
  const render = () => element.replaceChildren(markdown(row.open ? text : beginning, { mention }), ...(note || !isBlank(text) ? [] : [h('em', {}, '(empty message)')]));
  if (beginning !== text) fold(row, element, text, render);
  render();
}

/** What is shown of a text at first: a thousand long ones would be much work for nothing. */
function beginningOf(text) {
  const lines = text.slice(0, FOLD_LENGTH).split('\n', FOLD_LINES).join('\n');
  const rest = text.slice(lines.length);
  return rest.trim() ? lines : text;
}

function fold(row, element, text, render) {
  const lines = text.split('\n').filter((line) => line.trim()).length;
  const words = { true: 'Show less', false: lines > FOLD_LINES ? `Show all ${lines} lines` : 'Show all of it' };
  const button = row.querySelector('.fold') ?? h('button', { type: 'button', className: 'fold' });
  const show = (open) => {
    row.open = open;
    element.classList.toggle('folded', !open);
    button.textContent = words[open];
    button.setAttribute('aria-expanded', open);
  };
  button.onclick = () => {
    show(!row.open);
    render();
    if (!row.open) row.scrollIntoView({ block: 'nearest' });
  };
  show(row.open ?? false); // it stays as its reader left it
  element.after(button);
}

/** What a reply answers: a line that leads there. */
function updateQuote(row, { replyTo, note }, { parent }) {
  if (!replyTo || note || row.quoted === parent) return;
  row.quoted = parent;
  row.querySelector('.quote')?.remove();
  const text = parent && (parent.note === 'sealed' ? 'an encrypted message' : plain(parent.text, QUOTE_LENGTH));
  const quote = h('button', { type: 'button', className: 'quote', tabIndex: -1, title: 'Go to what this answers (Enter)', dataset: { replyTo } });
  quote.append(...(parent ? [h('bdi', {}, parent.author.name), h('span', { dir: 'auto' }, text)] : ['an earlier message']));
  row.querySelector('.message-body').before(quote);
}

function updateStatus(row, message, context) {
  const shown = row.querySelector('.receipt');
  if (shown && context.receipt) { // it keeps its focus, and the window that it opened
    shown.lastChild.data = receiptText(context.receipt);
    return;
  }
  const gone = row.querySelector('.message-status');
  if (gone?.contains(document.activeElement)) row.focus({ preventScroll: true }); // it has to be somewhere
  gone?.remove();
  const line = statusLine(message, context);
  if (line) row.append(line);
}

/** What is to be said of an own message below its text. */
function statusLine(message, { phase, retry, discard, receipt, explain }) {
  const { state, error } = message;
  const line = h('div', { className: 'message-status' });
  if (state === 'sending') line.append(SENDING[phase] ?? 'Will be sent once you are connected');
  else if (state === 'failed') {
    line.append(h('span', {}, `Not sent. ${error}`),
      h('button', { type: 'button', className: 'retry', onclick: retry }, 'Retry'),
      h('button', { type: 'button', className: 'discard', onclick: discard }, 'Discard'));
  } else if (receipt) line.append(receiptButton(receipt, explain));
  else return null;
  return line;
}

const SENDING = { online: 'Sending…', ended: 'Not sent: you are disconnected. It is kept in this browser.' };

function receiptButton(receipt, explain) {
  const button = h('button', { type: 'button', className: 'receipt' }, icon(ICONS.seen), receiptText(receipt));
  button.onclick = button.onpointerenter = button.onfocus = () => explain(button);
  return button;
}

/** @returns {string} how far a message got, in words */
function receiptText({ recipients, acked, seen }) {
  if (recipients === 0) return 'Stored';
  if (seen === 0 && acked === 0) return `Stored, on its way to ${recipients}`;
  if (seen === 0) return `Delivered to ${acked} of ${recipients}`;
  return `Seen by ${seen} of ${recipients}${acked > seen ? `, delivered to ${acked}` : ''}`;
}
