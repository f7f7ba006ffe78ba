/** Dialogs over the room: the browser's own, which keep the focus inside and close with Esc. */

import { h, ICONS, iconButton } from './dom.js';

let serial = 0;

/**
 * Opens a dialog. It closes with Esc, its cross or a click beside it, and is gone then.
 * @param {{title: string, className?: string}} about
 * @param {...(Node|string)} content
 * @returns {HTMLDialogElement}
 */
export function openDialog({ title, className = '' }, ...content) {
  const id = `dialog-${++serial}`;
  const dialog = h('dialog', { className, 'aria-labelledby': id },
    h('div', { className: 'dialog-head' },
      h('h2', { id, dir: 'auto', tabIndex: -1 }, title),
      iconButton('Close', ICONS.close, () => dialog.close())),
    h('div', { className: 'dialog-body' }, ...content));
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('pointerdown', (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before something that is hard to undo.
 * @param {string} title
 * @param {string} sentence what will happen
 * @param {string} action what the button says
 * @returns {Promise<boolean>}
 */
export function confirm(title, sentence, action) {
  return new Promise((resolve) => {
    let agreed = false;
    const dialog = openDialog({ title, className: 'confirm' },
      h('p', { dir: 'auto' }, sentence),
      h('div', { className: 'buttons' },
        h('button', { type: 'button', className: 'plain', onclick: () => dialog.close() }, 'Cancel'),
        h('button', { type: 'button', className: 'danger', onclick: () => { agreed = true; dialog.close(); } }, action)));
    dialog.addEventListener('close', () => resolve(agreed));
  });
}

/**
 * A form whose submit may fail; why is shown below it.
 * @param {string} action what the button says
 * @param {(data: FormData) => Promise<void>} submit what it throws has a sentence for a message
 * @param {...Node} fields
 * @returns {HTMLFormElement}
 */
export function dialogForm(action, submit, ...fields) {
  const error = h('p', { className: 'error', role: 'alert', hidden: true });
  const button = h('button', { className: 'primary' }, action);
  return h('form', {
    noValidate: true,
    onsubmit: async (event) => {
      event.preventDefault();
      if (button.disabled) return;
      button.disabled = true;
      error.hidden = true;
      await submit(new FormData(event.target)).catch((problem) => {
        error.textContent = problem.message;
        error.hidden = false;
      });
      button.disabled = false;
    },
  }, ...fields, error, h('div', { className: 'buttons' }, button));
}

/** A label with its field. */
export function field(label, input, hint = '') {
  return h('label', { className: 'labelled' }, h('span', {}, label), input, hint ? h('small', {}, hint) : '');
}

/** A choice of one. @param {string} name @param {[string, string][]} options value and text */
export function choice(name, options, value = options[0][0]) {
  return h('select', { name }, ...options.map(([option, text]) => h('option', { value: option, selected: option === value }, text)));
}
