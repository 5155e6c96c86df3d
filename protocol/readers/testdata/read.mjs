// Follows a stream with @microsoft/fetch-event-source and prints the data of each
// message, as JSON.
import { fetchEventSource } from "@microsoft/fetch-event-source";

globalThis.window = globalThis; // it is written for browsers
globalThis.document = { addEventListener() {}, removeEventListener() {}, hidden: false };

const over = new Set(["TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED"]);
const abort = new AbortController();
await fetchEventSource(process.argv[2], {
  headers: { authorization: "Bearer reader" },
  openWhenHidden: true,
  signal: abort.signal,
  onmessage({ data }) {
    console.log(JSON.stringify(data));
    if (data && over.has(JSON.parse(data).type)) abort.abort();
  },
  onerror(error) { throw error; },
});
