/**
 * What a screen reader says by itself: messages of others as they come. The list of
 * messages is no live region, as a page of history, or an old message that is
 * rendered anew, is nothing to recite.
 */

import { byId } from './dom.js';
import { plain } from './markdown.js';
import { plural } from './text.js';

const GATHER = 500; // ms to wait for more
const MOST = 3; // messages to be read out; more are a number
const LENGTH = 300; // characters of one

export class SpokenMessages {
  #came = []; // since the last time something was said
  #timer = 0;

  /** @param {import('./message.js').Message} message */
  say(message) {
    this.#came.push(message);
    this.#timer ||= setTimeout(() => this.#speak(), GATHER);
  }

  /** Forgets what was not said yet: one is somewhere else now. */
  forget() {
    this.#came = [];
  }

  #speak() {
    this.#timer = 0;
    const came = this.#came.splice(0);
    if (!came.length) return;
    const place = byId('spoken');
    const said = came.length > MOST
      ? `${plural(came.length, 'new message')}, the last from ${came.at(-1).author.name}`
      : came.map(({ author, text, note }) => `${author.name}: ${note === 'sealed' || note === 'direct' ? 'an encrypted message' : plain(text, LENGTH)}`).join('\n');
    place.textContent = said === place.textContent ? `${said}\u00a0` : said; // the same again is news, too
  }
}
