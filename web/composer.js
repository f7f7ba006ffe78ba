/** Where one writes: grows with the text, keeps the draft, sends with Enter. */

import { byId } from './dom.js';

export class Composer {
  #room;
  #onSent;
  #field = byId('composer');
  #button = byId('send-button');
  #error = byId('compose-error');

  /**
   * @param {import('./room.js').Room} room
   * @param {() => void} onSent
   */
  constructor(room, onSent) {
    this.#room = room;
    this.#onSent = onSent;
    this.#field.addEventListener('input', () => this.#edited());
    this.#field.addEventListener('keydown', (event) => this.#key(event));
    byId('compose-form').addEventListener('submit', (event) => this.#submit(event));
    this.#fill(room.draft);
    this.#field.focus();
  }

  #key(event) {
    // While an input method composes a word, Enter picks it.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#field.value.replace(/\s+$/, '');
    this.#field.focus();
    if (!text) return;
    const problem = this.#room.send(text);
    this.#say(problem);
    if (problem) return;
    this.#fill('');
    this.#room.draft = '';
    this.#onSent();
  }

  #edited() {
    this.#room.draft = this.#field.value;
    this.#say('');
    this.#fit();
  }

  #fill(text) {
    this.#field.value = text;
    this.#fit();
  }

  /** As high as the text, up to the limit that the style sheet sets. */
  #fit() {
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
    this.#button.disabled = this.#field.value.trim() === '';
  }

  #say(sentence) {
    this.#error.textContent = sentence;
    this.#error.hidden = !sentence;
  }
}
