// usage: node node.mjs NAME CONFIG
import { EventSource } from "eventsource";
import WebSocket from "ws";
import { run } from "./adapter.mjs";

globalThis.EventSource ??= EventSource;
const [, , name, config] = process.argv;
const { origin } = new URL(JSON.parse(config).base);
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url, { origin });
  }
};
const { tasks } = JSON.parse(config);
let over = 0;
await run(name, await import(`./${name}.mjs`), JSON.parse(config), (line) => {
  console.log(line);
  if (line.startsWith("over ")) over++;
  // ws waits for half a minute for a dead peer to answer its close.
  if (name === "websocket" && over === tasks.length) setTimeout(() => process.exit(0), 100);
});
