/** Desktop notifications and a sound for mentions, both only if one asked for them. */

import { recall, remember } from './local.js';
import { plain } from './markdown.js';
import { route } from './route.js';
import { plural } from './text.js';

const ICON = new URL('icon.svg', import.meta.url).href;
const LENGTH = 200; // characters of a message in a notification
const GATHER = 400; // ms to wait for more: after an absence many come at once

/** @param {'notify'|'sound'} what @returns {boolean} whether one asked for it */
export const isOn = (what) => recall(what) === 'on' && (what === 'sound' || Notification.permission === 'granted');

/**
 * @param {'notify'|'sound'} what
 * @param {boolean} on
 * @returns {Promise<boolean>} whether it is on now: the browser may refuse
 */
export async function turn(what, on) {
  if (what === 'notify' && on) on = await Notification.requestPermission() === 'granted' && notify('This is how meshbox tells you', { body: 'Somebody has mentioned you.', icon: ICON }) !== null;
  remember(what, on ? 'on' : '');
  if (what === 'sound' && on) beep(); // what one will hear, and leave for the browser to make sounds later
  return on;
}

/** Some browsers, on phones mostly, have the permission and no way to use it from a page. */
function notify(title, options) {
  try {
    return new Notification(title, options);
  } catch {
    return null;
  }
}

/**
 * Tells of mentions nobody is looking at. Locks are what tabs of one browser have in
 * common: one of them announces, and who looks at a topic holds the lock of its name.
 */
export class Announcer {
  #session;
  #scope;
  #gathered = []; // {topic, message}
  #announces = false; // this tab does it for all
  #looksAt = ''; // topic
  #lookAway = () => {};

  /** @param {import('./session.js').Session} session */
  constructor(session) {
    this.#session = session;
    this.#scope = `meshbox/${session.identity.meshId}`;
    navigator.locks.request(`${this.#scope}/announcer`, () => {
      this.#announces = true;
      return new Promise(() => {}); // until the tab closes
    });
    session.addEventListener('mention', ({ detail }) => this.#gather(detail));
  }

  /** @param {string} topic at whose newest message somebody is looking, '' for none */
  lookAt(topic) {
    if (topic === this.#looksAt) return;
    this.#looksAt = topic;
    this.#lookAway();
    if (topic) {
      const away = new Promise((done) => { this.#lookAway = done; });
      navigator.locks.request(`${this.#scope}/looking/${topic}`, { mode: 'shared' }, () => away);
    }
  }

  #gather(mention) {
    if (mention.topic === this.#looksAt) return;
    if (this.#gathered.push(mention) === 1) setTimeout(() => this.#announce(), GATHER);
  }

  async #announce() {
    const gathered = this.#gathered.splice(0);
    const { held } = await navigator.locks.query();
    const seen = new Set(held.map(({ name }) => name));
    const unseen = gathered.filter(({ topic }) => !seen.has(`${this.#scope}/looking/${topic}`));
    if (!this.#announces || !unseen.length) return;
    if (isOn('sound')) beep();
    if (isOn('notify')) show(unseen, this.#session.identity.meshSlug);
  }
}

function show(mentions, mesh) {
  const { topic, message: { id, note, author, text } } = mentions.at(-1);
  const one = mentions.length === 1;
  const title = one ? `${author.name} in #${topic}` : `${plural(mentions.length, 'mention')} in ${mesh}`;
  const names = [...new Set(mentions.map(({ message }) => message.author.name))].join(', ');
  const body = one ? note === 'direct' ? 'An encrypted message for you.' : plain(text, LENGTH) : `From ${names}`;
  const notification = notify(title, { body: body.slice(0, LENGTH), tag: id, icon: ICON });
  if (!notification) return;
  notification.onclick = () => {
    window.focus();
    const hash = route(topic, one && !note ? id : '');
    if (location.hash === hash) window.dispatchEvent(new Event('hashchange')); // one may have scrolled away
    else location.hash = hash;
    notification.close();
  };
}

let context = null;

/** Two soft tones, made here: a sound file would weigh more than all of this page's scripts. */
function beep() {
  context ??= new AudioContext();
  const volume = context.createGain();
  volume.connect(context.destination);
  volume.gain.setValueAtTime(0.08, context.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.35);
  for (const [frequency, at] of [[660, 0], [880, 0.12]]) {
    const tone = context.createOscillator();
    tone.frequency.value = frequency;
    tone.connect(volume);
    tone.start(context.currentTime + at);
    tone.stop(context.currentTime + 0.35);
  }
}
