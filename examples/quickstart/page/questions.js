// What the task asks, and the answers. Anybody who may see the task may answer,
// from any tab; of all answers the first one counts.

import { Refusal, answer, reason, serverNow } from "./api.js";

const AGAIN_MS = 1000;
const AGAIN_MAX_MS = 10000;
const END_MS = 3000; // the clocks agree to within this

const time = (at) => new Date(at).toLocaleTimeString();

const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

// payloadOf reads the text field: a JSON object is sent as it is, other text as
// a note.
function payloadOf(text) {
  if (text.trim() === "") return {};
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // It is a note.
  }
  return { note: text };
}

// Questions shows the suspensions of one task in box.
export class Questions {
  #box;
  #cards = new Map(); // by suspendId
  #over = false;
  #subject;
  #taskId;

  constructor(box, subject, taskId) {
    this.#box = box;
    this.#subject = subject;
    this.#taskId = taskId;
    box.replaceChildren();
    box.hidden = true;
  }

  get waiting() {
    return [...this.#cards.values()].some((card) => card.open);
  }

  // ask shows a suspension. The stream and the snapshot may both tell of it.
  ask(suspension) {
    if (this.#over || this.#cards.has(suspension.suspendId)) return;
    const card = new Card(suspension, this.#subject, this.#taskId);
    this.#cards.set(suspension.suspendId, card);
    this.#box.append(card.element);
    this.#box.hidden = false;
  }

  // sync takes the snapshot's list of what is open, where events are missing.
  sync(suspensions) {
    for (const suspension of suspensions) this.ask(suspension);
    const open = new Set(suspensions.map((s) => s.suspendId));
    for (const [id, card] of this.#cards) {
      if (!open.has(id)) card.close("Answered, or expired; the event that tells is gone.");
    }
  }

  accepted({ suspendId, clientActionId, actionType, acceptedAt, message }) {
    this.#cards.get(suspendId)?.accepted(clientActionId, actionType, acceptedAt, message);
  }

  // end says that the task is over, and with it what it asked.
  end(type, payload) {
    this.#over = true;
    const expired = type === "TASK_FAILED" && payload.code === "SUSPENSION_EXPIRED";
    for (const card of this.#cards.values()) {
      card.close(expired && card.dueWithin(END_MS) ? "Expired: nobody answered in time." : "The task ended before anybody answered.");
    }
  }

  // leave forgets the task: what is being sent is not sent again.
  leave() {
    this.#over = true;
    for (const card of this.#cards.values()) card.leave();
  }
}

class Card {
  open = true;

  #suspension;
  #subject;
  #taskId;
  #sent = new Set(); // the ids of this tab's answers
  #sending = null; // the answer under way
  #again = null; // ends the pause before it is sent again
  #timer = null;
  #buttons;
  #field;
  #state;

  constructor(suspension, subject, taskId) {
    this.#suspension = suspension;
    this.#subject = subject;
    this.#taskId = taskId;
    const { suspendId, interaction, reasonCode, allowedActions } = suspension;
    this.element = document.getElementById("question-template").content.firstElementChild.cloneNode(true);
    const part = (name) => this.element.querySelector(`[data-part=${name}]`);
    this.element.dataset.suspendId = suspendId;
    part("text").textContent = interaction?.question ?? reasonCode;
    part("text").id = `question-${suspendId}`;
    this.element.setAttribute("aria-labelledby", part("text").id);
    this.#field = part("payload");
    this.#state = part("state");
    this.#buttons = allowedActions.map((action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.action = action;
      button.textContent = action;
      button.addEventListener("click", () => this.#answer(action));
      return button;
    });
    part("actions").append(...this.#buttons);
    this.#show("open", this.#expiryText());
    this.#watch();
  }

  // dueWithin says that the suspension expires by then, or has.
  dueWithin(ms) {
    const { expiresAt } = this.#suspension;
    return expiresAt !== undefined && serverNow() + ms >= Date.parse(expiresAt);
  }

  accepted(clientActionId, actionType, acceptedAt, message) {
    const who = this.#sent.has(clientActionId) ? "you, in this tab" : "another tab or client";
    this.#end("answered", `Answered with “${actionType}” by ${who} at ${time(acceptedAt)}.${message ? ` ${message}` : ""}`);
  }

  close(text) {
    if (this.open) this.#end("closed", text);
  }

  leave() {
    this.open = false;
    clearTimeout(this.#timer);
    this.#again?.();
  }

  #expiryText() {
    const { expiresAt } = this.#suspension;
    return expiresAt === undefined ? "It never expires; answer it, or cancel the task." : `It expires at ${time(expiresAt)}.`;
  }

  // watch disables the buttons when the time is over. The server decides: it
  // will say so by the end of the task, or by a default answer.
  #watch() {
    const { expiresAt } = this.#suspension;
    if (expiresAt === undefined) return;
    const left = Date.parse(expiresAt) - serverNow();
    if (left > 0) this.#timer = setTimeout(() => this.#watch(), Math.min(left, 60000));
    else if (this.#sending === null) this.#show("expired", "Expired: nobody answered in time.");
  }

  #show(state, text) {
    this.element.dataset.state = state;
    this.#state.textContent = text;
    const able = state === "open" || state === "refused";
    const focused = this.element.contains(document.activeElement);
    for (const control of [...this.#buttons, this.#field]) control.disabled = !able;
    // A disabled button loses the focus; whoever works with the keyboard stays
    // here, and hears what became of it.
    if (focused && !able) this.#state.focus();
  }

  #end(state, text) {
    this.leave();
    this.#show(state, text);
  }

  // answer sends one answer, and again under the same id while there is no
  // connection: the server counts it once.
  async #answer(actionType) {
    if (!this.open || this.#sending !== null) return;
    const clientActionId = randomId();
    this.#sent.add(clientActionId);
    this.#sending = { clientActionId, suspendId: this.#suspension.suspendId, actionType, payload: payloadOf(this.#field.value) };
    this.#show("sending", `Sending “${actionType}”…`);
    try {
      const status = await this.#send();
      if (!this.open) return; // the stream was faster
      if (status === "REJECTED_ALREADY_RESOLVED") this.#end("rejected", "Not taken: somebody else has answered, or the task is over.");
      else if (status === "REJECTED_EXPIRED") this.#end("rejected", "Not taken: it has expired.");
      else if (status !== null) this.#show("accepted", `“${actionType}” was accepted.`);
    } catch (error) {
      if (this.open) this.#show("refused", `Not taken: ${error.message}`);
    } finally {
      this.#sending = null;
    }
    if (this.open && this.element.dataset.state === "refused") this.#watch();
  }

  // send returns what became of the answer; null if nobody waits for that any
  // more.
  async #send() {
    for (let pause = AGAIN_MS; this.open; pause = Math.min(2 * pause, AGAIN_MAX_MS)) {
      try {
        return (await answer(this.#subject, this.#taskId, this.#sending)).status;
      } catch (error) {
        if (error instanceof Refusal && !error.passing) throw error;
        if (!this.open) break;
        this.#show("sending", `Not sent yet: ${reason(error)}. It is tried again.`);
        await this.#pause(error.retryAfterMs ?? pause);
      }
    }
    return null;
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        removeEventListener("online", done);
        this.#again = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      addEventListener("online", done);
      this.#again = done;
    });
  }
}
