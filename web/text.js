/** How times, names, keys and message texts are shown. */

import { h } from './dom.js';

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const DATE = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

/** @param {number} at Unix ms @returns {string} such as "14:05" */
export const clock = (at) => CLOCK.format(at);

/** @param {number} at Unix ms @returns {string} date and time, for tooltips */
export const fullTime = (at) => FULL.format(at);

/** @param {number} at Unix ms @returns {string} the same for all times of one local day */
export const dayKey = (at) => new Date(at).toDateString();

/** @param {number} at Unix ms @returns {string} today, yesterday, a weekday of the last week, else the date */
export function dayLabel(at) {
  const days = Math.round((midnight(Date.now()) - midnight(at)) / 86_400_000);
  if (days === 0 || days === 1) return capital(RELATIVE.format(-days, 'day'));
  return days > 1 && days < 7 ? WEEKDAY.format(at) : DATE.format(at);
}

const midnight = (at) => new Date(at).setHours(0, 0, 0, 0);
const capital = (text) => text.charAt(0).toLocaleUpperCase() + text.slice(1);

/** One or two letters for an avatar. */
function monogram(name) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return words.slice(0, 2).map((word) => [...word][0]).join('').toLocaleUpperCase() || [...name][0] || '?';
}

/**
 * Builds a person's or agent's avatar; agents are square, people round. The colour
 * belongs to the key and not to the name: whoever takes another one's name does
 * not get the colour with it.
 * @param {{key: string, name: string, type?: string}} who key is a hex public key
 * @returns {HTMLElement}
 */
export function avatar({ key, name, type }) {
  const element = h('span', { className: 'avatar', ariaHidden: 'true', dataset: { type: type ?? '' } }, monogram(name));
  const colour = hash(key) % 24; // twelve hues in two tones: more would be hard to tell apart
  element.style.setProperty('--hue', (colour % 12) * 30 + 20);
  element.classList.toggle('deep', colour >= 12);
  return element;
}

function hash(text) {
  let sum = 2166136261; // FNV-1a
  for (const char of text) sum = Math.imul(sum ^ char.codePointAt(0), 16777619);
  return sum >>> 0;
}

/** What stands on the badge of a peer type (protocol section 2). */
export const TYPE_LABEL = { ai: 'agent', connector: 'connector' };

/**
 * Turns http and https addresses in a text into links and leaves the rest as text.
 * @param {string} text
 * @returns {(Node|string)[]}
 */
export function linkify(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"`]+/gi)) {
    const address = trimLink(match[0]);
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(end, match.index), link(address));
    end = match.index + address.length;
  }
  parts.push(text.slice(end));
  return parts.filter((part) => part !== '');
}

function link(address) {
  return h('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address);
}

/** Leaves out punctuation that ends the sentence and not the address; one pass, whatever is sent. */
function trimLink(address) {
  let surplus = address.split(')').length - address.split('(').length;
  let end = address.length;
  for (; end > 0; end--) {
    const last = address[end - 1];
    if (last === ')' && surplus-- <= 0) break;
    if (!`.,;:!?'*_)]}`.includes(last)) break;
  }
  return address.slice(0, end);
}
