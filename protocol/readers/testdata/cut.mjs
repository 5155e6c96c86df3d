// Follows a stream that is cut, and says what it looks like. It asks the test for
// the cut when the first bytes are there.
const [base, path] = process.argv.slice(2);
const stream = await fetch(base + path, { headers: { authorization: "Bearer reader", accept: "text/event-stream" } });
const reader = stream.body.getReader();
await reader.read();
await fetch(`${base}/cut`, { method: "POST" });
try {
  while (!(await reader.read()).done);
  console.log("complete");
} catch {
  console.log("failure");
}
