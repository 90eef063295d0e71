// Runs the cases that it reads, one after the other, with the official SDK; prints by name what
// each got: {"baseURL","key","cases":[{"name","ask","body","client","request"}]} on standard input.
const OpenAI = require('openai');

const asks = {
  async chat(client, body, request) {
    const { data, request_id } = await client.chat.completions
      .create({ messages: [], ...body }, request)
      .withResponse();
    return { text: data.choices[0].message.content, finish: data.choices[0].finish_reason, requestID: request_id };
  },
  async stream(client, body, request, got) {
    const stream = await client.chat.completions.create(
      { messages: [], stream: true, ...body },
      request,
    );
    Object.assign(got, { text: '', chunks: 0, finish: null, usage: null });
    for await (const chunk of stream) {
      got.chunks += 1;
      got.text += chunk.choices[0]?.delta?.content ?? '';
      got.finish = chunk.choices[0]?.finish_reason ?? got.finish;
      got.usage = chunk.usage ?? got.usage;
    }
    return { length: got.text.length, text: got.text.slice(0, 1000) };
  },
  async parallel(client, body, request) {
    const names = Array.from({ length: 20 }, (_, n) => `s${n}`);
    const ends = names.map((name) =>
      asks.stream(client, { ...body, messages: [{ role: 'user', content: name }] }, request, {}),
    );
    return { texts: (await Promise.all(ends)).map((one) => one.text) };
  },
  async leave(client, body, request) {
    const stream = await client.chat.completions.create(
      { messages: [], stream: true, ...body },
      request,
    );
    let left = 0;
    for await (const _ of stream) {
      left = Date.now() / 1000;
      break;
    }
    return { left };
  },
  async completion(client, body, request) {
    return { text: (await client.completions.create({ prompt: 'x', ...body }, request)).choices[0].text };
  },
  async embedding(client, body, request) {
    const found = await client.embeddings.create({ input: 'x', ...body }, request);
    return { embedding: Array.from(found.data[0].embedding) };
  },
  async models(client, _, request) {
    const ids = [];
    for await (const model of client.models.list(request)) ids.push(model.id);
    return { ids };
  },
  async model(client, body, request) {
    return { model: await client.models.retrieve(body.model, request) };
  },
  async get(client, body, request) {
    return { found: await client.get(body.path, request) };
  },
  async remove(client, body, request) {
    return { found: await client.models.delete(body.model, request) };
  },
};

const told = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  type: error.type ?? null,
  param: error.param ?? null,
  requestID: error.requestID ?? null,
  message: error.message,
});

async function run(baseURL, key, { ask, body = {}, client = {}, request = {} }) {
  const got = { requests: 0 };
  const counted = async (url, init) => {
    got.requests += 1;
    got.sent = init.body && init.body.length < 10000 ? String(init.body) : null;
    const response = await fetch(url, init);
    got.headers = Object.fromEntries(response.headers);
    return response;
  };
  const openai = new OpenAI({ baseURL, apiKey: key, maxRetries: 0, fetch: counted, ...client });
  try {
    return Object.assign(got, await asks[ask](openai, body, request, got));
  } catch (error) {
    if (!(error instanceof OpenAI.OpenAIError)) throw error;
    return { ...got, error: told(error) };
  }
}

async function main() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  const { baseURL, key, cases } = JSON.parse(Buffer.concat(parts));
  const found = {};
  for (const { pad, ...one } of cases) {
    if (pad) one.body.messages = [{ role: 'user', content: 'x'.repeat(pad) }];
    found[one.name] = await run(baseURL, key, one);
  }
  console.log(JSON.stringify(found));
}

main();
