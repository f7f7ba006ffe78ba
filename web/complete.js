/** Suggests names behind an @ while one writes. */

import { byId, h, replaceRange } from './dom.js';
import { avatar, TYPE_LABEL } from './text.js';

const MOST = 8; // suggestions at a time
const OPEN = /(?<![\p{L}\p{N}@])@([\p{L}\p{N}._-]*)$/u;

export class NameCompletion {
  #roster;
  #field;
  #list = byId('names');
  #found = []; // people
  #chosen = 0;
  #isDone = false; // what was typed is a whole name, and nothing else was chosen: Enter is to send
  #start = 0; // of the @ in the text

  /**
   * @param {import('./roster.js').Roster} roster
   * @param {HTMLTextAreaElement} field
   */
  constructor(roster, field) {
    this.#roster = roster;
    this.#field = field;
    field.addEventListener('blur', () => this.#close());
    field.addEventListener('click', () => this.update());
    // The pointer must not take the focus away before it has chosen.
    this.#list.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      const index = [...this.#list.children].indexOf(event.target.closest('[role=option]'));
      if (index >= 0) this.#take(index);
    });
  }

  /** Call when the text or the place in it has changed. */
  update() {
    const { value, selectionStart, selectionEnd } = this.#field;
    const match = selectionStart === selectionEnd && OPEN.exec(value.slice(0, selectionStart));
    if (!match) return this.#close();
    this.#start = match.index;
    const typed = match[1].toLowerCase();
    this.#found = this.#search(typed);
    this.#chosen = 0;
    this.#isDone = this.#found[0]?.name.toLowerCase() === typed;
    if (this.#found.length && !(this.#isDone && this.#found.length === 1)) this.#render();
    else this.#close();
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {boolean} whether the key was meant for the suggestions
   */
  key({ key, shiftKey }) {
    if (this.#list.hidden) return false;
    const count = this.#found.length;
    const step = { ArrowDown: 1, ArrowUp: count - 1 }[key];
    if (key === 'Enter' && !shiftKey && this.#isDone) {
      this.#close();
      return false;
    }
    if (step !== undefined) {
      this.#isDone = false;
      this.#choose((this.#chosen + step) % count);
    } else if ((key === 'Enter' && !shiftKey) || key === 'Tab') this.#take(this.#chosen);
    else if (key === 'Escape') this.#close();
    else return false;
    return true;
  }

  /** The name that is so, those that begin so, then those with a word that does; who is here first. */
  #search(typed) {
    const seen = new Set();
    const all = this.#roster.everybody.flatMap((person) => [person, ...person.sessions])
      .filter(({ name, you }) => !you && !seen.has(name) && seen.add(name));
    const rank = ({ name }) => {
      const lower = name.toLowerCase();
      if (lower === typed) return 0;
      if (lower.startsWith(typed)) return 1;
      return lower.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(typed)) ? 2 : 3;
    };
    return [0, 1, 2].flatMap((wanted) => all.filter((person) => rank(person) === wanted)).slice(0, MOST);
  }

  #render() {
    this.#list.replaceChildren(...this.#found.map((person, index) => h('li', { id: `name-${index}`, role: 'option' },
      avatar(person), h('bdi', {}, person.name), h('span', { className: 'hint' }, [TYPE_LABEL[person.type], person.status === 'away' ? 'away' : ''].filter(Boolean).join(', ')))));
    this.#list.hidden = false;
    this.#choose(this.#chosen);
  }

  #choose(index) {
    this.#chosen = index;
    for (const [at, option] of [...this.#list.children].entries()) option.ariaSelected = String(at === index);
    this.#field.setAttribute('aria-activedescendant', `name-${index}`);
  }

  #take(index) {
    const { name } = this.#found[index];
    this.#close();
    replaceRange(this.#field, this.#start, this.#field.selectionStart, `@${name} `);
  }

  #close() {
    this.#list.hidden = true;
    this.#field.removeAttribute('aria-activedescendant');
  }
}
