/** Where one writes: grows with the text, keeps the draft, sends with Enter. */

import { NameCompletion } from './complete.js';
import { byId, h, replaceRange } from './dom.js';
import { plain } from './markdown.js';
import { isSimple, mentioned } from './mention.js';
import { isBlank } from './message.js';

const MOST_MENTIONS = 16; // of one message (protocol section 7)
const QUOTE_LENGTH = 200; // characters of what is answered

export class Composer {
  #session;
  #room;
  #onSent;
  #names;
  #replyTo = ''; // id of the message that is answered
  #pasted = null; // [start, end] of lines that may become a code block
  #form = byId('compose-form');
  #field = byId('composer');
  #button = byId('send-button');
  #error = byId('compose-error');
  #onRoomChange = () => this.#renderReply();

  /**
   * @param {import('./session.js').Session} session
   * @param {() => void} onSent
   */
  constructor(session, onSent) {
    this.#session = session;
    this.#onSent = onSent;
    this.#names = new NameCompletion(session.roster, this.#field);
    this.#field.addEventListener('input', (event) => this.#edited(event));
    this.#field.addEventListener('keydown', (event) => this.#key(event));
    this.#field.addEventListener('paste', (event) => this.#paste(event));
    this.#form.addEventListener('submit', (event) => this.#submit(event));
    byId('reply-cancel').onclick = () => this.#reply('');
    byId('make-code').onclick = () => this.#makeCode();
    byId('join-topic-button').onclick = () => this.#join();
    session.addEventListener('room', () => this.#enter());
    session.topics.addEventListener('change', () => this.#renderRole());
    this.#enter();
  }

  /** @param {import('./message.js').Message} message to answer */
  replyTo(message) {
    this.#reply(message.id);
  }

  focus() {
    this.#field.focus();
  }

  /** @returns {boolean} whether there was something to give up */
  cancel() {
    if (!this.#replyTo) return false;
    this.#reply('');
    return true;
  }

  /** @param {string} text to add where the caret is */
  insert(text) {
    replaceRange(this.#field, this.#field.selectionStart, this.#field.selectionEnd, text);
  }

  #enter() {
    this.#room?.removeEventListener('change', this.#onRoomChange);
    this.#room = this.#session.room;
    this.#room.addEventListener('change', this.#onRoomChange);
    const { text, replyTo } = this.#room.draft;
    this.#replyTo = replyTo;
    this.#say('');
    this.#field.placeholder = `Message #${this.#room.topic}`;
    this.#renderReply();
    this.#renderRole();
    this.#fill(text); // what is not shown yet has no height
    if (!matchMedia('(pointer: coarse)').matches) this.#field.focus(); // on a phone the keyboard would cover what one came to read
  }

  /** Who is not in a topic, or only observes it, can not write there; and nobody where this page has no key. */
  #renderRole() {
    const { topics } = this.#session;
    const topic = topics.find(this.#room.topic);
    const role = topic?.role ?? (topics.loaded ? 'none' : 'member'); // before anything is known one may write
    const wasHidden = this.#form.hidden;
    byId('join-topic').hidden = role !== '';
    byId('join-topic-why').textContent = `You are reading along. Join ${topic?.keyed ? '' : 'to write, and '}to be told what is new.`;
    byId('observing').hidden = role !== 'observer' || topic?.keyed;
    byId('locked').hidden = !topic?.keyed;
    this.#form.hidden = role === '' || role === 'observer' || role === 'none' || Boolean(topic?.keyed);
    if (wasHidden && !this.#form.hidden) this.#fit();
  }

  async #join() {
    const error = byId('join-topic-error');
    error.hidden = true;
    try {
      await this.#session.topics.join(this.#room.topic);
      this.#field.focus();
    } catch ({ message }) {
      error.textContent = message;
      error.hidden = false;
    }
  }

  #key(event) {
    // While an input method composes a word, Enter picks it.
    if (event.isComposing || event.keyCode === 229) return;
    if (this.#names.key(event)) return event.preventDefault();
    if (event.key === 'Enter' && !event.shiftKey) this.#submit(event);
    if (event.key === 'Escape' && this.cancel()) event.stopPropagation();
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#field.value.replace(/\s+$/, '');
    this.#field.focus();
    if (isBlank(text)) return this.#say(text ? 'There is nothing to be seen in this message.' : '');
    const problem = this.#room.send({ text, replyTo: this.#replyTo, mentions: this.#mentionsIn(text) });
    this.#say(problem);
    if (problem) return;
    this.#replyTo = '';
    this.#offer(null);
    this.#fill('');
    this.#keep();
    this.#renderReply();
    this.#onSent();
  }

  /** Names with a space in them the broker does not find by itself. */
  #mentionsIn(text) {
    const names = mentioned(text, this.#session.roster.names);
    return names.every(isSimple) ? undefined : names.map((name) => name.toLowerCase()).slice(0, MOST_MENTIONS);
  }

  #edited({ inputType }) {
    this.#keep();
    this.#say('');
    this.#fit();
    this.#names.update();
    if (inputType !== 'insertFromPaste') this.#offer(null);
  }

  #paste({ clipboardData }) {
    const lines = clipboardData.getData('text/plain').replaceAll('\r\n', '\n').trimEnd();
    const start = this.#field.selectionStart;
    // The field has the text only after this event.
    setTimeout(() => this.#offer(lines.includes('\n') && !lines.startsWith('```') ? [start, this.#field.selectionEnd] : null));
  }

  #offer(pasted) {
    this.#pasted = pasted;
    byId('compose-offer').hidden = !pasted;
  }

  /** Puts what was pasted between fences, longer ones if it has some itself. */
  #makeCode() {
    const [start, end] = this.#pasted;
    const { value } = this.#field;
    const code = value.slice(start, end).trimEnd();
    const fence = '`'.repeat(Math.max(3, ...Array.from(code.matchAll(/`{3,}/g), ([ticks]) => ticks.length + 1)));
    const before = start === 0 || value[start - 1] === '\n' ? '' : '\n';
    this.#offer(null);
    replaceRange(this.#field, start, end, `${before}${fence}\n${code}\n${fence}\n`);
  }

  #reply(id) {
    this.#replyTo = id;
    this.#keep();
    this.#renderReply();
    this.#field.focus();
  }

  #renderReply() {
    byId('reply').hidden = !this.#replyTo;
    if (!this.#replyTo) return;
    const parent = this.#room.parentOf({ replyTo: this.#replyTo });
    byId('reply-text').replaceChildren('Replying to ', ...(parent
      ? [h('bdi', {}, parent.author.name), ': ', h('span', { dir: 'auto' }, plain(parent.text, QUOTE_LENGTH))]
      : ['an earlier message']));
  }

  #keep() {
    this.#room.draft = { text: this.#field.value, replyTo: this.#replyTo };
  }

  #fill(text) {
    this.#field.value = text;
    this.#fit();
  }

  /** As high as the text, up to the limit that the style sheet sets. */
  #fit() {
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
    this.#button.disabled = isBlank(this.#field.value);
  }

  #say(sentence) {
    this.#error.textContent = sentence;
    this.#error.hidden = !sentence;
  }
}
