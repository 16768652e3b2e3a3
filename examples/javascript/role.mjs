// The role `contents`: writes contents.md, the headings of all Markdown files that it is given. docs/wire.md says why.
// Usage: node role.mjs [mqtt://HOST:PORT]; the login is taken from SWARM_BUS_USER and SWARM_BUS_PASSWORD.
import { createHash, randomBytes } from "node:crypto";
import mqtt from "mqtt";

const CHUNK = 128 * 1024, { SWARM_BUS_USER: username, SWARM_BUS_PASSWORD: password } = process.env;
const hex = () => randomBytes(16).toString("hex"), nonce = hex();
const agent = `${username ?? "anonymous"}/contents-${nonce}`; // user/instance
const mine = `swarm/v1/agent/${agent}`;
const work = new Map(), asked = new Map(); // lease -> what we hold, also when it is over; hash -> who waits for a file

const bus = mqtt.connect(process.argv[2] ?? "mqtt://127.0.0.1", {
  protocolVersion: 5, keepalive: 5, resubscribe: false, username, password,
  will: { topic: `${mine}/card`, payload: Buffer.alloc(0), qos: 1, retain: true },
});
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const event = (type, data, more) => ({
  specversion: "1.0", id: hex(), source: `/swarm/agent/${agent}`, type: `swarm.${type}.v1`, ...more, data,
});
const publish = (topic, message, retain = false) => bus.publish(topic, JSON.stringify(message), { qos: 1, retain });
const note = (topic, kind, data, retain) => publish(topic, event(`note.${kind}`, data), retain);
const sayAgain = () => work.forEach(({ said, replyTo }) => said && publish(replyTo, said));

async function call(held, kind, fields) { // about a part of a file; said again until the hub answers
  for (let tries = 0; tries < 10; tries++) {
    note(`swarm/v1/hub/${held.replyTo.split("/")[3]}/files/${agent}`, kind, { lease: held.lease, ...fields });
    const answer = await new Promise((resolve) => {
      asked.set(fields.sha256, (said) => (said.kind !== "chunk" || said.offset === fields.offset) && resolve(said));
      setTimeout(resolve, 3_000);
    });
    if (answer?.kind === "refused") throw new Error(`${fields.sha256}: ${answer.why}`);
    if (answer) return answer;
  }
  throw new Error(`no hub answers for ${fields.sha256}`);
}

async function get(held, { sha256: hash, bytes: size }, parcel = false) {
  const data = Buffer.alloc(size);
  for (let offset = 0; offset < size; offset += CHUNK)
    data.write((await call(held, "get", { sha256: hash, offset, parcel })).chunk, offset, "base64");
  if (sha256(data) !== hash) throw new Error(`${hash} came with other bytes`);
  return data;
}

async function put(held, data) {
  const file = { sha256: sha256(data), bytes: data.length };
  held.brought.push(data);
  for (let offset = 0, answer; answer?.kind !== "stored"; offset = answer.offset) {
    const chunk = data.subarray(offset, offset + CHUNK).toString("base64");
    answer = await call(held, "put", { ...file, offset, chunk });
  }
  return file;
}

async function handle(held, { start, base }) { // the role itself: returns the fields of ResultSubmitted
  const lines = [];
  for (const file of Object.values(start).filter(({ path }) => path.endsWith(".md") && path !== "contents.md"))
    for (const [, marks, title] of (await get(held, file)).toString().matchAll(/^(#+) +(.+)$/gm))
      lines.push(`${"  ".repeat(marks.length - 1)}- [${title}](${file.path})\n`);
  const was = base["contents.md"]?.sha256 ?? null, made = await put(held, Buffer.from(lines.join("")));
  return { text: `contents.md lists ${lines.length} headings.`, files: [{ path: "contents.md", base: was, ...made }] };
}

async function take({ id: lease, subject, correlationid, data: { attachments } }) {
  note(attachments.reply_to, "accepted", { lease });
  if (work.has(lease)) return;
  const held = { lease, replyTo: attachments.reply_to, brought: [] };
  work.set(lease, held);
  held.timer = setInterval(() => note(held.replyTo, "progress", { lease }), (attachments.lease_s * 1000) / 3);
  const [name, result] = await handle(held, attachments.briefing)
    .then((fields) => ["ResultSubmitted", fields], (error) => ["WorkFailed", { kind: "error", reason: `${error}` }]);
  const about = { subject, correlationid, causationid: lease, sequence: "1", time: new Date().toISOString() };
  const effects = attachments.briefing.journal.length; // recorded for this attempt by an agent before us
  if (!held.over) publish(held.replyTo, (held.said = event(name, { ...result, effects }, about)));
}

bus.on("connect", async () => {
  const filters = [`${mine}/request/+`, `${mine}/control`, `${mine}/files`, "swarm/v1/hub/+/card"];
  await bus.subscribeAsync(filters, { qos: 1 });
  const role = { name: "contents", about: "Writes contents.md, the headings of Markdown files." };
  note(`${mine}/card`, "card", { roles: [role], slots: 4, nonce }, true);
});

async function hear(topic, payload) {
  const message = JSON.parse(payload), { type, data } = message, kind = type.split(".")[2], held = work.get(data.lease);
  if (topic === `${mine}/files`) asked.get(data.sha256)?.({ kind, ...data });
  else if (topic.startsWith(`${mine}/request/`)) // a large one comes as a claim, by which it is fetched
    take(kind === "claim" ? JSON.parse(await get({ lease: "", replyTo: `///${data.hub}` }, data, true)) : message);
  else if (kind === "dropped") console.error(`passed over: ${data.why}`);
  else if (topic.endsWith("/card")) sayAgain(); // a hub has come that may lack what was said
  else if (kind === "moved" && held) {
    held.replyTo = data.reply_to;
    for (const data of held.brought.splice(0)) await put(held, data); // the files that it names come first
    sayAgain();
  } else if (held && (kind === "cancel" || (kind === "recorded" && data.over)))
    clearInterval(held.timer), Object.assign(held, { over: true, said: null });
}
bus.on("message", (topic, payload) => payload.length && hear(topic, payload).catch(console.error));
setInterval(sayAgain, 15_000);
