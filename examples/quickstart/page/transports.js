// Three ways to follow a task. Each opens one connection after a cursor and
// tells what happens through `on`:
//
//   opened()        the server has taken the connection
//   alive()         something came, if only a heartbeat
//   event(event)    the next event
//   gap(gap)        events are gone; the log goes on behind them
//   closing(notice) the server is about to cut: {reason, retryAfterMs}
//   waiting()       the browser itself will connect again
//   lost(ms?)       gone; worth another try, after ms if the server said so
//   unsure()        gone; it may be the end, or a refusal: ask the server
//   refused(text)   gone, and another try would not help
//
// Each returns a function that drops the connection.

import { Refusal, eventSourceURL, poll, webSocketURL } from "./api.js";

const WAIT_MS = 25000;

const isTerminalStatus = (status) => status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";

function sse({ taskId, subject, after, on }) {
  // On its own reconnects the browser sends the Last-Event-ID header, which
  // wins over the lastEventId of this URL.
  const source = new EventSource(eventSourceURL(taskId, subject, after));
  source.onopen = () => on.opened();
  source.onmessage = ({ data }) => {
    on.alive();
    const event = JSON.parse(data);
    if (event.type !== "HEARTBEAT") on.event(event);
  };
  // Notices are named events, so onmessage does not see them.
  source.addEventListener("gap", ({ data }) => on.gap(JSON.parse(data).payload.gap));
  source.addEventListener("closing", ({ data }) => on.closing(JSON.parse(data).payload.closing));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      // Any status but 200 ends an EventSource and none is told: 204 after the
      // end, 401, 404, or a 502 of a proxy whose backend restarts.
      on.unsure();
    } else {
      on.waiting();
    }
  };
  return () => source.close();
}

function webSocket({ taskId, subject, after, on }) {
  const socket = new WebSocket(webSocketURL(subject));
  let confirmed = false;
  socket.onopen = () => {
    const frame = { action: "subscribe", taskId };
    if (after !== null) frame.lastEventId = after;
    socket.send(JSON.stringify(frame));
  };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    switch (frame.type) {
      case "SUBSCRIPTION_CONFIRMED":
        confirmed = true;
        on.opened();
        break;
      case "SUBSCRIPTION_REJECTED":
        on.refused(`${frame.code}: ${frame.message}`);
        return;
      case "SUBSCRIPTION_ENDED":
        on.unsure();
        return;
      case "HEARTBEAT":
        break;
      default:
        on.alive();
        on.event(frame);
        return;
    }
    if (confirmed) on.alive();
    if (frame.gap) on.gap(frame.gap);
    if (frame.closing) on.closing(frame.closing);
  };
  socket.onclose = ({ code, reason }) => {
    switch (code) {
      case 1000: // the end, or it lies behind the cursor
      case 1008: // refused: the snapshot knows why
        on.unsure();
        break;
      case 3000:
        on.refused("the credentials have expired");
        break;
      case 3003:
        on.refused("access was revoked");
        break;
      default:
        on.lost(undefined, reason);
    }
  };
  return () => socket.close(1000);
}

function polling({ taskId, subject, after, on }) {
  const abort = new AbortController();
  const run = async () => {
    let wait = 0;
    let ending = false;
    for (let first = true; ; first = false) {
      const page = await poll(subject, taskId, after, wait, abort.signal);
      if (abort.signal.aborted) return;
      if (first) on.opened();
      on.alive();
      if (page.gap) on.gap(page.gap);
      page.events.forEach((event) => on.event(event));
      if (abort.signal.aborted) return; // the terminal event was among them
      after = page.nextAfterEventId;
      // The status may be newer than the page. Only an empty page asked for
      // after the task was known to be over proves that nothing is left.
      if (ending && page.events.length === 0 && !page.hasMore) {
        on.unsure();
        return;
      }
      ending = isTerminalStatus(page.status);
      wait = ending ? 0 : WAIT_MS;
    }
  };
  run().catch((error) => {
    if (abort.signal.aborted) return;
    if (error instanceof Refusal && !error.passing) on.refused(error.message);
    else on.lost(error.retryAfterMs);
  });
  return () => abort.abort();
}

export const transports = { sse, websocket: webSocket, poll: polling };
