// Creates a task, polls until it asks, answers, and polls until it is over.
// schema.ts is generated when the test runs.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2], headers: { Authorization: "Bearer ada" } });

const created = await client.POST("/api/v1/tasks", {
  body: { clientRequestId: "ts-1", taskType: "approval", input: { question: "Ship it?" }, metadata: { from: "ts" } },
});
if (!created.data) throw new Error(JSON.stringify(created.error));
const { taskId } = created.data;

let afterEventId: string | undefined;
let over = false;
while (!over) {
  const page = await client.GET("/api/v1/tasks/{taskId}/events", {
    params: { path: { taskId }, query: { afterEventId, waitTimeoutMs: 10_000 } },
  });
  if (!page.data) throw new Error(JSON.stringify(page.error));
  for (const event of page.data.events) {
    if (event.type === "TASK_SUSPENDED") {
      const asked = event.payload as components["schemas"]["PayloadSuspended"];
      const answer = await client.POST("/api/v1/tasks/{taskId}/actions", {
        params: { path: { taskId } },
        body: {
          clientActionId: "ts-a1",
          suspendId: asked.suspendId,
          actionType: "approve",
          payload: { ticket: 616581622363398 },
          metadata: { from: "ts" },
        },
      });
      if (answer.data?.status !== "ACCEPTED") throw new Error(JSON.stringify(answer.error ?? answer.data));
    }
    if (event.type === "TASK_COMPLETED") {
      const { result } = event.payload as { result: { decision: string; payload: { ticket: number } } };
      console.log("COMPLETED", result.decision, result.payload.ticket);
      over = true;
    }
    if (event.type === "TASK_FAILED" || event.type === "TASK_CANCELLED") throw new Error(event.type);
  }
  afterEventId = page.data.nextAfterEventId ?? undefined;
}
