/* SPDX-License-Identifier: MIT */
/* playground.js - the page's only script: sends the form to POST /classify and draws the scores as bars. */
'use strict';

const byId = (id) => document.getElementById(id);
const MAX_BARS = 20;
let picture = null;
let pictureUrl = '';

function headers() {
  const key = byId('key').value.trim();
  return key ? { Authorization: 'Bearer ' + key } : {};
}

function say(text, isError) {
  byId('message').textContent = text;
  byId('message').classList.toggle('error', Boolean(isError));
}

function setPicture(file) {
  if (!file) return;
  picture = file;
  if (pictureUrl) URL.revokeObjectURL(pictureUrl);
  pictureUrl = URL.createObjectURL(file);
  byId('preview').src = pictureUrl;
  byId('preview').hidden = false;
  byId('hint').textContent = file.name || 'pasted picture';
}

/* textContent throughout: a label is text, whatever it looks like */
function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function draw(answer) {
  const items = answer.results.map((result) => {
    const item = element('li');
    const bar = element('div', 'bar');
    const fill = element('span');
    fill.style.width = (100 * result.score).toFixed(2) + '%';
    bar.append(fill);
    item.append(element('span', 'label', result.label),
      element('span', 'score', (100 * result.score).toFixed(1) + ' %'), bar);
    item.title = 'similarity ' + result.similarity.toFixed(4);
    return item;
  });
  byId('results').replaceChildren(...items);
  say(answer.model + ': ' + answer.labels.count + ' labels, ' + answer.labels.cached + ' of them known, in ' +
    answer.timing_ms.total.toFixed(1) + ' ms');
}

/* What went wrong, from a problem document or from whatever a proxy answered. */
async function reason(response) {
  const text = await response.text();
  try {
    const problem = JSON.parse(text);
    return problem.detail || problem.title;
  } catch {
    return response.status + ' ' + response.statusText;
  }
}

async function classify(event) {
  event.preventDefault();
  const labels = byId('labels').value.split('\n').map((line) => line.trim()).filter(Boolean);
  if (!picture) return say('Choose a picture first.', true);
  if (labels.length === 0) return say('Write at least one label.', true);
  const form = new FormData();
  form.append('image', picture, 'image');
  form.append('labels', JSON.stringify(labels));
  form.append('top_k', String(MAX_BARS));
  if (byId('model').value) form.append('model', byId('model').value);
  const button = document.querySelector('button');
  button.disabled = true;
  say('...');
  try {
    const response = await fetch('/classify', { method: 'POST', body: form, headers: headers() });
    if (response.ok) {
      draw(await response.json());
    } else {
      byId('results').replaceChildren();
      say(await reason(response), true);
    }
  } catch (error) {
    say('The server does not answer: ' + error.message, true);
  } finally {
    button.disabled = false;
  }
}

async function listModels() {
  const response = await fetch('/models', { headers: headers() });
  if (!response.ok) return;
  const answer = await response.json();
  const options = answer.models.map((name) => {
    const option = element('option', '', name);
    option.value = name;
    option.selected = name === answer.default;
    return option;
  });
  byId('model').replaceChildren(...options);
}

byId('form').addEventListener('submit', classify);
byId('image').addEventListener('change', (event) => setPicture(event.target.files[0]));
byId('key').addEventListener('change', () => listModels().catch(() => {}));
byId('drop').addEventListener('dragover', (event) => {
  event.preventDefault();
  byId('drop').classList.add('over');
});
byId('drop').addEventListener('dragleave', () => byId('drop').classList.remove('over'));
byId('drop').addEventListener('drop', (event) => {
  event.preventDefault();
  byId('drop').classList.remove('over');
  setPicture(event.dataTransfer.files[0]);
});
document.addEventListener('paste', (event) => setPicture(event.clipboardData.files[0]));
listModels().catch(() => {});
