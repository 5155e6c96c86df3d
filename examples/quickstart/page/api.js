// The routes of this host, as a browser calls them.

const TASKS = "/api/v1/tasks";

// EventSource and WebSocket cannot set headers, and fetch takes no name beyond
// Latin-1 in one, so the subject always goes in the URL. With real credentials
// a host would use a cookie or a short-lived ticket: URLs end up in logs.
const query = (subject, parameters = {}) => {
  const q = new URLSearchParams({ access_token: subject });
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null) q.set(name, value);
  }
  return q;
};

export const eventSourceURL = (taskId, subject, lastEventId) =>
  `${TASKS}/${taskId}/events/stream?${query(subject, { lastEventId })}`;

export const webSocketURL = (subject) => {
  const url = new URL(`${TASKS}/ws?${query(subject)}`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
};

// A refusal is an answer of the server that is not a success. passing says
// that it is worth trying again, after retryAfterMs if the server named a time.
export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    const fields = (body?.details?.errors ?? []).map((e) => `${e.field}: ${e.message}`);
    super([body?.message ?? `HTTP ${status}`, ...fields].join("; "));
    this.status = status;
    this.code = body?.code ?? null;
    this.passing = status === 429 || status >= 500;
    const seconds = Number(retryAfter ?? NaN);
    this.retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : null;
  }
}

// reason says why a call failed, in words for a person.
export const reason = (error) => (error instanceof Refusal ? error.message : "no connection to the server");

// The clocks of browser and server may differ by more than a question waits.
let skewMs = 0;

// serverNow is the server's time, as far as its Date header tells: to a second.
export const serverNow = () => Date.now() + skewMs;

function setClock(response) {
  const skew = Date.parse(response.headers.get("Date")) - Date.now();
  // The header has whole seconds; less than that is no difference.
  if (Number.isFinite(skew)) skewMs = Math.abs(skew) < 1500 ? 0 : skew;
}

async function call(subject, method, path, { body, parameters, signal } = {}) {
  const response = await fetch(`${TASKS}${path}?${query(subject, parameters)}`, {
    method,
    // A form brings its own Content-Type, with the boundary.
    headers: body && !(body instanceof FormData) ? { "Content-Type": "application/json" } : undefined,
    body: body && !(body instanceof FormData) ? JSON.stringify(body) : body,
    signal,
    cache: "no-store",
  });
  setClock(response);
  const text = await response.text();
  let parsed = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    // A proxy's own error page is not JSON; its status says enough.
  }
  if (!response.ok) throw new Refusal(response.status, parsed, response.headers.get("Retry-After"));
  return parsed;
}

const id = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

// form is a create request with files.
function form({ clientRequestId, taskType, input }, files) {
  const parts = new FormData();
  parts.set("clientRequestId", clientRequestId);
  parts.set("taskType", taskType);
  parts.set("input", JSON.stringify(input));
  for (const file of files) parts.append("attachments", file);
  return parts;
}

// create may be repeated without harm, thanks to its clientRequestId. trying is
// called with what went wrong whenever it is about to be.
export async function create(subject, taskType, input, files, trying) {
  const request = { clientRequestId: id(), taskType, input };
  const body = files.length > 0 ? form(request, files) : request;
  for (let tries = 1; ; tries++) {
    try {
      return await call(subject, "POST", "", { body });
    } catch (error) {
      const passing = !(error instanceof Refusal) || error.passing;
      if (!passing || tries === 3) throw error;
      trying(error);
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 500 * tries));
    }
  }
}

export const snapshot = (subject, taskId) => call(subject, "GET", `/${taskId}`);

export const cancel = (subject, taskId) => call(subject, "POST", `/${taskId}/cancel`, { body: { reason: "cancelled on the demo page" } });

// answer may be repeated without harm, thanks to its clientActionId.
export const answer = (subject, taskId, action) => call(subject, "POST", `/${taskId}/actions`, { body: action });

export const poll = (subject, taskId, afterEventId, waitTimeoutMs, signal) =>
  call(subject, "GET", `/${taskId}/events`, { parameters: { afterEventId, waitTimeoutMs, maxEvents: 500 }, signal });
