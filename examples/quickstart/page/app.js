// The page: forms on the left, one task on the right.

import { cancel, create, reason, snapshot } from "./api.js";
import { Follower } from "./follower.js";
import { Questions } from "./questions.js";
import { TaskLog, isTerminal } from "./tasklog.js";

const LOG_ROWS = 5000; // rows kept in the page
const TEXT_CHARACTERS = 200000;
const ROW_CHARACTERS = 200;
const RENDER_MS = 30;

const $ = (id) => document.getElementById(id);

let task = null; // what the right side shows

// ---- the forms ----

const inputs = () => document.querySelectorAll("#new fieldset[data-type]");

function showInputs() {
  for (const fieldset of inputs()) {
    fieldset.hidden = fieldset.dataset.type !== $("type").value;
    fieldset.disabled = fieldset.hidden; // hidden fields are not validated
  }
}

function readInput() {
  const fields = document.querySelectorAll(`#new fieldset[data-type="${$("type").value}"] input`);
  const input = {};
  for (const field of fields) {
    if (field.type === "checkbox") input[field.name] = field.checked;
    else if (field.value === "") continue;
    else input[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  return input;
}

function show(element, text) {
  element.hidden = !text;
  element.textContent = text ?? "";
}

const chosenTransport = () => document.querySelector("#new input[name=transport]:checked").value;

$("type").addEventListener("change", showInputs);
showInputs();
$("start").disabled = false; // until here a form would be sent to nowhere

$("new").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const subject = $("subject").value;
  const type = $("type").value;
  const input = readInput();
  $("start").disabled = true;
  show($("form-error"), null);
  try {
    const trying = (error) => show($("form-error"), `Not started yet: ${reason(error)}. It is tried again.`);
    const { taskId, status } = await create(subject, type, input, [...$("files").files], trying);
    show($("form-error"), null);
    follow({ taskId, status, subject, heading: type, count: type === "tokens" ? input.count : null });
    bringIntoView();
  } catch (error) {
    show($("form-error"), `Not started: ${reason(error)}`);
  } finally {
    $("start").disabled = false;
  }
});

$("follow").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const subject = $("subject").value;
  show($("follow-error"), null);
  try {
    await followExisting(subject, $("follow-id").value, null);
    bringIntoView();
  } catch (error) {
    show($("follow-error"), `Not followed: ${reason(error)}`);
  }
});

async function followExisting(subject, id, count) {
  const { taskId, taskType, status, suspensions } = await snapshot(subject, id);
  follow({ taskId, status, subject, heading: taskType, count });
  suspensions.forEach((suspension) => task.questions.ask(suspension));
}

// bringIntoView shows what was asked for where the task stands below the form.
function bringIntoView() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const { top } = $("task").getBoundingClientRect();
  if (top > innerHeight / 2) $("task").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}

// ---- the address: a reload, or a second tab, shows the same task ----

// count is how many messages there will be, as far as the form told.
function place({ subject, taskId, count }, transport) {
  const at = new URLSearchParams({ task: taskId, subject, transport });
  if (count) at.set("count", count);
  return `#${at}`;
}

async function followAddress() {
  const at = new URLSearchParams(location.hash.slice(1));
  const [id, subject, transport] = [at.get("task"), at.get("subject"), at.get("transport")];
  if (!id || !subject || (task?.taskId === id && task.subject === subject)) return;
  $("subject").value = subject;
  $("follow-id").value = id;
  const radio = [...document.querySelectorAll("#new input[name=transport]")].find((input) => input.value === transport);
  if (radio) radio.checked = true;
  try {
    await followExisting(subject, id, Number(at.get("count")) || null);
  } catch (error) {
    $("existing").open = true;
    show($("follow-error"), `Not followed: ${reason(error)}`);
  }
}

addEventListener("hashchange", followAddress);

// ---- one task ----

function follow({ taskId, status, subject, heading, count }) {
  task?.follower.cut();
  task?.questions.leave();
  clearTimeout(task?.rendering);

  const log = new TaskLog();
  const mine = { taskId, subject, log, count, messages: 0, reconnects: 0, rows: [], dropped: 0, text: "", rendering: null };
  mine.questions = new Questions($("questions"), subject, taskId);
  // Nothing of a task that is no longer shown may reach the page.
  const shown = (handler) => (...args) => task === mine && handler(...args);
  mine.follower = new Follower({
    taskId,
    subject,
    transport: chosenTransport(),
    cursor: () => log.lastEventId,
    view: {
      event: shown((event) => log.add(event) && showEvent(event)),
      gap: shown((gap) => {
        log.gap(gap);
        note("gap", `${gap.reason}: events after ${gap.afterEventId ?? "the beginning"} are gone, it goes on ${gap.firstEventId ? `with ${gap.firstEventId}` : "with what comes"}`);
        askAnew(mine);
      }),
      closing: shown((notice) => note("closing", `${notice.reason}: come back in ${notice.retryAfterMs ?? "?"} ms`)),
      reconnected: shown(() => {
        mine.reconnects++;
        renderSoon();
      }),
      state: shown(showConnection),
    },
  });
  task = mine;

  $("task-heading").textContent = heading;
  $("task-id").textContent = taskId;
  $("text").textContent = "";
  $("log").replaceChildren();
  $("progress").value = 0;
  $("stage").textContent = "\u00a0";
  for (const id of ["warning", "outcome", "log-dropped"]) show($(id), null);
  history.replaceState(null, "", place(mine, chosenTransport()));
  showStatus(status);
  render();
  mine.follower.connect();
}

// askAnew reads what is open from the snapshot: the event that asked may be gone.
async function askAnew(mine) {
  try {
    const { suspensions } = await snapshot(mine.subject, mine.taskId);
    if (task === mine) mine.questions.sync(suspensions);
  } catch {
    // The stream goes on without it.
  }
}

const CONNECTION_TEXT = { connecting: "connecting", live: "live", retrying: "connection lost", cut: "cut", ended: "ended", refused: "refused" };

function showConnection(state, detail) {
  render(); // whatever came before is on the page when it says "cut"
  const chip = $("connection");
  chip.dataset.state = state;
  chip.textContent = CONNECTION_TEXT[state] + (detail && state === "retrying" ? `: ${detail}` : "");
  if (state === "refused") show($("warning"), `The server refused: ${detail}`);
  const done = task.log.over || state === "ended" || state === "refused";
  $("cut").disabled = done || state === "cut";
  $("reconnect").disabled = task.log.over || state === "live" || state === "connecting";
  $("cancel").disabled = task.log.over;
}

function showStatus(status) {
  const chip = $("status");
  chip.hidden = false;
  chip.dataset.status = status;
  chip.textContent = status;
}

const STATUS_AFTER = {
  TASK_STARTED: "RUNNING",
  TASK_SUSPENDED: "WAITING",
  TASK_ACTION_ACCEPTED: "RUNNING",
  TASK_COMPLETED: "COMPLETED",
  TASK_FAILED: "FAILED",
  TASK_CANCELLED: "CANCELLED",
};

function showEvent({ type, eventId, payload }) {
  if (isTerminal({ type })) $("outcome").dataset.status = STATUS_AFTER[type];
  if (STATUS_AFTER[type]) showStatus(STATUS_AFTER[type]);
  switch (type) {
    case "TASK_STARTED":
      if (payload.restarts) beginAgain(payload);
      break;
    case "TASK_PROGRESS":
      $("progress").value = payload.progress;
      $("stage").textContent = `${payload.progress} % ${payload.stage ?? payload.message ?? ""}`;
      break;
    case "TASK_MESSAGE":
      task.messages++;
      task.text += payload.message;
      if (task.count) {
        $("progress").value = (100 * task.messages) / task.count;
        $("stage").textContent = `${task.messages} of ${task.count}`;
      } else {
        $("stage").textContent = `message ${task.messages}`;
      }
      break;
    case "TASK_SUSPENDED":
      task.questions.ask(payload);
      break;
    case "TASK_ACTION_ACCEPTED":
      task.questions.accepted(payload);
      if (task.questions.waiting) showStatus("WAITING");
      break;
    case "TASK_COMPLETED":
      $("progress").value = 100;
      if (task.messages === 0) $("stage").textContent = "100 %";
      show($("outcome"), `Result: ${JSON.stringify(payload.result)}`);
      break;
    case "TASK_FAILED":
      show($("outcome"), `Failed with ${payload.code}: ${payload.message}${payload.retryable ? " (worth trying again)" : ""}`);
      break;
    case "TASK_CANCELLED":
      show($("outcome"), `Cancelled: ${payload.message ?? payload.reason}`);
      break;
  }
  if (isTerminal({ type })) task.questions.end(type, payload);
  task.rows.push({ type, eventId, text: describe(type, payload) });
  renderSoon();
}

// beginAgain tells that the task is run again, by another process. What came after
// the checkpoint is void and comes again; the page shows it as it came, and says so.
function beginAgain({ restarts, resumesAfter }) {
  const from = resumesAfter ? `from its checkpoint at ${resumesAfter}` : "from the beginning";
  $("stage").textContent = `begun again ${from}`;
  if (!task.count) $("progress").value = 0;
  if (task.messages > 0) task.text += `\n[restart ${restarts}: it goes on ${from}; what came after that is void]\n`;
}

function describe(type, payload) {
  const text = (type === "TASK_MESSAGE" ? payload.message : JSON.stringify(payload)).replaceAll("\n", "⏎");
  return text.length > ROW_CHARACTERS ? `${text.slice(0, ROW_CHARACTERS)}… (${text.length} characters)` : text;
}

// note puts something in the log that is not an event.
function note(kind, text) {
  task.rows.push({ type: kind, eventId: "", text, kind: "note" });
  renderSoon();
}

$("cut").addEventListener("click", () => task.follower.cut());
$("reconnect").addEventListener("click", () => task.follower.connect());
$("cancel").addEventListener("click", async () => {
  const mine = task;
  $("cancel").disabled = true;
  try {
    await cancel(mine.subject, mine.taskId);
  } catch (error) {
    if (task !== mine) return;
    show($("warning"), `Not cancelled: ${error.message}`);
    $("cancel").disabled = mine.log.over;
  }
});

// A page that is left may be kept, frozen, for the way back: its streams stay
// open then, and hold their places on the host, while nobody looks.
addEventListener("pagehide", () => {
  if (task && ["connecting", "live", "retrying"].includes($("connection").dataset.state)) {
    task.frozen = true;
    task.follower.cut();
  }
});
addEventListener("pageshow", () => {
  if (task?.frozen) {
    task.frozen = false;
    task.follower.connect();
  }
});

// ---- rendering, batched: thousands of events a second may come ----

function renderSoon() {
  task.rendering ??= setTimeout(render, RENDER_MS);
}

function render() {
  clearTimeout(task.rendering);
  task.rendering = null;
  const { log, reconnects } = task;
  $("count-events").textContent = log.events;
  $("count-reconnects").textContent = reconnects;
  $("count-repeats").textContent = log.repeats;
  $("count-gaps").textContent = log.gaps;
  if (log.warnings.length > 0) {
    show($("warning"), `${log.warnings[0]}${log.warnings.length > 1 ? ` (and ${log.warnings.length - 1} more)` : ""}`);
  }

  if (task.text !== "") {
    appendFollowing($("text"), task.text.slice(-TEXT_CHARACTERS));
    task.text = "";
    const text = $("text");
    while (text.textContent.length > TEXT_CHARACTERS && text.childNodes.length > 1) text.firstChild.remove();
  }
  if (task.rows.length > 0) {
    task.dropped += Math.max(0, task.rows.length - LOG_ROWS);
    appendFollowing($("log"), ...task.rows.slice(-LOG_ROWS).map(row));
    task.rows = [];
    const list = $("log");
    while (list.childElementCount > LOG_ROWS) {
      list.firstElementChild.remove();
      task.dropped++;
    }
    if (task.dropped > 0) show($("log-dropped"), `All are counted; the first ${task.dropped} rows are no longer shown.`);
  }
}

function row({ type, eventId, text, kind }) {
  const item = document.createElement("li");
  if (kind) item.dataset.kind = kind;
  else item.dataset.eventId = eventId;
  for (const [name, value] of [["type", type], ["id", eventId], ["what", text]]) {
    const cell = document.createElement("span");
    cell.className = name;
    cell.textContent = value;
    item.append(cell);
  }
  return item;
}

// appendFollowing scrolls along, unless the reader has scrolled up.
function appendFollowing(box, ...nodes) {
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(...nodes);
  if (atEnd) box.scrollTop = box.scrollHeight;
}

followAddress();
