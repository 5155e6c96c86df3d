// Reads a stream to its end and posts on the same pool, again and again.
const [base, path, rounds] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const headers = { authorization: "Bearer reader" };
let failed = 0, last = "";
for (let i = 0; i < rounds; i++) {
  try {
    const stream = await fetch(base + path, { headers });
    for await (const chunk of stream.body) void chunk;
    const answer = await fetch(`${base}/post`, { method: "POST", headers, body: "x" });
    await answer.text();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
  } catch (error) {
    failed++;
    last = String(error.cause?.code ?? error);
  }
}
console.log(`${rounds} rounds, ${failed} failed ${last}`.trim());
