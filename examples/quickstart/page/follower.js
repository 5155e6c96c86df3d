// Follows one task over one transport for as long as it takes: connects again
// after a cut, from the last event seen, and stops at the end.

import { Refusal, snapshot } from "./api.js";
import { isTerminal } from "./tasklog.js";
import { transports } from "./transports.js";

const SILENCE_MS = 60000; // more than two heartbeats of either transport
const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 10000;

export class Follower {
  #options;
  #drop = null; // drops the connection of now
  #attempt = 0; // numbers connections; whatever an older one says is ignored
  #failures = 0;
  #connected = false; // ever
  #retry = null;
  #watchdog = null;
  #retryAfterMs;

  // view: event(event), gap(gap), closing(notice), reconnected() and
  // state(name, detail), where name is connecting, live, retrying, cut, ended
  // or refused. cursor() returns the id of the last event seen, or null.
  constructor({ taskId, subject, transport, cursor, view }) {
    this.#options = { taskId, subject, transport, cursor, view };
  }

  connect() {
    this.#disconnect();
    const { taskId, subject, transport, cursor, view } = this.#options;
    const attempt = this.#attempt;
    // A dropped connection may still speak.
    const current = (handler) => (...args) => attempt === this.#attempt && handler(...args);
    view.state("connecting");
    this.#retryAfterMs = undefined;
    this.#watch();
    this.#drop = transports[transport]({
      taskId,
      subject,
      after: cursor(),
      on: {
        opened: current(() => {
          if (this.#connected) view.reconnected();
          this.#connected = true;
          view.state("live");
        }),
        alive: current(() => {
          this.#failures = 0;
          this.#watch();
        }),
        event: current((event) => {
          view.event(event);
          if (isTerminal(event)) this.#finish("ended");
        }),
        gap: current((gap) => view.gap(gap)),
        closing: current((notice) => {
          this.#retryAfterMs = notice.retryAfterMs;
          view.closing(notice);
        }),
        waiting: current(() => view.state("retrying", "the browser connects again by itself")),
        lost: current((ms) => this.#connectLater(ms)),
        unsure: current(() => this.#ask(attempt)),
        refused: current((text) => this.#finish("refused", text)),
      },
    });
  }

  // cut drops the connection until connect is called.
  cut() {
    this.#finish("cut");
  }

  #finish(state, detail) {
    this.#disconnect();
    this.#options.view.state(state, detail);
  }

  #disconnect() {
    this.#attempt++;
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#drop?.();
    this.#drop = null;
  }

  #connectLater(ms = this.#retryAfterMs) {
    this.#disconnect();
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.#failures++);
    const delay = ms ?? backoff * (0.5 + Math.random() / 2);
    this.#options.view.state("retrying", `again in ${(delay / 1000).toFixed(1)} s`);
    this.#retry = setTimeout(() => this.connect(), delay);
  }

  // A network can die without a word to either side.
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.connect(), SILENCE_MS);
  }

  // ask finds out why the server ended a connection without saying so.
  async #ask(attempt) {
    const { taskId, subject, cursor } = this.#options;
    try {
      const { status, lastEventId } = await snapshot(subject, taskId);
      if (attempt !== this.#attempt) return;
      const over = status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";
      if (over && lastEventId === cursor()) this.#finish("ended");
      else this.#connectLater();
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof Refusal && !error.passing) this.#finish("refused", error.message);
      else this.#connectLater(error.retryAfterMs ?? undefined);
    }
  }
}
