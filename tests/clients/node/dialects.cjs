// Asks for a response and for a message, streamed, and once so that the stream breaks; prints what
// came as one JSON line. Base URL, key and model come from the environment; `FAKE` is the plan of
// the break, which only the fake engine understands.
const Anthropic = require('@anthropic-ai/sdk');
const OpenAI = require('openai');

const { BASE_URL, KEY, MODEL, FAKE } = process.env;
const options = { apiKey: KEY, maxRetries: 0 };
const openai = new OpenAI({ ...options, baseURL: BASE_URL });
const anthropic = new Anthropic({ ...options, baseURL: BASE_URL.replace(/\/v1$/, '') });
const said = 'Say this is a test!';

const asks = {
  responses: (more) =>
    openai.responses.create({ model: MODEL, input: said, max_output_tokens: 64, stream: true, ...more }),
  messages: (more) =>
    anthropic.messages.create({
      model: MODEL,
      max_tokens: 64,
      messages: [{ role: 'user', content: said }],
      stream: true,
      ...more,
    }),
};

async function told(stream) {
  const got = { text: '', last: '', usage: null, error: null };
  try {
    for await (const event of await stream) {
      got.last = event.type;
      got.text += typeof event.delta === 'string' ? event.delta : (event.delta?.text ?? '');
      got.usage = event.response?.usage ?? event.usage ?? got.usage;
    }
  } catch (error) {
    got.error = { status: error.status ?? null, message: error.message };
  }
  return got;
}

async function main() {
  const found = {};
  for (const [name, ask] of Object.entries(asks)) {
    found[name] = await told(ask({}));
    found[`${name} refused`] = await told(ask({ model: `${MODEL}-none` }));
    if (FAKE) found[`${name} broken`] = await told(ask({ fake: JSON.parse(FAKE) }));
  }
  console.log(JSON.stringify(found));
}

main();
