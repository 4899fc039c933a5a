// A batch and the direct endpoints by the official client for node: `node openai_node.mjs LINES`; address and key come
// from OPENAI_BASE_URL and OPENAI_API_KEY. It is copied beside the node_modules that hold the client.

import assert from 'node:assert';
import fs from 'node:fs';
import OpenAI, { NotFoundError } from 'openai';

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const path = process.argv[2];
const wanted = fs.readFileSync(path, 'utf-8').trim().split('\n').map((line) => JSON.parse(line).custom_id).sort();

const stored = await client.files.create({
  file: fs.createReadStream(path), purpose: 'batch', expires_after: { anchor: 'created_at', seconds: 3600 },
});
assert.equal(stored.expires_at, stored.created_at + 3600);
const shape = { input_file_id: stored.id, endpoint: '/v1/chat/completions', completion_window: '24h' };
let batch = await client.batches.create({ ...shape, metadata: { from: 'node' } });
const until = Date.now() + 60_000;
while (!['completed', 'failed', 'expired'].includes(batch.status) && Date.now() < until) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  batch = await client.batches.retrieve(batch.id);
}
assert.equal(batch.status, 'completed');
assert.deepEqual(batch.metadata, { from: 'node' });
assert.equal(batch.request_counts.completed, wanted.length);
const told = await (await client.files.content(batch.output_file_id)).text();
assert.deepEqual(told.trim().split('\n').map((line) => JSON.parse(line).custom_id).sort(), wanted);

const second = await client.batches.create(shape);
assert.ok(['cancelling', 'cancelled'].includes((await client.batches.cancel(second.id)).status));
const listed = [];
for await (const each of client.batches.list({ limit: 1 })) listed.push(each.id);
assert.deepEqual(listed, [second.id, batch.id]);

const asked = { model: 'gpt-6-luna', messages: [{ role: 'user', content: 'Artist: Vermeer' }] };
const answered = await client.chat.completions.create({ ...asked, store: true, metadata: { from: 'node' } });
assert.ok(answered.choices[0].message.content);
assert.equal((await client.chat.completions.list({ metadata: { from: 'node' } })).data[0].id, answered.id);
assert.ok((await client.responses.create({ model: 'gpt-6-luna', input: 'Artist: Vermeer' })).output_text);
assert.ok((await client.models.list()).data.length > 0);
await assert.rejects(client.batches.retrieve('batch_x'), NotFoundError);
assert.ok((await client.files.delete(stored.id)).deleted);
console.log('ok');
