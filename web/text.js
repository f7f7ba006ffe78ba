/**
 * How times, names, keys and avatars are shown. Words are English, as all of the
 * page; clock and calendar are those of the reader.
 */

import { h } from './dom.js';

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat('en', { weekday: 'long' });
const DATE = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

const UNITS = [['day', 86_400_000], ['hour', 3600_000], ['minute', 60_000]];

/** @param {number} at Unix ms @returns {string} such as "14:05" */
export const clock = (at) => CLOCK.format(at);

/** @param {number} at Unix ms @returns {string} date and time, short */
export const moment = (at) => SHORT.format(at);

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
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {number} at Unix ms @returns {string} how long ago, such as "3 hours ago" or "now" */
export function ago(at) {
  const [unit, ms] = UNITS.find(([, size]) => Date.now() - at >= size) ?? ['second', Infinity];
  return RELATIVE.format(-Math.floor((Date.now() - at) / ms) || 0, unit);
}

/** @param {number} at Unix ms @returns {string} how long since then, such as "3 h"; '' under a minute */
export function since(at) {
  const [unit, ms] = UNITS.find(([, size]) => Date.now() - at >= size) ?? [];
  return unit ? new Intl.NumberFormat('en', { style: 'unit', unit, unitDisplay: 'short' }).format(Math.floor((Date.now() - at) / ms)) : '';
}

/** @param {string} key 64 hex @returns {string} enough of it to compare by eye */
export const fingerprint = (key) => key.slice(0, 16).replace(/(.{4})(?=.)/g, '$1 ');

/** @param {number} count @param {string} one @returns {string} such as "1 message", "3 messages" */
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`;

/** @param {number} count @returns {string} as it fits a badge */
export const badgeCount = (count) => (count > 99 ? '99+' : String(count));

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

/** Text in which what stands between backticks is something to type. */
export function withCode(text) {
  return text.split('`').map((part, index) => (index % 2 ? h('code', {}, part) : part));
}
