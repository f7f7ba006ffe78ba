/**
 * Markdown as people and agents write it in a chat, as DOM nodes: CommonMark's and
 * GitHub's notation, except where a chat differs. A line break is one, a quote and
 * a list end with the first line that is not marked or indented, and indented text
 * is not code. What is no markup is shown as it was written. Line breaks and spaces
 * stay characters, so the nodes want `white-space: pre-wrap`.
 */

import { copyText, h } from './dom.js';
import { fill, inline } from './inline.js';

const MAX_DEPTH = 8; // of quotes and lists in each other; what is deeper is text
const COPIED_FOR = 2_000; // ms a button tells what it did
const TEXT_BLOCKS = 'p, li, h3, h4, h5, h6, pre, th, td';

/**
 * @typedef {Object} Context
 * @property {number} depth how many quotes and lists are around
 * @property {import('./inline.js').Mention} [mention]
 *
 * @typedef {{node: HTMLElement, end: number}} Block a node and the line after it
 */

/**
 * @param {string} text
 * @param {Object} [options]
 * @param {import('./inline.js').Mention} [options.mention]
 * @returns {DocumentFragment}
 */
export function markdown(text, { mention } = {}) {
  return fill(document.createDocumentFragment(), readBlocks(text.split(/\r\n?|\n/), { depth: 0, mention }));
}

/**
 * @param {string} text Markdown
 * @param {number} limit the most characters, with the ellipsis
 * @returns {string} how the text begins, on one line and without markup
 */
export function plain(text, limit) {
  const written = text.trimStart();
  const start = written.slice(0, 4 * limit + 1_000); // addresses and marks take room, too
  const fragment = markdown(start);
  for (const caption of fragment.querySelectorAll('figcaption')) caption.remove();
  for (const block of fragment.querySelectorAll(TEXT_BLOCKS)) block.prepend(' ');
  const chars = [...fragment.textContent.replace(/\s+/g, ' ').trim()];
  if (chars.length <= limit && start === written) return chars.join('');
  return `${chars.slice(0, limit - 1).join('').trimEnd()}…`;
}

/**
 * @param {string[]} lines
 * @param {Context} context
 * @returns {HTMLElement[]}
 */
function readBlocks(lines, context) {
  const nodes = [];
  let from = 0; // where the paragraph begins that is being read
  let at = 0;
  const endParagraph = () => {
    if (from < at) nodes.push(paragraph(lines.slice(from, at), context));
  };
  while (at < lines.length) {
    const block = isBlank(lines[at]) ? { end: at + 1 } : blockAt(lines, at, context, from < at);
    if (!block) at++;
    else {
      endParagraph();
      if (block.node) nodes.push(block.node);
      from = at = block.end;
    }
  }
  endParagraph();
  return nodes;
}

/** @returns {Block|null} what begins at a line, if that is no paragraph */
function blockAt(lines, at, context, inParagraph) {
  for (const read of [readFence, readHeading, readRule, readQuote, readList, readTable]) {
    const block = read(lines, at, context, inParagraph);
    if (block) return block;
  }
  return null;
}

const paragraph = (lines, context) => fill(h('p'), inline(lines.join('\n'), context));

const isBlank = (line) => !line.trim();

function readHeading(lines, at, context) {
  const match = /^ {0,3}(#{1,6})[ \t]+(\S.*)$/s.exec(lines[at]);
  const text = match?.[2].trimEnd().replace(/(?:^|[ \t])#+$/, '').trimEnd();
  if (!text) return null;
  // The page has h1 and h2: a message must not seem to be a part of the page, but
  // who goes from heading to heading should get to its sections.
  const level = Math.min(match[1].length + 2, 6);
  return { node: fill(h(`h${level}`), inline(text, context)), end: at + 1 };
}

const readRule = (lines, at) => isRule(lines[at]) ? { node: h('hr'), end: at + 1 } : null;

const isRule = (line) => /^ {0,3}[-*_]/.test(line) && /^(?:-{3,}|\*{3,}|_{3,})$/.test(line.replace(/[ \t]/g, ''));

function readQuote(lines, at, context) {
  const mark = /^ {0,3}> ?/;
  let end = at;
  if (context.depth < MAX_DEPTH) while (end < lines.length && mark.test(lines[end])) end++;
  if (end === at) return null;
  const inner = readBlocks(lines.slice(at, end).map((line) => line.replace(mark, '')), deeper(context));
  return { node: inner.length ? fill(h('blockquote'), inner) : paragraph(lines.slice(at, end), context), end };
}

const deeper = (context) => ({ ...context, depth: context.depth + 1 });

// Code

function readFence(lines, at) {
  const [, indent, fence, info] = /^([ \t]*)(`{3,}|~{3,})(.*)$/s.exec(lines[at]) ?? [];
  if (!fence || (fence[0] === '`' && info.includes('`'))) return null;
  const column = width(indent);
  let end = at + 1;
  while (end < lines.length && !closesFence(lines[end], fence, column)) end++;
  const code = lines.slice(at + 1, end).map((line) => dedent(line, column)).join('\n');
  return { node: codeBlock(code, info.trim()), end: end + 1 };
}

function closesFence(line, fence, column) {
  const text = line.trim();
  return text.startsWith(fence) && !text.replaceAll(fence[0], '') && indentOf(line) < column + 4;
}

function codeBlock(text, info) {
  const code = h('code', {}, text);
  const [language] = info.split(/\s/, 1);
  return h('figure', { className: 'code' },
    h('figcaption', {},
      h('span', { className: 'language', ...(info === language ? {} : { title: info }) }, language),
      copyButton(code)),
    h('pre', { tabIndex: 0 }, code));
}

function copyButton(code) {
  let timer;
  const button = h('button', { type: 'button', className: 'copy', 'aria-live': 'polite' }, 'Copy');
  button.onclick = async () => {
    const copied = await copyText(code.textContent);
    if (!copied) getSelection().selectAllChildren(code);
    button.textContent = copied ? 'Copied' : 'Press Ctrl+C';
    clearTimeout(timer);
    timer = setTimeout(() => button.replaceChildren('Copy'), COPIED_FOR);
  };
  return button;
}

// Lists

/**
 * @typedef {Object} Item
 * @property {number} indent the column of its marker
 * @property {number} offset that of its text
 * @property {string} kind the character that makes the marker: - * + . or )
 * @property {number} [number]
 * @property {string[]} lines
 */

function readList(lines, at, context, inParagraph) {
  const first = itemAt(lines, at);
  if (!first || isBlank(first.lines[0]) || context.depth === MAX_DEPTH) return null;
  // A line that happens to begin with a number does not make a list of a paragraph.
  if (inParagraph && first.number > 1) return null;
  const items = [];
  let [start, end] = [at, at];
  for (let item = first; item?.kind === first.kind; item = itemAt(lines, start)) {
    end = itemEnd(lines, start + 1, item.indent + 2);
    const rest = lines.slice(start + 1, end).map((line) => dedent(line, item.offset));
    items.push({ ...item, lines: [...item.lines, ...rest] });
    start = skipBlank(lines, end);
  }
  return { node: listNode(items, context), end };
}

/** @returns {Item|null} */
function itemAt(lines, at) {
  const line = lines[at] ?? '';
  const match = /^([ \t]*)(?:(\d{1,9})[.)]|[-*+])(?=[ \t]|$)/.exec(line);
  if (!match || isRule(line)) return null;
  const [marker, indent, digits] = match;
  const text = line.slice(marker.length).trimStart();
  const column = width(marker);
  const gap = width(line.slice(0, line.length - text.length)) - column;
  return {
    indent: width(indent),
    offset: column + (gap > 4 ? 1 : gap),
    kind: marker.at(-1),
    number: digits && Number(digits),
    lines: [text],
  };
}

/** The line after the last one of an item: those are indented, or blank in between. */
function itemEnd(lines, from, column) {
  let end = from;
  for (let at = from; at < lines.length; at++) {
    if (isBlank(lines[at])) continue;
    if (indentOf(lines[at]) < column) break;
    end = at + 1;
  }
  return end;
}

function skipBlank(lines, at) {
  while (at < lines.length && isBlank(lines[at])) at++;
  return at;
}

function listNode(items, context) {
  const [{ number }] = items;
  if (number === undefined) return fill(h('ul'), items.map((item) => itemNode(item, context)));
  const list = h('ol', number === 1 ? {} : { start: number });
  let next = number;
  for (const [index, item] of items.entries()) {
    const node = itemNode(item, context);
    // Answers 2, 5 and 9 keep their numbers; repeating one is how some let it count.
    if (item.number !== next && item.number !== items[index - 1]?.number) node.value = next = item.number;
    next++;
    list.append(node);
  }
  return list;
}

function itemNode({ lines: [first, ...rest] }, context) {
  const task = /^\[([ xX])\][ \t]+(?=\S)/.exec(first);
  const nodes = readBlocks([first.slice(task?.[0].length ?? 0), ...rest], deeper(context));
  const lead = nodes[0]?.tagName === 'P' ? [...nodes.shift().childNodes] : []; // as in lists without blank lines
  const node = fill(h('li'), [...lead, ...nodes]);
  if (task) {
    const done = task[1] !== ' ';
    node.className = 'task';
    node.prepend(h('input', { type: 'checkbox', disabled: true, checked: done, 'aria-label': done ? 'Done' : 'To do' }), ' ');
  }
  return node;
}

// Tables

function readTable(lines, at, context) {
  const below = lines[at + 1] ?? '';
  if (!lines[at].includes('|') || !below.includes('|') || !/^[ \t|:-]+$/.test(below)) return null;
  const header = cellsOf(lines[at]);
  const marks = cellsOf(below);
  if (header.length !== marks.length || !marks.every((mark) => /^:?-+:?$/.test(mark))) return null;
  let end = at + 2;
  while (lines[end]?.includes('|')) end++;
  const row = (tag, cells) => fill(h('tr'), cells.map((cell, column) =>
    fill(h(tag, alignment(marks[column])), inline(cell, context))));
  const table = h('table', {},
    h('thead', {}, row('th', header)),
    fill(h('tbody'), lines.slice(at + 2, end).map((line) => row('td', cellsOf(line)))));
  return { node: h('div', { className: 'table', tabIndex: 0, role: 'region', 'aria-label': 'Table' }, table), end };
}

function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

/** A class, as the page's policy does not let a style attribute in. */
function alignment(mark = '') {
  if (!mark.endsWith(':')) return mark.startsWith(':') ? { className: 'left' } : {};
  return { className: mark.startsWith(':') ? 'center' : 'right' };
}

// Columns, in which a tab goes to the next multiple of four

function width(text) {
  let column = 0;
  for (const char of text) column += char === '\t' ? 4 - column % 4 : 1;
  return column;
}

const indentOf = (line) => width(/^[ \t]*/.exec(line)[0]);

/** Takes up to a number of columns of white space from the start of a line. */
function dedent(line, columns) {
  let at = 0;
  for (let column = 0; column < columns && (line[at] === ' ' || line[at] === '\t'); at++) {
    column += line[at] === '\t' ? 4 - column % 4 : 1;
  }
  return line.slice(at);
}
