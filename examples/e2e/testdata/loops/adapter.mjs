// Drives one of the loops of docs/clients.md. say gets a line for everything
// that happens: "event ID TYPE", "gap", "fresh", "over TASK_ID WHY".
export async function run(name, loop, { base, tasks, tokens, silence }, say) {
  let current = 0;
  const token = (fresh) => {
    if (fresh) {
      current = Math.min(current + 1, tokens.length - 1);
      say("fresh");
    }
    return tokens[current];
  };
  const onEvent = (event) => say(`event ${event.eventId} ${event.type}`);
  if (name === "websocket") {
    const socketURL = async (fresh) =>
      `${base.replace(/^http/, "ws")}/ws?${new URLSearchParams({ access_token: token(fresh) })}`;
    return loop.connect({
      cursors: new Map(tasks), socketURL, silence, onEvent,
      onGap: () => say("gap"),
      onEnd: (taskId, why) => say(`over ${taskId} ${why ?? ""}`),
    });
  }
  const [taskId, lastEventId] = tasks[0];
  const options = { base, taskId, lastEventId, silence, onEvent, onGap: () => say("gap") };
  if (name === "eventsource") {
    const query = async (fresh) => ({ access_token: token(fresh) });
    return loop.follow({ ...options, query, onEnd: (status) => say(`over ${taskId} ${status ?? ""}`) });
  }
  try {
    await loop.follow({ ...options, token: async (fresh) => token(fresh) });
    say(`over ${taskId} `);
  } catch (error) {
    say(`over ${taskId} ${error.message}`);
  }
}
