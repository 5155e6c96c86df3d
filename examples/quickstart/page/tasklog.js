// What this page has seen of one task: every event once, in order, and whether
// anything is missing. To a client an event id is an opaque cursor; this page
// also reads the ordinal after its dash, to prove that there is no hole.

const TERMINAL = new Set(["TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"]);

export const isTerminal = (event) => TERMINAL.has(event.type);

const ordinalOf = (eventId) => {
  const text = /^\d+-(\d+)$/.exec(eventId)?.[1];
  return text === undefined ? NaN : Number(text);
};

export class TaskLog {
  #seen = new Set();
  #expected = 1; // the next event's ordinal; null: whatever comes

  lastEventId = null; // the cursor to come back with
  over = false; // the terminal event is here
  events = 0;
  repeats = 0;
  gaps = 0;
  warnings = []; // what the server should never have done

  // add takes an event in and reports whether it is new.
  add(event) {
    if (this.#seen.has(event.eventId)) {
      this.repeats++;
      return false;
    }
    const ordinal = ordinalOf(event.eventId);
    let forward = true;
    if (this.over) {
      this.warnings.push(`${event.type} ${event.eventId} came after the task's end`);
    } else if (Number.isNaN(ordinal)) {
      this.warnings.push(`the id ${event.eventId} has no ordinal`);
    } else if (this.#expected !== null && ordinal > this.#expected) {
      this.warnings.push(`a hole: event ${this.#expected} was due, ${event.eventId} came`);
    } else if (this.#expected !== null && ordinal < this.#expected) {
      this.warnings.push(`out of order: event ${this.#expected} was due, ${event.eventId} came`);
      forward = false;
    }
    this.#seen.add(event.eventId);
    this.events++;
    if (forward) {
      this.lastEventId = event.eventId;
      this.#expected = Number.isNaN(ordinal) ? null : ordinal + 1;
    }
    this.over ||= isTerminal(event);
    return true;
  }

  // gap takes note of events that the server says are gone.
  gap(gap) {
    this.gaps++;
    this.#expected = gap.firstEventId ? ordinalOf(gap.firstEventId) : null;
  }
}
