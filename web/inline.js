/**
 * The inner level of Markdown: what stands within one paragraph, heading or cell.
 * A text is read once, from left to right, and nothing is read again because it
 * turned out to be no markup: the time grows with the length, whatever is sent.
 */

import { h } from './dom.js';

const NAME_AFTER = 64; // characters after a name that may belong to it: some have a space in them
const MAX_OPEN = 8; // emphases that may be open at once; the oldest then is text
const SCHEMES = ['http:', 'https:', 'mailto:'];
const TAGS = { '*': ['', 'em', 'strong'], _: ['', 'em', 'strong'], '~': ['', '', 'del'] };

/** Whatever may begin something else than text. */
const TOKEN = new RegExp([
  /\\(?<escaped>[!-/:-@[-`{-~\n])/,
  /(?<ticks>`+)/,
  /(?<dunder>__\w{1,40}__(?=\(|\.\w))/, // __init__.py is no bold init
  /(?<run>\*+|_+|~+)/,
  /(?<bracket>!?\[)/,
  /<(?<angled>(?:https?|mailto):[^\s<>]*)>/,
  /(?<bare>\bhttps?:\/\/(?:(?!\]\()[^\s<>"`\p{Cc}\p{Cf}])+)/u,
  // The broker's rule for names (mentionsIn), but for what it trims.
  /(?<![\p{L}\p{N}@])@(?<name>[\p{L}\p{N}](?:[\p{L}\p{N}._-]*[\p{L}\p{N}])?)(?=(?<trimmed>[._-]*))/u,
].map(({ source }) => source).join('|'), 'giu');

/** What follows the text of a link. A space is bounded, as two in a row would take turns. */
const TARGET = /\((?:<([^<>\n]*)>|([^\s()<>]+(?:\([^\s()]*\)[^\s()]*)*))(?:[ \t]{1,9}(?:"([^"\n]*)"|'([^'\n]*)'))?[ \t]{0,9}\)/y;

const WORD = /[\p{L}\p{N}]/u;
const UNSPACED = /[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Hangul}\p{scx=Thai}]/u;

/**
 * Asked for each @name: the class that marks it (or '') and how much of what comes
 * after belongs to the name too, or null if it is nobody's.
 * @callback Mention
 * @param {string} name
 * @param {string} after
 * @returns {{className: string, more: string}|null}
 */

/**
 * @param {string} text
 * @param {{mention?: Mention, nesting?: number}} [context]
 *   nesting is 1 in the text of a link and 2 in that of an image in a link
 * @returns {(Node|string)[]}
 */
export const inline = (text, context = {}) => new Inline(text, context).read();

/**
 * Appends nodes one by one: as arguments of one call, those of a long message would
 * take up much of the stack.
 * @template {Element} E
 * @param {E} element
 * @param {Iterable<Node|string>} nodes
 * @returns {E}
 */
export function fill(element, nodes) {
  for (const node of nodes) element.append(node);
  return element;
}

class Inline {
  #text;
  #mention;
  #nesting;
  #pairs;
  #frames = [{ nodes: [] }]; // what is open: the text itself, then emphases
  #nameEnd = -1; // where the last name ended, with what the broker trims from it

  constructor(text, { mention, nesting = 0 }) {
    this.#text = text;
    this.#mention = mention;
    this.#nesting = nesting;
    this.#pairs = findPairs(text);
  }

  read() {
    let at = 0;
    for (let match; (match = matchFrom(TOKEN, this.#text, at));) {
      this.#add(this.#text.slice(at, match.index));
      at = match.index + this.#take(match);
    }
    this.#add(this.#text.slice(at));
    this.#closeAbove(0);
    return this.#frames[0].nodes;
  }

  /** Each of these returns how many characters it used up. */
  #take({ 0: token, index, groups }) {
    const { escaped, dunder, ticks, run, bracket, angled, bare, name, trimmed } = groups;
    if (ticks) return this.#code(index, ticks);
    if (run) return this.#emphasis(index, run);
    if (bracket) return this.#link(index, bracket);
    if (angled) return this.#address(angled, token);
    if (bare) return this.#address(trimLink(bare));
    if (name) return this.#name(index, name, trimmed);
    this.#add(escaped ?? dunder);
    return token.length;
  }

  #code(at, ticks) {
    const end = this.#pairs.get(at);
    if (end === undefined) return this.#add(ticks);
    const code = this.#text.slice(at + ticks.length, end).replaceAll('\n', ' ');
    // One space is only there to set off a backtick at the border.
    const padded = code.startsWith(' ') && code.endsWith(' ') && code.trim();
    this.#add(h('code', {}, padded ? code.slice(1, -1) : code));
    return end + ticks.length - at;
  }

  #link(at, bracket) {
    const start = at + bracket.length;
    const end = this.#pairs.get(start - 1);
    const allowed = this.#nesting === 0 || (this.#nesting === 1 && bracket === '![');
    const target = allowed && end !== undefined && targetAt(this.#text, end + 1);
    if (!target) return this.#add(bracket);
    const label = inline(this.#text.slice(start, end), { mention: this.#mention, nesting: this.#nesting + 1 });
    // An image in a link, as badges are, is its text.
    for (const node of this.#nesting ? label : [link(target.url, label, target.title)]) this.#add(node);
    return target.end - at;
  }

  #address(address, written = address) {
    const url = this.#nesting === 0 && safeUrl(address);
    this.#add(url ? link(url, [address]) : written);
    return written.length;
  }

  #name(at, name, trimmed) {
    let token = `@${name}`;
    const end = at + token.length;
    const known = at === this.#nameEnd ? null : this.#mention?.(name, this.#text.slice(end, end + NAME_AFTER));
    token += known?.more ?? '';
    this.#nameEnd = at + token.length + trimmed.length;
    this.#add(known ? h('span', { className: `mention ${known.className}`.trim() }, token) : token);
    return token.length;
  }

  /** Closes what a run of marks can close, and lets the rest of it open something. */
  #emphasis(at, run) {
    const { opens, closes } = sides(this.#text, at, run);
    const mark = run[0];
    let rest = run.length;
    for (let used = 1; closes && rest && used; rest -= used) used = this.#close(mark, rest);
    if (rest && opens) this.#open({ mark, length: rest, nodes: [] });
    else this.#add(mark.repeat(rest));
    return run.length;
  }

  #open(frame) {
    this.#frames.push(frame);
    if (this.#frames.length <= MAX_OPEN + 1) return;
    const [oldest] = this.#frames.splice(1, 1);
    for (const node of asText(oldest)) append(this.#frames[0].nodes, node);
  }

  /**
   * Closes the emphasis that a run fits: one of the same length, or of three marks,
   * which are one and two.
   * @returns {number} how many marks of the run that took
   */
  #close(mark, length) {
    const at = this.#frames.findLastIndex((frame) => frame.mark === mark
      && (frame.length === length || frame.length === 3 || length === 3));
    if (at < 0) return 0;
    this.#closeAbove(at);
    const frame = this.#frames.pop();
    const used = Math.min(frame.length, length, 2);
    const element = fill(h(TAGS[mark][used]), frame.nodes);
    if (frame.length === used) this.#add(element);
    else this.#frames.push({ mark, length: frame.length - used, nodes: [element] });
    return used;
  }

  /** What is still open above a frame was no emphasis. */
  #closeAbove(at) {
    while (this.#frames.length > at + 1) {
      for (const node of asText(this.#frames.pop())) this.#add(node);
    }
  }

  #add(node) {
    append(this.#frames.at(-1).nodes, node);
    return node.length;
  }
}

const asText = ({ mark, length, nodes }) => [mark.repeat(length), ...nodes];

/** Adds a node to a list in which no two strings are neighbours. */
function append(nodes, node) {
  if (typeof node === 'string' && typeof nodes.at(-1) === 'string') nodes.push(nodes.pop() + node);
  else if (node !== '') nodes.push(node);
}

function matchFrom(pattern, text, at) {
  pattern.lastIndex = at; // as a pattern is shared by all who are reading
  return pattern.exec(text);
}

/**
 * Finds what belongs together, before anything inside of it is read.
 * @param {string} text
 * @returns {Map<number, number>} from where a bracket or a code span opens to where it closes
 */
function findPairs(text) {
  const pairs = new Map();
  const spans = findSpans(text);
  const open = [];
  let end = 0; // of the last code span
  for (const { 0: token, index } of text.matchAll(/\\.|`+|[[\]]/gs)) {
    if (index < end) continue;
    if (token === '[') open.push(index);
    else if (token === ']' && open.length) pairs.set(open.pop(), index);
    else if (spans.has(index)) {
      pairs.set(index, spans.get(index));
      end = spans.get(index) + token.length;
    }
  }
  return pairs;
}

/** From each run of backticks to the next one of the same length. */
function findSpans(text) {
  const spans = new Map();
  const last = new Map();
  for (const { 0: { length }, index } of text.matchAll(/`+/g)) {
    if (last.has(length)) spans.set(last.get(length), index);
    last.set(length, index);
  }
  return spans;
}

/**
 * Whether a run of marks can open or close an emphasis. Unlike in CommonMark none
 * opens within a word, nor does the star of src/*.js: such are more common in a
 * chat than words emphasised in part. Scripts without spaces are excepted.
 */
function sides(text, at, run) {
  const [mark] = run;
  const before = text[at - 1] ?? ' ';
  const after = text[at + run.length] ?? ' ';
  const known = mark === '~' ? run.length === 2 : run.length <= 3;
  if (!known || (run === '*' && /\.\p{L}/uy.test(text.slice(at + 1, at + 3)))) return {};
  const joined = isWord(before) || '/\\'.includes(before) || (mark === '_' && before === '.');
  const whole = run.length > 1 && mark !== '_'; // a lone * and any _ also stand for other things
  return { opens: !joined && /\S/.test(after), closes: /\S/.test(before) && (whole || !isWord(after)) };
}

const isWord = (char) => WORD.test(char) && !UNSPACED.test(char);

function targetAt(text, at) {
  const match = matchFrom(TARGET, text, at);
  const url = match && safeUrl((match[1] ?? match[2]).replace(/\\([!-/:-@[-`{-~])/g, '$1'));
  return url ? { url, title: match[3] ?? match[4], end: at + match[0].length } : null;
}

/** @returns {URL|null} what the browser makes of an address, if that is harmless */
function safeUrl(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  return SCHEMES.includes(url?.protocol) ? url : null;
}

/** A link that says where it leads, unless its text does. */
function link({ href, hostname }, label, title) {
  // A direction of its own keeps the text around from turning the address round.
  const element = fill(h('a', { href, target: '_blank', rel: 'noopener noreferrer', dir: 'auto' }), label);
  const shown = element.textContent;
  if (!shown.trim()) element.append(href);
  else if (pretends(shown, hostname)) element.append(` (${hostname})`);
  if (title || (shown.trim() && shown !== href && `${shown}/` !== href)) element.title = title ? `${href}\n${title}` : href;
  return element;
}

/** What looks like an address to a reader: with a scheme anywhere, or a name with dots at the beginning. */
const ADDRESS = /https?:\/\/(?<named>[^\s/:?#]+)|^[^\p{L}\p{N}]*(?<bare>(?:[\p{L}\p{N}-]+\.)+(?<end>\p{L}{2,}))(?![\p{L}\p{N}.-])/iu;

/** README.md and main.go are names of files. */
const FILES = /^(?:md|txt|go|mod|sum|js|mjs|ts|tsx|jsx|py|rb|rs|c|h|cc|cpp|java|kt|swift|php|sh|sql|html?|css|json|jsonl|ya?ml|toml|lock|xml|csv|log|pdf|png|jpe?g|svg|gif|zip|gz|diff|patch|proto|conf|cfg|ini|env)$/i;

/** Whether a text looks like an address of another place than the one it leads to. */
function pretends(text, hostname) {
  if (/[\u202a-\u202e\u2066-\u2069]/u.test(text)) return true; // it may read the other way round
  const { named, bare, end } = ADDRESS.exec(text.replace(/\p{Cf}/gu, ''))?.groups ?? {};
  const host = named ?? (FILES.test(end) ? '' : bare);
  if (!host) return false;
  const real = host.includes('@') ? '' : safeUrl(`https://${host}`)?.hostname; // as the browser writes it, too
  return real?.replace(/^www\./, '') !== hostname.replace(/^www\./, '');
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
